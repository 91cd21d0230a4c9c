"""The profiles beside the examples of Themis's pipelines are the published formula for every number of cores."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale.core.spec import load_pipeline
from triscale.profiler.store import missing_variants, read_profile, stale_reasons

FOLDER = Path(__file__).parents[3] / "examples"

PUBLISHED = {
    "video_monitoring": {
        "detect": (148.8171, 37.4937, 5.43291, -15.47594),
        "classify": (34.69334, 2.05812, 19.47879, 14.25944),
    },
    "audio_sentiment": {
        "transcribe": (59.1354, 38.2057, 160.62815, 62.94941),
        "sentiment": (52.09086, 5.92726, 9.67302, 2.96089),
    },
    "nlp": {
        "identify": (21.36871, 1.55696, 53.78519, 27.77546),
        "translate": (304.59607, 74.08666, -13.46894, 11.63063),
        "summarise": (263.93595, 83.63772, -1.00679, 23.57387),
    },
}
"""alpha, beta, gamma, zeta of l(b, c) = alpha*b/c + beta*b + gamma/c + zeta in milliseconds, 99th percentiles
(github.com/mehransi/Themis at b01017f)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_point_is_the_formulas(name: str) -> None:
    profile = read_profile(FOLDER / name / "profile.json")
    assert profile.stages.keys() == PUBLISHED[name].keys()
    for stage, (alpha, beta, gamma, zeta) in PUBLISHED[name].items():
        (measured,) = profile.stages[stage].values()
        assert {point.threads for point in measured.latency} == set(range(1, 9))
        for point in measured.latency:
            ms = alpha * point.batch / point.threads + beta * point.batch + gamma / point.threads + zeta
            assert 1e3 * point.p99_s == pytest.approx(ms, abs=1e-3)
            assert point.p50_s == point.p95_s == point.p99_s


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_fits_its_pipeline_file(name: str) -> None:
    pipeline = load_pipeline(FOLDER / name)
    profile = read_profile(FOLDER / name / "profile.json")
    assert profile.pipeline == pipeline.name
    assert missing_variants(pipeline, profile) == []
    assert stale_reasons(pipeline, profile, []) == []
    for stage, spec in pipeline.stages.items():
        for variant in spec.variants:
            alone = {p.batch: 1e3 * p.p99_s for p in profile.stages[stage][variant.name].latency if p.threads == 1}
            assert alone == pytest.approx(variant.latency_ms, abs=0.02)
