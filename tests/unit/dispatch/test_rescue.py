"""Rescue: a late item runs on the most accurate variant that is still in time; an item on time is never touched."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome
from triscale.core.settings import Settings
from triscale.dispatch.rescue import best_in_time
from triscale.dispatch.stage import StageState
from triscale.testing.builders import TableTimes, pipeline, plan, stage, variant
from triscale.testing.world import World

BIG, MIDDLE, SMALL = 0, 1, 2
TIMES = {BIG: 0.040, MIDDLE: 0.020, SMALL: 0.005}


def three_sizes(slo_ms: float = 1000.0) -> Pipeline:
    """40, 20 and 5 ms for a batch of any size."""
    return pipeline(
        slo_ms,
        s=stage(
            variant("big", 40.0, accuracy=0.9),
            variant("middle", 20.0, accuracy=0.8),
            variant("small", 5.0, accuracy=0.6),
        ),
    )


def state_of(what: Pipeline) -> StageState:
    graph = Graph.of(what)
    models = [TableTimes(v.latency_ms) for v in what.stages["s"].variants]
    return StageState(graph, 0, models, [[], [], []], 0.0)


@pytest.mark.parametrize(
    ("slack", "chosen"),
    [(0.050, BIG), (0.040, BIG), (0.039, MIDDLE), (0.019, SMALL), (0.005, SMALL), (0.004, -1)],
)
def test_the_most_accurate_variant_in_time_is_chosen(slack: float, chosen: int) -> None:
    state = state_of(three_sizes())
    assert best_in_time(state, TIMES, [(0.0, 1.0)], slack) == chosen


def test_the_accuracy_of_the_whole_way_counts_not_only_of_this_stage() -> None:
    """With 60 ms, big here (40 ms) forces 0.5 downstream (0.45 in all); middle here leaves time for 0.9 (0.72)."""
    state = state_of(three_sizes())
    onward = [(0.010, 0.5), (0.040, 0.9)]
    assert best_in_time(state, TIMES, onward, 0.060) == MIDDLE
    assert best_in_time(state, TIMES, onward, 0.080) == BIG


def test_of_equally_accurate_ways_the_faster_one_is_chosen() -> None:
    what = pipeline(s=stage(variant("slow", 20.0, accuracy=0.8), variant("fast", 10.0, accuracy=0.8)))
    state = state_of(what)
    assert best_in_time(state, {0: 0.02, 1: 0.01}, [(0.0, 1.0)], 0.1) == 1


def world_of(what: Pipeline) -> World:
    return World(what, plan(what), settings=Settings(admission=False, margin=0.0))


def test_an_item_on_time_is_left_to_the_plan_though_faster_lanes_are_idle() -> None:
    """r1 waits 40 ms for the planned variant's lane, because it has the time."""
    world = world_of(three_sizes())
    world.replica("big", "s", "big")
    world.replica("small", "s", "small")
    world.arrive()
    world.arrive()
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/big on big: r0",
        "0.04 run b1 s/big on big: r1",
    ]
    assert world.dispatcher.accounts.stages[0].rescued == 0


def test_an_item_that_waits_for_its_lane_is_rescued_when_it_would_be_late_by_it() -> None:
    """r1 is due at 60 ms. Until 20 ms the plan's 40 ms would fit; then an idle faster lane takes it, unasked."""
    world = world_of(three_sizes())
    world.replica("big", "s", "big")
    world.replica("middle", "s", "middle")
    world.replica("small", "s", "small")
    world.arrive()
    world.run(until=0.001)
    world.arrive(within_s=0.059)
    world.run()
    assert "0.020001 run b1 s/middle on middle: r1" in world.log
    assert "0.040001 end r1 answered" in world.log
    assert world.dispatcher.accounts.stages[0].rescued == 1


def test_a_late_item_is_rescued_at_once_by_the_most_accurate_of_all_idle_lanes() -> None:
    """The lanes with big also hold small, and come first; middle, on other lanes, is in time and more accurate."""
    world = world_of(three_sizes())
    world.replica("mixed", "s", "big", "small")
    world.replica("middle", "s", "middle")
    world.arrive(within_s=0.03)
    world.run()
    assert world.log[1] == "0 run b0 s/middle on middle: r0"


def test_faster_variants_downstream_are_counted_on() -> None:
    """30 ms are left. By plan 10 + 40 ms; with small downstream 10 + 5 ms: it is run here, and rescued there."""
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("big", 40.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6), after="a"),
    )
    world = world_of(what)
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    request = world.arrive(within_s=0.03)
    world.run()
    assert world.log == [
        "0 arrive r0",
        "0 run b0 a/v on a-0: r0",
        "0.01 done b0",
        "0.01 run b1 b/small on b-0: r0/",
        "0.015 done b1",
        "0.015 end r0 answered",
    ]
    assert request.accuracy == pytest.approx(0.6)


def test_downstream_variants_that_no_lane_holds_are_not_counted_on() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("big", 40.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6), after="a"),
    )
    world = world_of(what)
    world.replica("a-0", "a")
    world.replica("b-0", "b", "big")
    world.arrive(within_s=0.03)
    world.run()
    assert world.log[-1] == "0 end r0 dropped predicted_late at a"


@pytest.mark.parametrize(("within_s", "ran", "rescued"), [(0.095, "big", 0), (0.085, "middle", 1), (0.041, "big", 0)])
def test_a_rescue_keeps_the_margin_if_it_can(within_s: float, ran: str, rescued: int) -> None:
    """Of 1 s, 5 % are kept in reserve: big needs 90 ms, middle 70 ms. Where nothing has that much, big is in time."""
    what = three_sizes()
    world = World(what, plan(what), settings=Settings(admission=False, margin=0.05))
    world.replica("s-0", "s", "big", "middle")
    world.arrive(within_s=within_s)
    world.run()
    assert world.log[1] == f"0 run b0 s/{ran} on s-0: r0"
    assert world.dispatcher.accounts.stages[0].rescued == rescued


def test_an_item_that_waits_for_a_busy_lane_runs_on_an_idle_one_before_it_is_too_late() -> None:
    """The plan's small does eight items in 16 ms, but its lane is busy. Big alone takes 10 ms and is not worth it.

    r1 is due at 60 ms, and could still be saved by small until 44 ms; then big takes it, though it is not worth it.
    """
    what = pipeline(
        s=stage(variant("big", {1: 10.0, 8: 80.0}, accuracy=0.9), variant("small", {1: 9.0, 8: 16.0}, accuracy=0.6))
    )
    world = World(what, plan(what, {"s": {"small": 1.0}}, batch=8), settings=Settings(admission=False, margin=0.01))
    world.service_s = lambda batch: 0.5 if batch.id == 0 else batch.expected
    world.replica("small", "s", "small")
    world.arrive()
    world.run(until=0.0)
    world.replica("big", "s", "big")
    world.arrive(within_s=0.060)
    for _ in range(9):
        world.arrive(within_s=0.900)
    world.run(until=0.1)
    assert "0.044001 run b1 s/big on big: r1" in world.log


def test_an_item_that_nothing_can_save_is_given_up_when_the_others_can_wait_no_longer() -> None:
    """Big is too slow for r1, and a batch of small worth its lane too, when that is free again. It stays until the
    queue, 24 ms of work on two lanes, takes half the slack of its last item: 65 ms - 10 ms - 48 ms.
    """
    what = pipeline(s=stage(variant("big", 40.0, accuracy=0.9), variant("small", {1: 10.0, 8: 24.0}, accuracy=0.6)))
    world = World(what, plan(what, {"s": {"small": 1.0}}, batch=8), settings=Settings(admission=False, margin=0.0))
    world.service_s = lambda batch: 0.5 if batch.id == 0 else batch.expected
    world.replica("small", "s", "small")
    world.arrive()
    world.run(until=0.0)
    world.replica("big", "s", "big")
    world.arrive(within_s=0.020)
    for _ in range(15):
        world.arrive(within_s=0.065)
    world.run(until=0.009)
    assert world.log[-1] == "0.007001 end r1 dropped predicted_late at s"


def test_a_rescued_batch_takes_along_only_those_that_are_late_too() -> None:
    """r0 and r1 are due too soon for big; r2 is not, and is run by the plan on the second lane."""
    what = pipeline(s=stage(variant("big", 40.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)))
    world = World(what, plan(what, batch=4), settings=Settings(admission=False, margin=0.0))
    world.replica("s-0", "s", lanes=3)
    world.arrive(within_s=0.03)
    world.arrive(within_s=0.03)
    world.arrive(within_s=0.30)
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/small on s-0: r0 r1",
        "0 run b1 s/big on s-0: r2",
    ]


def test_what_no_idle_lane_can_save_does_not_hold_up_what_one_can() -> None:
    """r1 needs the fast lane, which is busy until 5 ms; r2, behind it, is run at once on the slow one."""
    what = pipeline(s=stage(variant("big", 40.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)))
    world = World(what, plan(what, {"s": {"big": 1.0}}), settings=Settings(admission=False, margin=0.0))
    world.replica("small", "s", "small")
    world.arrive(within_s=0.03)
    world.run(until=0.0)
    world.replica("big", "s", "big")
    world.arrive(within_s=0.03)
    world.arrive(within_s=0.10)
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/small on small: r0",
        "0 run b1 s/big on big: r2",
        "0.005 run b2 s/small on small: r1",
    ]


def test_the_plan_without_lanes_is_stood_in_for_by_what_there_is() -> None:
    """Nothing that the plan names is resident: work goes on with what is, and none of it counts as rescued."""
    what = three_sizes()
    world = world_of(what)
    world.replica("middle", "s", "middle")
    world.arrive()
    world.run()
    assert world.log[1] == "0 run b0 s/middle on middle: r0"
    assert world.dispatcher.accounts.stages[0].rescued == 0


class TestSiblings:
    """Items of one request at one stage run on the same lanes, and must be in time together."""

    def world(self, lanes: int = 1) -> World:
        """Big takes 20 ms for one item, small 5 ms; no batches."""
        what = pipeline(
            s=stage(variant("big", 20.0, accuracy=0.9, max_batch=1), variant("small", 5.0, accuracy=0.6, max_batch=1))
        )
        world = World(what, plan(what), settings=Settings(admission=False, margin=0.0))
        world.replica("s-0", "s", lanes=lanes)
        return world

    def ran(self, world: World) -> list[int]:
        return world.dispatcher.accounts.stages[0].items_run

    def test_all_are_rescued_when_the_last_would_be_late(self) -> None:
        """The first alone has time for big (20 ms), but then only 4 ms would be left for the other three."""
        world = self.world()
        world.arrive(rows=4, within_s=0.024)
        world.run()
        assert world.log[-1] == "0.02 end r0 answered"
        assert self.ran(world) == [0, 4]

    def test_they_are_left_to_the_plan_when_there_are_lanes_or_time_enough(self) -> None:
        for lanes, within in ((1, 0.081), (2, 0.041), (4, 0.021)):
            world = self.world(lanes)
            world.arrive(rows=4, within_s=within)
            world.run()
            assert self.ran(world) == [4, 0]

    def test_the_plan_takes_over_again_as_soon_as_the_rest_is_in_time_by_it(self) -> None:
        """60 ms: three on big would do, four would not. After one on small (5 ms), 55 ms do not fit three; after
        another, 50 ms do fit two.
        """
        world = self.world()
        world.arrive(rows=4, within_s=0.06)
        world.run()
        assert self.ran(world) == [2, 2]
        assert world.log[-1] == "0.05 end r0 answered"

    def test_when_not_all_can_be_in_time_as_many_as_possible_are(self) -> None:
        """12 ms are enough for two on small, or none on big."""
        what = pipeline(
            partial="allow",
            s=stage(variant("big", 12.0, accuracy=0.9, max_batch=1), variant("small", 5.0, accuracy=0.6, max_batch=1)),
        )
        world = World(what, plan(what), settings=Settings(admission=False, margin=0.0))
        world.replica("s-0", "s")
        world.arrive(rows=4, within_s=0.012)
        world.run()
        assert world.log[-1] == "0.01 end r0 answered without 2"

    def test_on_time_together_they_are_left_to_the_planned_lanes_though_others_are_idle(self) -> None:
        what = pipeline(
            s=stage(variant("big", 20.0, accuracy=0.9, max_batch=1), variant("small", 5.0, accuracy=0.6, max_batch=1))
        )
        world = World(what, plan(what), settings=Settings(admission=False, margin=0.0))
        world.replica("big", "s", "big")
        world.replica("small", "s", "small")
        world.arrive(rows=4)
        world.run()
        assert self.ran(world) == [4, 0]

    def test_a_request_that_is_late_for_its_siblings_does_not_wait_behind_one_that_is_not(self) -> None:
        """At 1 ms r1 can wait for big, busy until 20 ms. Behind it r2 has four items for each lane, and 70 ms."""
        what = pipeline(
            s=stage(variant("big", 20.0, accuracy=0.9, max_batch=1), variant("small", 5.0, accuracy=0.6, max_batch=1))
        )
        world = World(what, plan(what), settings=Settings(admission=False, margin=0.0))
        world.replica("big", "s", "big")
        world.arrive()
        world.run(until=0.001)
        world.replica("small", "s", "small")
        world.arrive(within_s=0.06)
        world.arrive(rows=8, within_s=0.07)
        world.run(until=0.001)
        assert world.log[-1] == "0.001 run b1 s/small on small: r2[0]"

    def test_they_are_rescued_together_in_one_batch(self) -> None:
        """Twelve on big, in batches of four, take 120 ms of the 100 that there are."""
        what = pipeline(
            s=stage(
                variant("big", {1: 20.0, 4: 40.0}, accuracy=0.9, max_batch=4),
                variant("small", {1: 5.0, 4: 8.0}, accuracy=0.6, max_batch=4),
            )
        )
        world = World(what, plan(what, batch=4), settings=Settings(admission=False, margin=0.0))
        world.replica("s-0", "s")
        world.arrive(rows=12, within_s=0.1)
        world.run()
        assert world.log[1] == "0 run b0 s/small on s-0: r0[0] r0[1] r0[2] r0[3]"
        assert world.log[-1] == "0.088 end r0 answered", "8 ms, and then big in batches of 40 ms is in time again"


def test_a_rescued_batch_takes_along_those_that_would_be_late_on_the_next_lane() -> None:
    """r0 cannot wait for a batch of big (26 ms). The others could, but the lane will be busy that long."""
    what = pipeline(
        s=stage(
            variant("big", {1: 20.0, 4: 26.0}, accuracy=0.9, max_batch=4),
            variant("small", {1: 5.0, 4: 8.0}, accuracy=0.6, max_batch=4),
        )
    )
    world = World(what, plan(what, batch=4), settings=Settings(admission=False, margin=0.0))
    world.replica("s-0", "s")
    world.arrive(within_s=0.021)
    for _ in range(3):
        world.arrive(within_s=0.030)
    world.run()
    assert "0 run b0 s/small on s-0: r0 r1 r2 r3" in world.log


@pytest.mark.parametrize("rate", [65.0, 80.0, 110.0])
def test_at_capacity_with_nothing_faster_resident_it_misses_less_than_dropping_at_each_stage(rate: float) -> None:
    """An item of the root that can be in time only if nothing waits further on fans out into work that is lost."""
    what = pipeline(
        250.0,
        detect=stage(variant("only", 20.0, fan_out={"read": 8.0})),
        read=stage(variant("only", {1: 10.0, 8: 30.0}), after="detect"),
    )

    def missed(drop: Literal["per_stage", "reroute"], seed: int) -> int:
        rng = random.Random(seed)
        world = World(what, plan(what, batch=8), settings=Settings(admission=False, drop=drop), rng=rng)
        for number in range(2):
            world.replica(f"d{number}", "detect")
            world.replica(f"r{number}", "read")
        at = 0.0
        for _ in range(600):
            at += rng.expovariate(rate)
            world.at(at, world.arrive)
        world.run()
        return 600 - world.dispatcher.accounts.outcomes[Outcome.ANSWERED]

    assert sum(missed("reroute", seed) for seed in range(3)) < sum(missed("per_stage", seed) for seed in range(3))
