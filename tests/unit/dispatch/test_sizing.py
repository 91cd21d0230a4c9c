"""How large a batch must be to be worth its lane, and may be to be in time."""

from __future__ import annotations

import math

import pytest

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.dispatch.sizing import largest, pace, quickest
from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Group, Lane, ReplicaState
from triscale.testing.builders import TableTimes, pipeline, plan, stage, variant

QUICK, FLAT = 0, 1


def state() -> StageState:
    """Batches of up to 8: `quick` takes 10 ms and 2 ms for each further item, `flat` 40 ms for any batch."""
    what = pipeline(s=stage(variant("quick", {1: 10.0, 8: 24.0}, max_batch=8), variant("flat", 40.0, max_batch=8)))
    graph = Graph.of(what)
    made = StageState(graph, 0, [TableTimes(v.latency_ms) for v in what.stages["s"].variants], [[], []], 0.0)
    made.follow(plan(what, batch=8).stages["s"], graph, [8, 8])
    return made


def idle_lanes(count: int) -> list[Group]:
    group = Group(((QUICK,), 1, None, False), (QUICK,), 1, None)
    replica = ReplicaState(ReplicaId("s-0"), 0, (QUICK,), 1, "node")
    group.idle.extend(Lane(replica) for _ in range(count))
    return [group]


@pytest.mark.parametrize(
    ("waiting", "lanes", "expected"),
    [(3, 3, 0.0), (4, 3, 0.95 * 4 / 0.016), (8, 3, 0.95 * 8 / 0.024), (500, 3, 0.95 * 8 / 0.024)],
)
def test_the_pace_is_that_of_the_planned_batch_unless_there_is_a_lane_for_each(
    waiting: int, lanes: int, expected: float
) -> None:
    assert pace(state(), idle_lanes(lanes), QUICK, waiting) == pytest.approx(expected)


def test_a_variant_of_unknown_latency_sets_no_pace() -> None:
    unknown = state()
    unknown.models[QUICK] = TableTimes({1: 0.0})
    assert pace(unknown, idle_lanes(1), QUICK, 8) == 0.0


def test_without_a_pace_one_item_is_quickest_alone() -> None:
    assert quickest(state(), QUICK, 8, 0.0, 1.0) == pytest.approx(0.010)


def test_with_a_pace_it_is_run_in_the_smallest_batch_that_reaches_it() -> None:
    """5 in 18 ms are 278 items/s, 4 in 16 ms only 250."""
    assert quickest(state(), QUICK, 8, 270.0, 1.0) == pytest.approx(0.018)
    assert quickest(state(), QUICK, 8, 250.0, 1.0) == pytest.approx(0.016)


def test_a_pace_that_no_batch_reaches_takes_for_ever() -> None:
    assert quickest(state(), FLAT, 8, 201.0, 1.0) == math.inf
    assert quickest(state(), FLAT, 8, 199.0, 1.0) == pytest.approx(0.040)
    assert quickest(state(), QUICK, 2, 270.0, 1.0) == math.inf, "only two wait"


def test_items_that_belong_together_are_run_together() -> None:
    assert quickest(state(), QUICK, 8, 0.0, 4.0) == pytest.approx(0.016), "in one batch of four, not one by one"
    assert quickest(state(), QUICK, 8, 0.0, 2.5) == pytest.approx(0.014), "in one batch of three"
    assert quickest(state(), QUICK, 8, 0.0, 16.0) == pytest.approx(0.048), "in two batches of eight"
    assert quickest(state(), QUICK, 2, 0.0, 4.0) == pytest.approx(0.024), "in two batches: no more than two wait"


def test_the_largest_batch_in_time() -> None:
    assert [largest(state(), QUICK, 20, room, 1.0) for room in (0.0241, 0.0239, 0.0101, 0.001)] == [8, 7, 1, 1]
    assert largest(state(), QUICK, 3, 1.0, 1.0) == 3


def test_the_largest_batch_with_which_all_that_belong_together_are_in_time() -> None:
    """Sixteen in batches of eight take 48 ms, in batches of seven 50 ms."""
    assert largest(state(), QUICK, 16, 0.049, 16.0) == 8
    assert largest(state(), QUICK, 16, 0.047, 16.0) == 1, "no batch is"
