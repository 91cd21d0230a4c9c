from __future__ import annotations

from triscale.cli.live_state import StageState
from triscale.cli.server_metrics import ServerCounts, StageCounts, parse_metrics, stage_states

TEXT = """\
# HELP triscale_requests_total Requests by how they ended.
# TYPE triscale_requests_total counter
triscale_requests_total{pipeline="ocr",outcome="answered"} 12.0
triscale_requests_total{pipeline="ocr",outcome="shed"} 3.0
# TYPE triscale_requests_live gauge
triscale_requests_live{pipeline="ocr"} 2.0
# TYPE triscale_stage_items_waiting gauge
triscale_stage_items_waiting{pipeline="ocr",stage="detect"} 4.0
# TYPE triscale_stage_busy_core_seconds_total counter
triscale_stage_busy_core_seconds_total{pipeline="ocr",stage="detect"} 1.5
# TYPE triscale_replica_exits_total counter
triscale_replica_exits_total{pipeline="ocr"} 2.0
# TYPE triscale_stage_items_requeued_total counter
triscale_stage_items_requeued_total{pipeline="ocr",stage="detect"} 9.0
# TYPE triscale_stage_items_run_total counter
triscale_stage_items_run_total{pipeline="ocr",stage="detect",variant="small"} 10.0
triscale_stage_items_run_total{pipeline="ocr",stage="detect",variant="tiny"} 5.0
# TYPE triscale_stage_queue_seconds histogram
triscale_stage_queue_seconds_bucket{pipeline="ocr",stage="detect",le="+Inf"} 6.0
triscale_stage_queue_seconds_count{pipeline="ocr",stage="detect"} 6.0
triscale_stage_queue_seconds_sum{pipeline="ocr",stage="detect"} 0.3
# TYPE triscale_stage_service_seconds histogram
triscale_stage_service_seconds_count{pipeline="ocr",stage="detect",variant="small"} 4.0
triscale_stage_service_seconds_sum{pipeline="ocr",stage="detect",variant="small"} 0.5
triscale_stage_service_seconds_count{pipeline="ocr",stage="detect",variant="tiny"} 2.0
triscale_stage_service_seconds_sum{pipeline="ocr",stage="detect",variant="tiny"} 0.25
"""


def test_counts_are_read_from_the_exposition() -> None:
    counts = parse_metrics(TEXT, at=7.0)
    assert counts.at == 7.0
    assert counts.live == 2
    assert (counts.replica_exits, counts.requeued) == (2, 9)
    assert counts.outcomes == {"answered": 12, "late": 0, "dropped": 0, "shed": 3, "failed": 0, "cancelled": 0}
    assert counts.stages == {
        "detect": StageCounts(
            waiting=4, busy_core_s=1.5, batches=6, queue_s=0.3, service_s=0.75, items={"small": 10, "tiny": 5}
        )
    }


def test_an_exposition_of_someone_else_has_no_counts() -> None:
    counts = parse_metrics("other_total 3.0\n", at=0.0)
    assert sum(counts.outcomes.values()) == 0
    assert counts.stages == {}


def test_a_view_gets_rates_since_the_last_look() -> None:
    before = ServerCounts(at=5.0, outcomes={}, live=0, stages={"detect": StageCounts(busy_core_s=0.5, items={"a": 5})})
    now = ServerCounts(
        at=7.0,
        outcomes={},
        live=0,
        stages={
            "detect": StageCounts(busy_core_s=2.5, items={"a": 10, "b": 15}, waiting=3),
            "new": StageCounts(items={"c": 4}),
        },
    )
    assert stage_states(before, now) == (
        StageState(name="detect", queue=3, busy_cores=1.0, items_per_s=10.0),
        StageState(name="new", queue=0, busy_cores=0.0, items_per_s=2.0),
    )
