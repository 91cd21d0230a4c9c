"""The test kit itself: what it lets a test do, and that it notices a dispatcher that breaks its promises."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import pytest

from triscale.core.pipeline import Pipeline
from triscale.dispatch.commands import Commands
from triscale.testing.builders import TableTimes, pipeline, plan, stage, variant
from triscale.testing.clock import ManualClock
from triscale.testing.world import World, WorldError


def simple() -> Pipeline:
    return pipeline(s=stage(variant("v", 10.0)))


def world_of(lanes: int = 1, *, probe: bool = False) -> World:
    world = World(simple(), probe=probe)
    world.replica("s-0", "s", lanes=lanes)
    return world


def test_a_world_runs_until_nothing_is_left_to_happen() -> None:
    world = world_of()
    world.at(0.5, world.arrive)
    world.run()
    assert world.log == ["0.5 arrive r0", "0.5 run b0 s/v on s-0: r0", "0.51 done b0", "0.51 end r0 answered"]
    assert world.now == 0.51


def test_time_stops_where_it_is_told_to() -> None:
    world = world_of()
    world.arrive()
    world.run(until=0.004)
    assert (world.now, len(world.running)) == (0.004, 1)
    world.run(until=0.02)
    assert (world.now, len(world.running)) == (0.02, 0)


def test_things_of_one_instant_happen_in_the_order_they_were_asked_for() -> None:
    world = world_of()
    order: list[str] = []
    for name in "abc":
        world.at(1.0, functools.partial(order.append, name))
    world.run()
    assert order == ["a", "b", "c"]


def test_fractional_fan_out_is_drawn_from_the_given_generator() -> None:
    what = pipeline(a=stage(variant("v", 1.0, fan_out={"b": 2.5})), b=stage(variant("v", 1.0), after="a"))
    world = World(what, rng=random.Random(1))
    world.replica("a-0", "a")
    world.replica("b-0", "b", lanes=8)
    for number in range(200):
        world.at(number * 0.01, world.arrive)
    world.run()
    assert world.dispatcher.accounts.stages[1].entered == pytest.approx(500, abs=30)


Break = Callable[[World, Commands], None]


def broken(world: World, how: Break) -> None:
    """Let the dispatcher's step do something that it must not."""
    step = world.dispatcher.step

    def wrong(now: float) -> Commands:
        commands = step(now)
        how(world, commands)
        return commands

    world.dispatcher.step = wrong  # type: ignore[method-assign]


def test_a_batch_on_a_busy_lane_is_noticed() -> None:
    world = world_of()
    broken(world, lambda _, commands: commands.runs.extend(commands.runs))
    world.arrive()
    with pytest.raises(
        WorldError, match=r"t=0.0: Batch\(0, stage 0, variant 0, 1 items\) was put on a lane of s-0 that"
    ):
        world.run()


def test_a_request_that_ends_twice_is_noticed() -> None:
    world = world_of()
    broken(world, lambda _, commands: commands.ends.extend(commands.ends))
    world.arrive()
    with pytest.raises(WorldError, match=r"t=0.01: Request\(0, answered\) ended twice"):
        world.run()


def test_accounts_out_of_balance_are_noticed() -> None:
    world = world_of()

    def forget(world: World, _: Commands) -> None:
        world.dispatcher.accounts.stages[0].entered = 7

    broken(world, forget)
    with pytest.raises(WorldError, match=r"t=0.0: stage 0: 7 items entered, but 0 are live and 0 left"):
        world.run()


def test_more_lanes_than_a_replica_has_are_noticed() -> None:
    world = world_of(lanes=2)
    world._most_lanes["s-0"] = 1  # type: ignore[index]
    world.arrive()
    world.arrive()
    with pytest.raises(WorldError, match=r"t=0.0: s-0 runs 2 of 1 lanes"):
        world.run()


def test_more_cores_than_a_node_shares_are_noticed() -> None:
    world = world_of(lanes=2)
    world._cores["node"] = 1
    world.arrive()
    world.arrive()
    with pytest.raises(WorldError, match=r"t=0.0: 2 of the 1 cores of node run"):
        world.run()


def test_a_livelock_is_noticed() -> None:
    world = world_of()
    world.dispatcher.next_wakeup = lambda: 0.25  # type: ignore[method-assign]
    with pytest.raises(WorldError, match=r"woke at t=0.25 and asked to be woken at t=0.25 again"):
        world.run()


def test_wakeups_that_never_do_anything_are_noticed() -> None:
    world = world_of()
    world.dispatcher.next_wakeup = lambda: world.now + 0.001  # type: ignore[method-assign]
    with pytest.raises(WorldError, match=r"101 wakeups in a row did nothing"):
        world.run()


def test_a_lost_wakeup_is_noticed_by_probing() -> None:
    """The second request waits for the only lane, becomes hopeless after 5 ms, and nobody asks to be woken for it."""
    world = world_of(probe=True)
    world.service_s = lambda _: math.inf
    world.arrive()
    world.run(until=0.0)
    world.arrive(within_s=0.015)
    world.dispatcher.next_wakeup = lambda: 9.0  # type: ignore[method-assign]
    with pytest.raises(WorldError, match=r"did something that no wakeup was asked for after t="):
        world.run()


def test_a_decision_put_off_to_a_second_step_is_noticed() -> None:
    world = world_of()
    step = world.dispatcher.step
    late: list[Commands] = []

    def wrong(now: float) -> Commands:
        commands = step(now)
        late.append(commands)
        return Commands([], [], []) if len(late) == 1 else late[-2]

    world.dispatcher.step = wrong  # type: ignore[method-assign]
    world.arrive()
    with pytest.raises(WorldError, match=r"t=0.0: a second step at the same instant did something"):
        world.run()


def test_a_table_of_times_is_straight_between_its_points_and_flat_beyond() -> None:
    times = TableTimes({1: 10.0, 5: 30.0})
    assert [times.predict(batch) for batch in (0, 1, 3, 5, 9)] == pytest.approx([0.01, 0.01, 0.02, 0.03, 0.03])
    times.observe(3, 0.5)
    assert times.observed == [(3, 0.5)]
    assert times.typical(3) == times.predict(3), "a table does not learn"


def test_a_plan_gives_what_is_not_named_to_the_first_variant() -> None:
    what = pipeline(a=stage(variant("x", 1.0), variant("y", 1.0)), b=stage(variant("z", 1.0), after="a"))
    made = plan(what, {"a": {"y": 1.0}}, batch={"b": 4})
    assert {name: variant.share for name, variant in made.stages["a"].variants.items()} == {"y": 1.0}
    assert made.stages["b"].variants["z"].batch == 4
    assert made.stages["a"].variants["y"].batch == 1


class TestManualClock:
    def test_it_moves_only_when_told_to(self) -> None:
        clock = ManualClock(5.0)
        assert clock.now() == clock.now() == 5.0
        assert clock.advance(0.5) == clock.now() == 5.5
        assert clock.move_to(7.0) == clock.now() == 7.0

    def test_it_never_goes_back(self) -> None:
        clock = ManualClock(5.0)
        with pytest.raises(ValueError, match=r"a clock never goes back, but was asked to by 1.0 s"):
            clock.advance(-1.0)
        with pytest.raises(ValueError, match=r"a clock never goes back, but it is 5.0 s and was asked to be 4.0 s"):
            clock.move_to(4.0)
