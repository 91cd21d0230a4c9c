"""The status says what a person wants to know first, in figures that add up."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.observe.live_scene import STARTED_S, LiveScene, decision, view
from triscale.core.snapshot import Phase
from triscale.observe.axes import Axes
from triscale.observe.status import Status


def test_a_pipeline_that_has_done_nothing_yet_has_no_shares() -> None:
    status = LiveScene().status()
    assert [window.attainment for window in status.windows] == [None] * 3
    assert (status.latency_ms.p99, status.arrivals_per_s, status.requests.arrived) == (None, 0.0, 0)
    for stage in status.stages:
        assert (stage.attainment, stage.queue_ms.p99, stage.service_ms.p50) == (None, None, None)
        assert all(variant.mix is None for variant in stage.variants)


def test_requests_are_counted_once_by_outcome_and_cause() -> None:
    scene = LiveScene()
    for _ in range(8):
        scene.arrive()
    scene.seconds(3)
    requests = scene.status().requests
    assert requests.arrived == sum(requests.outcomes.values()) + requests.live == 8
    assert requests.outcomes["answered"] < 8
    assert sum(cause.requests for cause in requests.causes) == 8 - requests.outcomes["answered"]
    assert requests.recent_causes == requests.causes
    assert {cause.stage for cause in requests.causes} <= {"detect", "read"}


def test_attainment_of_a_window_is_what_ended_in_it() -> None:
    scene = LiveScene()
    for _ in range(8):
        scene.arrive()
    scene.seconds(20)
    scene.arrive()
    scene.seconds()
    recent, minute, long = scene.status().windows
    assert (recent.arrived, recent.attainment) == (1, 1.0)
    assert recent.seconds == pytest.approx(10.0)
    assert minute.arrived == long.arrived == 9
    assert minute.attainment == minute.outcomes["answered"] / 9 < 1.0
    assert recent.accuracy == pytest.approx(0.9)


def test_a_stage_answers_for_what_was_lost_at_it_and_for_nothing_else() -> None:
    scene = LiveScene()
    for _ in range(8):
        scene.arrive()
    scene.seconds(3)
    status = scene.status()
    lost = {cause.stage: 0 for cause in status.requests.causes}
    for cause in status.requests.causes:
        lost[cause.stage] += cause.requests
    for stage in status.stages:
        assert stage.attainment == pytest.approx(1.0 - lost.get(stage.name, 0) / 8)


def test_queues_lanes_and_times_of_a_stage() -> None:
    scene = LiveScene()
    for _ in range(3):
        scene.arrive()
    scene.run(0.35)
    scene.history.sample(scene.now, STARTED_S)
    detect, read = scene.status().stages
    assert (read.queued, read.running, read.lanes.running, read.lanes.granted) == (4, 1, 1, 1)
    assert (detect.lanes.wanted, detect.lanes.granted, detect.lanes.running) == (3, 3, 0)
    assert (detect.lanes.cores_wanted, detect.lanes.cores_granted) == (3, 3)
    assert detect.service_ms.p50 == pytest.approx(200.0, rel=0.02)
    assert read.queue_ms.p50 is not None
    assert (read.after, detect.emits, read.emits) == (["detect"], {"read": 2.0}, {})


def test_the_mix_is_what_ran_whatever_was_planned() -> None:
    scene = LiveScene()
    scene.arrive()
    scene.seconds()
    large, small = scene.status().stages[0].variants
    assert (large.share, large.mix, large.items, large.resident) == (1.0, 1.0, 1, True)
    assert (small.share, small.mix, small.items, small.resident) == (0.0, 0.0, 0, True)


def test_replicas_are_counted_by_phase() -> None:
    scene = LiveScene()
    scene.views = [*scene.views, view("read-2", "read", 1, Phase.STARTING), view("read-3", "read", 1, Phase.DRAINING)]
    assert scene.status().stages[1].replicas == {"starting": 1, "ready": 1, "draining": 1}
    assert scene.status().stages[1].lanes.cores_granted == 3


def test_cores_are_told_by_axis_and_nodes_that_are_down_do_not_count() -> None:
    scene = LiveScene()
    scene.axes = Axes(start=2.0, up=1.0, out=1.0)
    cores = scene.status().cores
    assert (cores.total, cores.held, cores.start, cores.up, cores.out) == (8.0, 4.0, 2.0, 1.0, 1.0)
    assert not cores.shared


def test_the_plan_is_told_with_its_reason() -> None:
    plan = LiveScene().status().plan
    assert (plan.mode, plan.reason, plan.capacity) == ("hardware", "enough for 8 requests/s", 15.0)


def test_the_latest_decisions_come_along_and_all_are_counted() -> None:
    scene = LiveScene()
    scene.decisions = [decision(number) for number in range(1, 31)]
    status = scene.status()
    assert [each.number for each in status.decisions] == list(range(21, 31))
    assert status.decisions_total == 30


def test_the_status_goes_through_json_unchanged() -> None:
    scene = LiveScene()
    scene.decisions = [decision(1)]
    for _ in range(8):
        scene.arrive()
    scene.seconds(2)
    status = scene.status()
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status
