from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.unit.observe.live_scene import STARTED_S, LiveScene, decision
from triscale.app.ceiling import Yardstick
from triscale.cli.demo_document import demo_document, run_document, without_images
from triscale.cli.demo_load import WARM_UP
from triscale.cli.demo_run import Contender, RunRecord, contender_of
from triscale.cli.serve import Ready
from triscale.cli.server_metrics import ServerCounts, StageCounts
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Policy, Stage, TensorSpec, Variant
from triscale.core.profile import inline_profile
from triscale.core.request import Outcome
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.report import render
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.traces.results import Latency, PhaseResult, ReplayResult, SampleAnswer, Seconds

URL = "http://127.0.0.1:8000/v2/models/ocr"
JSON_PLEASE = "-H 'Accept: application/json'"
READY = Ready(
    pipeline="ocr",
    url="http://127.0.0.1:1",
    metrics_url="http://127.0.0.1:2/metrics",
    slo_ms=1000.0,
    cores=2,
    capacity_per_s=20.0,
    accuracy=0.9,
    variants={"detect": "large"},
    batch={"detect": 4},
    reason="because",
    startup_s=0.5,
)
CEILING = Ceiling(variants={"detect": "large", "read": "only"}, accuracy=0.9, within_slo_per_s=1.5, capacity_per_s=2.0)


def pipeline(**inputs: TensorSpec) -> Pipeline:
    stages = {
        "detect": Stage(
            variants=(
                Variant(name="large", runtime="emulated", latency_ms={1: 200.0}, accuracy=0.9),
                Variant(name="small", runtime="emulated", latency_ms={1: 50.0}, accuracy=0.6),
            )
        ),
        "read": Stage(after="detect", variants=(Variant(name="only", runtime="emulated", latency_ms={1: 100.0}),)),
    }
    return Pipeline(name="ocr", slo_ms=1000.0, stages=stages, inputs=inputs)


def phase(name: str, seconds: float, rate: float = 1.0, **counts: int) -> PhaseResult:
    outcomes: dict[str, Any] = {outcome.label: 0 for outcome in Outcome} | counts
    sent = sum(outcomes.values())
    attainment = outcomes["answered"] / sent if sent else None
    return PhaseResult(
        name=name, seconds=seconds, rate_per_s=rate, sent=sent, attainment=attainment,
        goodput_per_s=outcomes["answered"] / seconds, latency_ms=Latency(p50=1.0), **outcomes,
    )  # fmt: skip


def result(*phases: PhaseResult, **more: Any) -> ReplayResult:
    samples = (SampleAnswer(truth="a", read="a", image="abc"),)
    return ReplayResult(
        pipeline="ocr", slo_ms=1000.0, phases=phases, samples=samples, problems=("p", "warm-up: q"), **more
    )


def counted(at: float, answered: int, late: int, shed: int, live: int = 0, **stage: Any) -> ServerCounts:
    outcomes = {outcome.label: 0 for outcome in Outcome} | {"answered": answered, "late": late, "shed": shed}
    return ServerCounts(at=at, outcomes=outcomes, live=live, stages={"detect": StageCounts(**stage)})


BEFORE = counted(10.0, answered=100, late=0, shed=0, items={"small": 100, "tiny": 0})
AFTER = counted(
    14.0, answered=103, late=1, shed=2, items={"small": 109, "tiny": 1, "never": 0}, batches=5, busy_core_s=2.0,
    queue_s=0.5, service_s=1.0,
)  # fmt: skip
ONE = result(phase("a", 2.0, answered=3, late=1, shed=2))


def record(found: ReplayResult = ONE, *counts: ServerCounts, **more: Any) -> RunRecord:
    """A run whose server told its counts and nothing else."""
    return RunRecord(
        contender=Contender("triscale", "", ()), ready=READY, result=found, counts=counts or (BEFORE, AFTER),
        statuses=(), started=10.0, started_wall=STARTED_S, account=None, **more,
    )  # fmt: skip


def told_record() -> RunRecord:
    """A run of six seconds, the first a warm-up, whose server told what it did: one request a second, then three."""
    scene = LiveScene()
    statuses = [scene.status()]
    for count in (1, 1, 3, 3, 1, 1):
        for _ in range(count):
            scene.arrive()
        scene.seconds()
        statuses.append(scene.status())
    series = Seconds(sent=(1, 1, 3, 3, 1, 1), answered=(1, 1, 3, 3, 1, 1))
    found = result(
        phase(WARM_UP, 1.0, answered=1), phase("calm", 1.0, answered=1), phase("surge", 2.0, 4.0, answered=6),
        phase("calm again", 2.0, answered=2), series=series,
    )  # fmt: skip
    run = record(found, counted(0.0, 0, 0, 0), counted(6.0, 10, 0, 0))
    run.statuses = statuses
    decisions = [decision(1), decision(3, accuracy=0.6)]
    run.account = scene.history.since(0), DecisionsDocument(started_s=STARTED_S, last=2, decisions=decisions)
    return run


def yardstick(of: Pipeline) -> Yardstick:
    profile = inline_profile(of)
    assert profile is not None
    return Yardstick(Graph.of(of), profile, (Node(id=NodeId("n"), cores=2),), Policy())


def test_the_same_counts_agree_whatever_was_counted_before() -> None:
    document = run_document(record())
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
    document = run_document(record(ONE, BEFORE, after))
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
    after = replace(AFTER, replica_exits=exits, requeued=requeued)
    assert run_document(record(ONE, BEFORE, after))["problems"] == ["p", told]


def test_a_server_that_does_not_tell_is_neither_right_nor_wrong() -> None:
    document = run_document(record(ONE, BEFORE, trouble="it died", problems=["and was killed"]))
    assert document["counts_agree"] is None
    assert document["problems"] == ["p", "it died", "and was killed"]
    assert "control" not in document


def test_stages_are_told_by_what_they_did_in_between() -> None:
    assert run_document(record())["stages"] == [
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


def test_the_warm_up_is_kept_apart_and_counts_for_the_agreement_all_the_same() -> None:
    document = run_document(told_record())
    assert document["counts_agree"] is True
    assert [each["name"] for each in document["phases"]] == ["calm", "surge", "calm again"]
    assert document["warm_up"]["answered"] == 1
    assert document["problems"] == ["p"], "what was amiss in the warm-up is not worth a word"
    assert document["series"]["sent"] == (1, 3, 3, 1, 1)
    assert document["control"]["at_s"][0] == 1.0


def test_each_phase_says_what_ran_in_it() -> None:
    calm, surge, again = run_document(told_record())["phases"]
    for each in (calm, surge, again):
        assert each["expected_accuracy"] == pytest.approx(0.9)
        assert each["held_cores"] == pytest.approx(4.0)
    assert surge["busy_cores"] > calm["busy_cores"] > 0.0


def test_the_surge_is_measured_against_the_ceiling_and_the_planner() -> None:
    of = pipeline()
    document = demo_document(of, "x", [told_record()], CEILING, yardstick(of))
    surge = document["surge"]
    assert surge["phase"] == 1
    assert surge["times"] == 2.0
    assert surge["needs_accuracy"] == pytest.approx(yardstick(of).at(4.0).accuracy)
    assert surge["needs_served"] == 1.0
    assert "needs_then" not in surge  # the scene's models do not drift
    assert surge["back_after_s"] == 1.0


def test_without_a_surge_there_is_only_the_ceiling() -> None:
    of = pipeline()
    run = told_record()
    run.result = replace(run.result, phases=run.result.phases[:2])
    document = demo_document(of, "x", [run], CEILING, yardstick(of))
    assert document["ceiling"]["capacity_per_s"] == 2.0
    assert "surge" not in document


def test_the_second_run_stands_beside_the_first_in_a_document_that_the_report_reads() -> None:
    of = pipeline()
    other = told_record()
    other.contender = Contender("static", "the most accurate variants", ())
    document = demo_document(of, "x", [told_record(), other], CEILING, yardstick(of))
    assert document["against"]["policy"] == "static"
    page = render(msgspec.json.decode(msgspec.json.encode(document)))
    assert "under triscale, 100&nbsp;% under static" in page


def test_a_run_without_an_account_is_a_document_that_the_report_reads() -> None:
    page = render(demo_document(pipeline(), "x", [record()]))
    assert "50.0&nbsp;% of 6 requests" in page
    assert "detect large: because" in page


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
    document = demo_document(pipeline(**inputs), "my file.yaml", [record()])
    assert document["commands"][0]["line"] == "triscale serve 'my file.yaml'"
    assert document["commands"][1]["line"] == line


def test_pictures_are_left_out_of_what_is_printed() -> None:
    document = demo_document(pipeline(), "x", [record(), record()])
    printed = without_images(document)
    assert printed["samples"][0]["image"] == printed["against"]["samples"][0]["image"] == ""
    assert document["samples"][0]["image"] == document["against"]["samples"][0]["image"] == "abc"


def test_static_has_only_the_most_accurate_variants_whatever_the_file_says() -> None:
    static = contender_of("static", Policy(name="static", min_accuracy=0.5), CEILING, ["p.yaml"])
    assert static.arguments == (
        "p.yaml",
        (
            '--set=policy={"name": "static", "min_accuracy": 0.5, '
            '"options": {"variants": {"detect": "large", "read": "only"}}}'
        ),
        "--set=dispatch.drop=per_stage",
    )
    assert "most accurate variants" in static.says


def test_the_files_own_policy_keeps_its_options_and_others_get_none() -> None:
    stated = Policy(name="triscale", min_accuracy=0.5, options={"tick_s": 0.2})
    assert contender_of("triscale", stated, CEILING, ["p.yaml"]).arguments == ("p.yaml",)
    other = contender_of("hpa", stated, CEILING, ["p.yaml"])
    assert other.arguments == ("p.yaml", '--set=policy={"name": "hpa", "min_accuracy": 0.5}')
