from __future__ import annotations

from typing import Any

import msgspec
import pytest

from triscale.cli.demo_document import demo_document, without_images
from triscale.cli.serve import Ready
from triscale.cli.server_metrics import ServerCounts, StageCounts
from triscale.core.pipeline import Pipeline, Stage, TensorSpec, Variant
from triscale.core.request import Outcome
from triscale.observe.report import render
from triscale.traces.results import Latency, PhaseResult, ReplayResult, SampleAnswer

URL = "http://127.0.0.1:8000/v2/models/ocr"
JSON_PLEASE = "-H 'Accept: application/json'"
READY = Ready(
    pipeline="ocr",
    url="http://127.0.0.1:1",
    metrics_url="http://127.0.0.1:2/metrics",
    slo_ms=100.0,
    cores=2,
    capacity_per_s=20.0,
    accuracy=0.9,
    variants={"detect": "small"},
    batch={"detect": 4},
    reason="because",
    startup_s=0.5,
)


def pipeline(**inputs: TensorSpec) -> Pipeline:
    variants = (Variant(name="small", runtime="emulated", latency_ms={1: 5.0}),)
    return Pipeline(name="ocr", slo_ms=100.0, stages={"detect": Stage(variants=variants)}, inputs=inputs)


def result() -> ReplayResult:
    counts: dict[str, Any] = {"sent": 6, "answered": 3, "late": 1, "dropped": 0, "shed": 2, "failed": 0, "cancelled": 0}
    phase = PhaseResult(
        name="a", seconds=2.0, rate_per_s=3.0, attainment=0.5, goodput_per_s=1.5, latency_ms=Latency(p50=1.0), **counts
    )
    samples = (SampleAnswer(truth="a", read="a", image="abc"),)
    return ReplayResult(pipeline="ocr", slo_ms=100.0, phases=(phase,), samples=samples, problems=("p",))


def counted(at: float, answered: int, late: int, shed: int, live: int = 0, **stage: Any) -> ServerCounts:
    outcomes = {outcome.label: 0 for outcome in Outcome} | {"answered": answered, "late": late, "shed": shed}
    return ServerCounts(at=at, outcomes=outcomes, live=live, stages={"detect": StageCounts(**stage)})


BEFORE = counted(10.0, answered=100, late=0, shed=0, items={"small": 100, "tiny": 0})
AFTER = counted(
    14.0,
    answered=103,
    late=1,
    shed=2,
    items={"small": 109, "tiny": 1, "never": 0},
    batches=5,
    busy_core_s=2.0,
    queue_s=0.5,
    service_s=1.0,
)


def test_the_same_counts_agree_whatever_was_counted_before() -> None:
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE, AFTER], started=10.0)
    assert document["counts_agree"] is True
    assert document["server_counts"] == {"answered": 3, "late": 1, "dropped": 0, "shed": 2, "failed": 0, "cancelled": 0}
    assert document["problems"] == ["p"]


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (counted(14.0, answered=102, late=2, shed=2), "answered 2 and 3, late 2 and 1"),
        (counted(14.0, answered=103, late=1, shed=2, live=4), "4 still in the server"),
    ],
)
def test_a_difference_is_named(after: ServerCounts, problem: str) -> None:
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE, after], started=10.0)
    assert document["counts_agree"] is False
    assert document["problems"][-1] == f"server and client count differently (server, then client): {problem}"


@pytest.mark.parametrize(
    ("exits", "requeued", "told"),
    [
        (1, 7, "a replica died and was replaced; 7 items were run again because of it"),
        (3, 0, "3 replicas died and were replaced; 0 items were run again because of it"),
    ],
)
def test_what_became_of_replicas_that_died_is_told(exits: int, requeued: int, told: str) -> None:
    after = msgspec.structs.replace(AFTER, replica_exits=exits, requeued=requeued)
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE, after], started=10.0)
    assert document["problems"] == ["p", told]


def test_a_server_that_does_not_tell_is_neither_right_nor_wrong() -> None:
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE], started=10.0, trouble="it died")
    assert document["counts_agree"] is None
    assert document["problems"] == ["p", "it died"]


def test_stages_are_told_by_what_they_did_in_between() -> None:
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE, AFTER], started=10.0)
    assert document["stages"] == [
        {
            "name": "detect",
            "variants": ["small 90.0 %", "tiny 10.0 %"],
            "cores": 0.5,
            "items": 10,
            "batch_mean": 2.0,
            "queue_ms": 100.0,
            "service_ms": 200.0,
            "cores_series": [(2.0, 0.5)],
        }
    ]


def test_it_is_a_document_that_the_report_reads() -> None:
    page = render(demo_document(pipeline(), "x", READY, result(), [BEFORE, AFTER], started=10.0))
    assert "50.0&nbsp;% of 6 requests" in page
    assert "detect small: because" in page


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (
            {"page": TensorSpec(datatype="BYTES", shape=(1,))},
            f"curl -s {URL}/infer {JSON_PLEASE} -H 'Inference-Header-Content-Length: 0' --data-binary @FILE",
        ),
        ({"x": TensorSpec(datatype="FP32", shape=(4,))}, f"curl -s {URL}"),
        ({}, f"curl -s {URL}"),
    ],
)
def test_commands_to_try_next(inputs: dict[str, TensorSpec], line: str) -> None:
    document = demo_document(pipeline(**inputs), "my file.yaml", READY, result(), [BEFORE, AFTER], started=10.0)
    assert document["commands"][0]["line"] == "triscale serve 'my file.yaml'"
    assert document["commands"][1]["line"] == line


def test_pictures_are_left_out_of_what_is_printed() -> None:
    document = demo_document(pipeline(), "x", READY, result(), [BEFORE, AFTER], started=10.0)
    assert without_images(document)["samples"][0]["image"] == ""
    assert document["samples"][0]["image"] == "abc"
