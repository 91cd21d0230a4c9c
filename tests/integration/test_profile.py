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
from triscale.app.profiling import measure
from triscale.clock import SystemClock
from triscale.core.profile import Profile
from triscale.core.spec import load_pipeline
from triscale.errors import ModelError
from triscale.profiler.measure import Effort, Progress, profile_pipeline, quick
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
            assert {point.threads for point in variant.latency} == {1}, "numpy's threads cannot be changed"
            assert variant.memory_bytes > 2**20
            assert 0.0 < variant.load_s < variant.start_s
            assert variant.weights
    assert [progress.elapsed_s for progress in seen] == sorted(progress.elapsed_s for progress in seen)
    assert seen[-1].left_s == 0.0


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


MODELS = """
import time, triscale

class Split(triscale.Model):
    def predict(self, batch):
        return [triscale.Result(items={"read": [{"c": c} for c in item["text"]]}) for item in batch]

class Cut(triscale.Model):
    def predict(self, batch):
        return [triscale.Result(items={"read": [{"c": c} for c in item["text"][:2]]}) for item in batch]

class Read(triscale.Model):
    def load(self, options, resources):
        self.wrong = options.get("wrong", "")
        self.refused = options.get("refused", "")

    def predict(self, batch):
        return [self.read(item["c"]) for item in batch]

    def read(self, c):
        if c in self.refused:
            return triscale.Rejected("not this one")
        return triscale.Result(items={"page": [{"c": "?" if c in self.wrong else c}]})

class Page(triscale.Model):
    def predict(self, batch):
        return [triscale.Result(outputs={"text": "".join(p["c"] for p in item.parts)}) for item in batch]

class Divides(triscale.Model):
    threads = 1
    def set_threads(self, threads):
        self.threads = threads
    def predict(self, batch):
        time.sleep(0.02 * len(batch) / self.threads)
        return [triscale.Result(outputs={"y": 1}) for _ in batch]

class Ignores(Divides):
    set_threads = triscale.Model.set_threads

class Refuses(Divides):
    def set_threads(self, threads):
        if threads > 1:
            raise RuntimeError("not me")

def words(count, seed):
    for text in ("abba", "cab", "", "a")[:count]:
        yield triscale.Sample({"text": text}, truth=text)

def endings(count, seed):
    for text in ("abz", "ab", "unlabelled")[:count]:
        yield triscale.Sample({"text": text}, truth=None if text == "unlabelled" else text)

def score(truth, outputs):
    read = outputs["text"].ravel()[0].decode()
    return sum(a == b for a, b in zip(truth, read)) / len(truth) if truth else float(not read)

def percent(truth, outputs):
    return 100 * score(truth, outputs)

def numbers(count, seed):
    yield triscale.Sample({"x": 1})
"""
READER = """
name: reader
slo_ms: 1000
outputs: {text: {datatype: BYTES, shape: [1]}}
stages:
  split:
    variants:
      - {name: all, model: "profiled:Split", accuracy: %s}
      - {name: two, model: "profiled:Cut", accuracy: 0.7}
  read:
    after: split
    variants:
      - {name: good, model: "profiled:Read", accuracy: 0.95}
      - {name: bad, model: "profiled:Read", accuracy: 0.6, options: %s}
  page:
    after: read
    join: all
    variants: [{name: only, model: "profiled:Page"}]
samples: {source: "profiled:%s", score: "profiled:%s"}
"""


def written(folder: Path, text: str) -> Path:
    (folder / "profiled.py").write_text(MODELS)
    file = folder / "pipeline.yaml"
    file.write_text(text)
    return file


def profiled(file: Path, effort: Effort, *, most_labelled: int = 0) -> Profile:
    sys.modules.pop("profiled", None)
    pipeline = load_pipeline(file)
    return asyncio.run(
        measure(
            pipeline,
            import_roots(file),
            SystemClock(),
            effort=effort,
            # Accuracies are left out where there is no time for them, as on a machine that does much else.
            budget_s=10.0 if most_labelled else 0.5,
            cores=2,
            most_labelled=most_labelled,
            on_progress=lambda _: None,
        )
    )


def scores_of(measured: Profile) -> dict[tuple[str, str], float]:
    return {(path.variants["split"], path.variants["read"]): path.accuracy for path in measured.paths}


def test_every_path_is_scored_and_the_variants_follow_from_the_paths(tmp_path: Path) -> None:
    file = written(tmp_path, READER % (0.9, "{wrong: b}", "words", "score"))
    measured = profiled(file, quick(2), most_labelled=100)
    scores = scores_of(measured)
    # Of `abba`, `cab`, nothing and `a`.
    assert scores["all", "good"] == 1.0
    assert scores["all", "bad"] == pytest.approx((2 / 4 + 2 / 3 + 1 + 1) / 4, abs=1e-5)
    assert scores["two", "good"] == pytest.approx((2 / 4 + 2 / 3 + 1 + 1) / 4, abs=1e-5)
    assert scores["two", "bad"] == pytest.approx((1 / 4 + 2 / 3 + 1 + 1) / 4, abs=1e-5)
    assert scores["two", "bad"] > scores["two", "good"] * scores["all", "bad"], "their mistakes overlap"
    assert [path.accuracy for path in measured.paths] == sorted(scores.values(), reverse=True)
    assert {path.requests for path in measured.paths} == {4}
    split, read = measured.stages["split"], measured.stages["read"]
    assert split["all"].accuracy == read["good"].accuracy == 1.0
    assert read["bad"].accuracy == scores["all", "bad"]
    assert split["all"].fan_out == {"read": 2.0}
    assert split["two"].fan_out == {"read": 1.25}


def test_a_sample_that_a_variant_rejects_scores_nothing_and_one_without_truth_does_not_count(tmp_path: Path) -> None:
    # The reader refuses the `z` that only the less accurate splitter finds.
    file = written(tmp_path, READER % (0.6, "{refused: z}", "endings", "score"))
    measured = profiled(file, quick(2), most_labelled=100)
    scores = scores_of(measured)
    assert scores["two", "bad"] == scores["two", "good"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-5)
    assert scores["all", "good"] == 1.0
    assert scores["all", "bad"] == 0.5
    assert {path.requests for path in measured.paths} == {2}


def test_without_labelled_samples_the_files_accuracies_hold(tmp_path: Path) -> None:
    measured = profiled(written(tmp_path, READER % (0.9, "{}", "words", "score")), quick(2), most_labelled=0)
    assert measured.paths == ()
    assert {v.accuracy for variants in measured.stages.values() for v in variants.values()} == {None}


def test_a_score_that_is_none_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, READER % (0.9, "{}", "words", "percent"))
    with pytest.raises(ConfigError, match=r"profiled:percent returned 100.0; return a score in \[0, 1\]"):
        profiled(file, quick(2), most_labelled=100)


@pytest.mark.parametrize(("kind", "threads"), [("Divides", {1, 2}), ("Ignores", {1}), ("Refuses", {1})])
def test_threads_are_measured_where_the_model_can_change_them(tmp_path: Path, kind: str, threads: set[int]) -> None:
    file = written(
        tmp_path,
        f"name: p\nslo_ms: 1000\nstages: {{a: {{variants: [{{name: v, model: 'profiled:{kind}', max_batch: 2}}]}}}}\n"
        "samples: {source: 'profiled:numbers'}\n",
    )
    latency = profiled(file, Effort()).stages["a"]["v"].latency
    assert {point.threads for point in latency} == threads
    assert {(point.threads, point.lanes) for point in latency} == {(1, 1), (1, 2), *((t, 1) for t in threads)}


def test_the_command_writes_a_profile_that_serve_finds(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    out = tmp_path / "profile.json"
    command = [sys.executable, "-m", "triscale", "profile", str(DIGITS), "--budget", "0.5", "--json", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=True)
    assert json.loads(run.stdout) == json.loads(out.read_text())
    assert [path.name.split("-")[0] for path in (tmp_path / "cache" / "triscale" / "profiles").iterdir()] == ["digits"]
