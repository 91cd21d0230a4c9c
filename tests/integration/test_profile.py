"""Profiling runs every variant for real, and what is wrong with a model or its samples is named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import REPOSITORY
from triscale import ConfigError, Sample
from triscale.clock import SystemClock
from triscale.core.spec import load_pipeline
from triscale.errors import ModelError
from triscale.profiler.measure import Progress, profile_pipeline
from triscale.profiler.samples import sample_requests
from triscale.replica.config import import_roots

pytestmark = pytest.mark.processes

DIGITS = REPOSITORY / "examples" / "digits" / "pipeline.yaml"


def test_digits_are_measured_from_the_root_to_the_leaves() -> None:
    pipeline = load_pipeline(DIGITS)
    roots = import_roots(DIGITS)
    samples = sample_requests(pipeline, roots, 8, 1)
    seen: list[Progress] = []
    measured = asyncio.run(
        profile_pipeline(pipeline, roots, samples, SystemClock(), budget_s=1.0, cores=2, on_progress=seen.append)
    )
    assert {stage: set(found) for stage, found in measured.stages.items()} == {
        "segment": {"columns"},
        "classify": {variant.name for variant in pipeline.stages["classify"].variants},
    }
    digits = sum(len(sample.truth) for sample in samples if isinstance(sample.truth, list | str))
    segment = measured.stages["segment"]["columns"]
    assert segment.fan_out["classify"] == pytest.approx(digits / 8), "the fan-out is that of the samples"
    for variants in measured.stages.values():
        for variant in variants.values():
            assert {(point.batch, point.lanes) for point in variant.latency} >= {(1, 1), (2, 1), (4, 1), (1, 2), (4, 2)}
            assert all(0 < point.p50_s <= point.p95_s <= point.p99_s for point in variant.latency)
            assert variant.memory_bytes > 0
            assert variant.weights
    assert [progress.done for progress in seen] == list(range(1, seen[-1].total + 1))


def test_a_model_that_fails_on_its_own_samples_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(
        "import triscale\nclass Bad(triscale.Model):\n    def predict(self, batch):\n        raise ValueError('no')\n"
    )
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, model: 'models:Bad'}]}}\n")
    pipeline = load_pipeline(file)
    with pytest.raises(ModelError, match=r"a/v failed on the pipeline's own samples: .*ValueError: no"):
        asyncio.run(profile_pipeline(pipeline, import_roots(file), [Sample({"x": 1})], SystemClock(), budget_s=0.1))


def test_a_pipeline_without_samples_says_what_to_add(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, model: 'models:M'}]}}\n")
    with pytest.raises(ConfigError, match=r"add `samples: {source: package.module:function}`"):
        sample_requests(load_pipeline(file), [], 1, 1)


def test_the_command_writes_a_profile_that_serve_finds(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    out = tmp_path / "profile.json"
    command = [sys.executable, "-m", "triscale", "profile", str(DIGITS), "--budget", "0.5", "--json", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=True)
    assert json.loads(run.stdout) == json.loads(out.read_text())
    assert [path.name.split("-")[0] for path in (tmp_path / "cache" / "triscale" / "profiles").iterdir()] == ["digits"]
