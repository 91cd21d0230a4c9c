"""Predictions: the time and accuracy of the rest of an item's path, and how long the work admitted takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.core.pipeline import Pipeline
from triscale.core.settings import Settings
from triscale.dispatch.outlook import Outlook, frontier
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World

times = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 1.0)), min_size=1, max_size=40)


def outlook_of(what: Pipeline, shares: dict[str, dict[str, float]] | None = None, lanes: int = 1) -> Outlook:
    world = World(what, plan(what, shares, batch=4), settings=Settings(admission=False))
    for name in what.stages:
        world.replica(f"{name}-0", name, lanes=lanes)
    world.step()
    return world.dispatcher.outlook


@given(times)
def test_a_frontier_keeps_what_nothing_else_beats(pairs: list[tuple[float, float]]) -> None:
    kept = frontier(pairs)
    assert set(kept) <= set(pairs)
    assert kept == sorted(kept)
    assert [accuracy for _, accuracy in kept] == sorted({accuracy for _, accuracy in kept})
    assert kept[0][0] == min(time for time, _ in pairs), "the fastest stays"
    assert kept[-1][1] == pytest.approx(max(accuracy for _, accuracy in pairs)), "and the most accurate"
    assert len(kept) <= 12


def test_the_rest_of_a_chain_is_the_sum_of_its_stages() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)), b=stage(variant("v", 20.0), after="a"), c=stage(variant("v", 5.0), after="b")
    )
    outlook = outlook_of(what)
    assert outlook.planned == pytest.approx([0.025, 0.005, 0.0])
    assert outlook.least == pytest.approx([0.035, 0.025, 0.005])
    assert outlook.path == pytest.approx(0.035)


def test_planned_times_follow_the_shares_and_options_do_not() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("slow", 40.0, accuracy=0.9), variant("fast", 20.0, accuracy=0.5), after="a"),
    )
    outlook = outlook_of(what, {"b": {"slow": 0.75, "fast": 0.25}})
    assert outlook.planned[0] == pytest.approx(0.035)
    assert outlook.options[0] == [(0.020, 0.5), (0.040, 0.9)]
    assert outlook.least[0] == pytest.approx(0.030)


def test_of_branches_the_slowest_counts_and_accuracy_is_their_mean() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("v", 20.0, accuracy=0.9), after="a"),
        c=stage(variant("v", 50.0, accuracy=0.6), after="a"),
        d=stage(variant("v", 30.0, accuracy=0.3), after="a"),
    )
    outlook = outlook_of(what)
    assert outlook.planned[0] == pytest.approx(0.050)
    ((time, accuracy),) = outlook.options[0]
    assert (time, accuracy) == pytest.approx((0.050, 0.6))


def test_the_two_sides_of_a_diamond_meet_in_the_slower_one() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("v", 20.0), after="a"),
        c=stage(variant("v", 50.0), after="a"),
        d=stage(variant("v", 5.0), after=("b", "c"), join="all"),
    )
    assert outlook_of(what).planned == pytest.approx([0.055, 0.005, 0.005, 0.0])


def test_a_burst_is_run_in_batches_on_the_lanes_that_there_are() -> None:
    """Twelve items in batches of four (25 ms): one after the other on one lane, side by side on three."""
    what = pipeline(
        a=stage(variant("v", 10.0, fan_out={"b": 12})), b=stage(variant("v", {1: 10.0, 4: 25.0}), after="a")
    )
    assert outlook_of(what, lanes=1).planned[0] == pytest.approx(0.075)
    assert outlook_of(what, lanes=3).planned[0] == pytest.approx(0.025)


def test_the_least_time_of_a_burst_splits_it_over_the_lanes() -> None:
    """Four items on four lanes could be run one by one, though by plan one lane takes them all."""
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 4})), b=stage(variant("v", {1: 10.0, 4: 25.0}), after="a"))
    outlook = outlook_of(what, lanes=4)
    assert outlook.planned[0] == pytest.approx(0.025)
    assert outlook.least[0] == pytest.approx(0.020)


def test_a_join_takes_one_item_whatever_the_fan_out() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0, fan_out={"b": 12})),
        b=stage(variant("v", {1: 10.0, 4: 25.0}), after="a", join="all"),
    )
    assert outlook_of(what).planned[0] == pytest.approx(0.010)


def test_a_branch_that_is_never_taken_takes_no_time() -> None:
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 0.0})), b=stage(variant("v", 20.0), after="a"))
    assert outlook_of(what).planned[0] == 0.0


def test_an_unlikely_branch_counts_for_the_plan_but_not_for_giving_up() -> None:
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 0.2})), b=stage(variant("v", 20.0), after="a"))
    outlook = outlook_of(what)
    assert outlook.planned[0] == pytest.approx(0.020)
    assert outlook.least[0] == pytest.approx(0.010)


def test_stages_without_lanes_are_predicted_as_planned() -> None:
    what = pipeline(
        a=stage(variant("v", 10.0)),
        b=stage(variant("slow", 40.0), variant("fast", 20.0), after="a"),
    )
    world = World(what, plan(what, {"b": {"slow": 1.0}}))
    assert world.dispatcher.outlook.planned[0] == pytest.approx(0.040)
    assert world.dispatcher.outlook.least[0] == pytest.approx(0.050)


def test_fan_out_is_measured_over_the_items_that_were_completed() -> None:
    """Items whose request had ended, or which the model refused, say nothing about the fan-out."""
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 2.0})), b=stage(variant("v", 1.0), after="a"))
    world = World(what, plan(what, batch=4))
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    world.rejects = lambda item: "no" if item.request.id == 0 else None
    for number in range(3):
        world.arrive()
        if number == 1:
            world.cancel(world.requests[1])
    world.run()
    assert world.dispatcher.stages[0].fan_out == [[2.0]]


def test_measured_fan_out_replaces_the_stated_one() -> None:
    what = pipeline(a=stage(variant("v", 1.0, fan_out={"b": 1.0})), b=stage(variant("v", 1.0), after="a"))
    world = World(what, plan(what, batch=8))
    world.replica("a-0", "a")
    world.replica("b-0", "b", lanes=8)
    world.emits = lambda item, _: [3] * (item.stage == 0)
    for number in range(3000):
        world.at(number * 0.002, world.arrive)
    world.run()
    assert world.dispatcher.stages[0].fan_out[0][0] == pytest.approx(3.0, abs=0.1)


class TestDoorWait:
    """Seconds of work admitted, at the tightest stage."""

    def world(self) -> World:
        """a: 10 ms on one lane, then b: 8 ms, three per item, on two lanes."""
        what = pipeline(
            a=stage(variant("v", 10.0, max_batch=1, fan_out={"b": 3})),
            b=stage(variant("v", 8.0, max_batch=1), after="a"),
        )
        world = World(what, plan(what))
        world.replica("a-0", "a")
        world.replica("b-0", "b", lanes=2)
        return world

    def wait(self, world: World, rows: int = 1) -> float:
        return world.dispatcher.outlook.door_wait(rows)

    def test_nothing_admitted_nothing_to_wait_for(self) -> None:
        assert self.wait(self.world()) == 0.0

    def test_the_tightest_stage_counts(self) -> None:
        """Each request brings a 10 ms and b 3 * 8 / 2 = 12 ms."""
        world = self.world()
        world.step()
        for _ in range(5):
            world.arrive()
        assert self.wait(world) == pytest.approx(0.060)
        assert self.wait(world, rows=3) == pytest.approx(0.084)

    def test_what_runs_is_half_done(self) -> None:
        world = self.world()
        world.step()
        world.arrive()
        world.run(until=0.0)
        assert self.wait(world) == pytest.approx(0.006)

    def test_cores_that_stages_share_add_up_their_work(self) -> None:
        """34 ms of work on one core for each."""
        world = self.world()
        other = World(world.pipeline, plan(world.pipeline))
        other.share_cores("node", 1)
        other.replica("a-0", "a")
        other.replica("b-0", "b", lanes=2)
        other.step()
        for _ in range(5):
            other.arrive()
        assert self.wait(other) == pytest.approx(0.170)

    def test_a_join_counts_once_per_request_wherever_its_items_are(self) -> None:
        what = pipeline(
            a=stage(variant("v", 1.0, max_batch=1, fan_out={"b": 4})),
            b=stage(variant("v", 1.0, max_batch=1), after="a"),
            c=stage(variant("v", 100.0, max_batch=1), after="b", join="all"),
        )
        world = World(what, plan(what))
        for name in what.stages:
            world.replica(f"{name}-0", name)
        world.step()
        world.arrive()
        assert self.wait(world) == pytest.approx(0.100)
        world.run(until=0.001)
        assert [stage.live for stage in world.dispatcher.stages] == [0, 4, 0]
        assert self.wait(world) == pytest.approx(0.100 * 3.5 / 4), "of four items one runs"
