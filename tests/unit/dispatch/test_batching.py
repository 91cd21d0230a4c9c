"""Which items run together, when, and on which lane, as exact logs of small worlds.

A line is `time what`; times are seconds. Unless a test says otherwise a stage `s` has one variant `v` that takes
10 ms for one item and 2 ms for each further one, and an SLO of 1 s.
"""

from __future__ import annotations

import pytest

from triscale.core.pipeline import Pipeline
from triscale.core.settings import Settings
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World

PER_ITEM = {1: 10.0, 9: 26.0}


def single(slo_ms: float = 1000.0) -> Pipeline:
    return pipeline(slo_ms, s=stage(variant("v", PER_ITEM, max_batch=9)))


def world_of(batch: int = 4, lanes: int = 1, slo_ms: float = 1000.0, *, linger_s: float = 0.0) -> World:
    what = single(slo_ms)
    world = World(what, plan(what, batch=batch, linger_s=linger_s))
    world.replica("s-0", "s", lanes=lanes)
    return world


def test_an_idle_lane_takes_what_there_is_at_once() -> None:
    world = world_of()
    world.arrive()
    world.run()
    assert world.log == ["0 arrive r0", "0 run b0 s/v on s-0: r0", "0.01 done b0", "0.01 end r0 answered"]


def test_what_waits_for_a_lane_is_run_together() -> None:
    world = world_of(batch=4)
    for when in (0.0, 0.001, 0.002):
        world.at(when, world.arrive)
    world.run()
    assert [line for line in world.log if "run" in line] == ["0 run b0 s/v on s-0: r0", "0.01 run b1 s/v on s-0: r1 r2"]


def test_the_earliest_deadline_is_run_first_whoever_came_first() -> None:
    world = world_of(batch=1)
    world.arrive()
    for within in (0.9, 0.3, 0.6):
        world.arrive(within_s=within)
    world.run()
    assert [line.split(": ")[1] for line in world.log if "run" in line] == ["r2", "r3", "r1", "r0"]


def test_an_item_meets_a_lane_only_when_the_lane_is_free() -> None:
    """Late binding: r2 arrives last, has the earliest deadline, and is run before r1, which waited for either lane."""
    world = world_of(batch=1, lanes=1)
    world.at(0.0, world.arrive)
    world.at(0.001, world.arrive)
    world.at(0.002, lambda: world.arrive(within_s=0.5))
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/v on s-0: r0",
        "0.01 run b1 s/v on s-0: r2",
        "0.02 run b2 s/v on s-0: r1",
    ]


def test_batches_are_counted_in_items_not_in_requests() -> None:
    world = world_of(batch=4)
    world.arrive(rows=3)
    world.arrive(rows=3)
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/v on s-0: r0[0] r0[1] r0[2] r1[0]",
        "0.016 run b1 s/v on s-0: r1[1] r1[2]",
    ]
    assert world.dispatcher.accounts.stages[0].sizes == {4: 1, 2: 1}


def test_a_batch_is_never_larger_than_the_variant_takes() -> None:
    what = pipeline(s=stage(variant("v", 10.0, max_batch=2)))
    world = World(what, plan(what, batch=8))
    world.replica("s-0", "s")
    for _ in range(3):
        world.arrive()
    world.run()
    assert world.dispatcher.accounts.stages[0].sizes == {2: 1, 1: 1}


def test_a_batch_shrinks_to_keep_its_head_in_time() -> None:
    """Room for 15 ms once the margin of 5 % of the SLO is off: three items (14 ms), not four (16 ms)."""
    world = world_of(batch=4, lanes=4, slo_ms=100.0)
    for _ in range(4):
        world.arrive(within_s=0.020)
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/v on s-0: r0 r1 r2",
        "0 run b1 s/v on s-0: r3",
    ]
    assert all("answered" in line for line in world.log if "end" in line)


def test_load_spreads_evenly_over_free_lanes() -> None:
    world = world_of(batch=1, lanes=2)
    world.replica("s-1", "s", lanes=1)
    for when in range(6):
        world.at(when * 0.1, world.arrive)
    world.run()
    lanes = [line.split(" on ")[1].split(":")[0] for line in world.log if "run" in line]
    assert lanes == ["s-0", "s-0", "s-1", "s-0", "s-0", "s-1"], "each of the three lanes in turn"


def test_a_lane_lingers_for_company_but_no_longer_than_told() -> None:
    world = world_of(batch=4, linger_s=0.05)
    world.at(0.0, world.arrive)
    world.at(0.02, world.arrive)
    world.run()
    assert world.log == [
        "0 arrive r0",
        "0.02 arrive r1",
        "0.050001 run b0 s/v on s-0: r0 r1",
        "0.062001 done b0",
        "0.062001 end r0 answered",
        "0.062001 end r1 answered",
    ]


def test_a_full_batch_does_not_linger() -> None:
    world = world_of(batch=2, linger_s=0.05)
    world.at(0.0, world.arrive)
    world.at(0.02, world.arrive)
    world.run()
    assert "0.02 run b0 s/v on s-0: r0 r1" in world.log


def test_a_lane_lingers_never_past_the_slack_of_the_head() -> None:
    """Deadline 100 ms, margin 5 ms, a full batch of four takes 16 ms: it must start by 79 ms."""
    world = world_of(batch=4, slo_ms=100.0, linger_s=1.0)
    world.arrive()
    world.run()
    assert [line for line in world.log if "run" in line] == ["0.079001 run b0 s/v on s-0: r0"]
    assert world.log[-1] == "0.089001 end r0 answered"


def test_the_oldest_item_is_what_limits_lingering_though_another_is_more_urgent() -> None:
    world = world_of(batch=4, linger_s=0.05)
    world.at(0.0, world.arrive)
    world.at(0.04, lambda: world.arrive(within_s=0.5))
    world.run()
    assert "0.050001 run b0 s/v on s-0: r1 r0" in world.log


def test_no_lane_is_idle_while_something_waits_that_it_could_run() -> None:
    """Work conserving: the second lane takes what arrives while the first one works."""
    world = world_of(batch=8, lanes=2)
    world.at(0.0, world.arrive)
    world.at(0.001, world.arrive)
    world.at(0.002, world.arrive)
    world.run()
    assert [line for line in world.log if "run" in line] == [
        "0 run b0 s/v on s-0: r0",
        "0.001 run b1 s/v on s-0: r1",
        "0.01 run b2 s/v on s-0: r2",
    ]


class TestUnderPressure:
    """While more waits than there are idle lanes, small batches would waste them.

    Service takes 10 ms + 2 ms per further item: a batch of 8 does 333 items/s, one of 1 only 100.
    """

    def crowd(self, waiting: int, head_s: float, tail_s: float) -> World:
        """A busy lane with this much behind it: one item due in `head_s`, the others in `tail_s`, when it is free."""
        what = pipeline(1000.0, s=stage(variant("v", PER_ITEM, max_batch=8)))
        world = World(what, plan(what, batch=8), settings=Settings(admission=False, margin=0.0))
        world.replica("s-0", "s")
        world.arrive()
        world.run(until=0.001)
        world.arrive(within_s=0.009 + head_s)
        for _ in range(waiting - 1):
            world.arrive(within_s=0.009 + tail_s)
        return world

    def test_a_tight_head_is_run_in_a_small_batch_when_the_rest_can_wait(self) -> None:
        world = self.crowd(waiting=16, head_s=0.013, tail_s=0.5)
        world.run(until=0.01)
        assert "0.01 run b1 s/v on s-0: r1 r2" in world.log

    def test_it_is_given_up_when_the_rest_could_not_wait(self) -> None:
        """16 items need 48 ms of the lane; the last has 60 ms, of which more than half would go into waiting."""
        world = self.crowd(waiting=16, head_s=0.013, tail_s=0.06)
        world.run()
        assert "0.01 end r1 dropped predicted_late at s" in world.log
        assert "0.01 run b1 s/v on s-0: r2 r3 r4 r5 r6 r7 r8 r9" in world.log
        assert world.dispatcher.accounts.outcomes[0] == 16, "everyone else is in time"

    def test_a_shrunk_batch_that_does_nearly_as_much_work_is_fine(self) -> None:
        """Seven items in 22 ms are 318 items/s, more than 95 % of a full batch's 333."""
        world = self.crowd(waiting=16, head_s=0.023, tail_s=0.06)
        world.run(until=0.01)
        assert "0.01 run b1 s/v on s-0: r1 r2 r3 r4 r5 r6 r7" in world.log

    def test_without_dropping_batches_stay_full_although_the_head_will_be_late(self) -> None:
        what = pipeline(1000.0, s=stage(variant("v", PER_ITEM, max_batch=8)))
        world = World(what, plan(what, batch=8), settings=Settings(admission=False, drop="none"))
        world.replica("s-0", "s")
        for _ in range(24):
            world.arrive(within_s=0.02)
        world.run()
        assert world.dispatcher.accounts.stages[0].sizes == {8: 3}


@pytest.mark.parametrize("load", [1.5, 3.0])
def test_goodput_stays_near_capacity_however_high_the_load(load: float) -> None:
    """No congestion collapse. Full batches of 8 on 4 lanes do 4 * 8 / 24 ms = 1333 items/s."""
    what = pipeline(200.0, s=stage(variant("v", {1: 10.0, 8: 24.0}, max_batch=8)))
    world = World(what, plan(what, batch=8), settings=Settings())
    world.replica("s-0", "s", lanes=4)
    rate, seconds = load * 1333.0, 2.0
    for number in range(int(rate * seconds)):
        world.at(number / rate, world.arrive)
    world.run()
    assert world.dispatcher.accounts.outcomes[0] > 0.95 * 1333 * seconds
    assert sum(world.dispatcher.accounts.outcomes[1:3]) == 0, "what is admitted is answered in time"
