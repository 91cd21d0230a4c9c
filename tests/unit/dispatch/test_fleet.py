"""Replicas come, grow, shrink, drain and go under load; lanes of one node share its cores."""

from __future__ import annotations

import math

import pytest

from triscale.core.cluster import ReplicaId
from triscale.core.settings import Settings
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def world_of(lanes: int = 2, *, service_s: float = 0.01) -> World:
    what = pipeline(10_000.0, s=stage(variant("v", service_s * 1000.0)))
    world = World(what, plan(what))
    world.replica("s-0", "s", lanes=lanes)
    return world


def busy(world: World, items: int) -> None:
    """So many items arrive, and what can run does."""
    for _ in range(items):
        world.arrive()
    world.run(until=world.now)


def since(world: World, mark: str) -> list[str]:
    """What happened from a line of the log on, arrivals and ends left out."""
    start = next(index for index, line in enumerate(world.log) if mark in line)
    return [line for line in world.log[start:] if " end " not in line and " arrive " not in line]


def test_new_lanes_take_work_at_once() -> None:
    world = world_of(lanes=1)
    busy(world, 3)
    world.resize("s-0", 3)
    world.run(until=0.0)
    assert len(world.running) == 3
    assert "0 closed s-0 to 3" in world.log, "answered at once: nothing was taken away"


def test_idle_lanes_are_closed_at_once() -> None:
    world = world_of(lanes=3)
    world.resize("s-0", 1)
    world.run()
    assert world.log == ["0 resize s-0 to 1x1", "0 closed s-0 to 1"]


def test_a_busy_lane_is_closed_when_its_batch_is_done() -> None:
    world = world_of(lanes=2)
    world.service_s = lambda batch: 0.01 * (batch.id + 1)
    busy(world, 3)
    world.resize("s-0", 1)
    world.run()
    assert since(world, "resize") == [
        "0 resize s-0 to 1x1",
        "0.01 done b0",
        "0.01 closed s-0 to 1",
        "0.02 done b1",
        "0.02 run b2 s/v on s-0: r2",
        "0.05 done b2",
    ]


def test_a_shrink_to_nothing_leaves_the_replica_to_grow_again() -> None:
    world = world_of(lanes=1)
    world.resize("s-0", 0)
    busy(world, 1)
    assert "0 closed s-0 to 0" in world.log
    world.resize("s-0", 1)
    world.run()
    assert world.log[-1] == "0.01 end r0 answered"


def test_the_newest_of_several_shrinks_is_answered_once() -> None:
    world = world_of(lanes=3)
    busy(world, 3)
    world.resize("s-0", 2)
    world.resize("s-0", 1)
    world.run()
    assert [line for line in world.log if "closed" in line] == ["0.01 closed s-0 to 1"]


def test_a_shrink_overtaken_by_growth_tells_the_lanes_that_there_are() -> None:
    """Whoever waits for the shrink is answered, and sees that there is nothing to take."""
    world = world_of(lanes=3)
    busy(world, 3)
    world.resize("s-0", 1)
    world.resize("s-0", 4)
    world.run(until=0.0)
    assert world.log[-1] == "0 closed s-0 to 4"
    assert world.dispatcher.stages[0].lanes == 4


def test_a_resize_that_changes_nothing_is_answered_at_once() -> None:
    world = world_of(lanes=2)
    world.resize("s-0", 2)
    world.run()
    assert world.log[-1] == "0 closed s-0 to 2"


def test_fewer_threads_hold_when_the_batches_on_more_are_done() -> None:
    world = world_of(lanes=0)
    world.replica("s-1", "s", lanes=2, threads=2)
    busy(world, 1)
    world.resize("s-1", 2, threads=1)
    world.run()
    assert since(world, "resize") == ["0 resize s-1 to 2x1", "0.01 done b0", "0.01 closed s-1 to 2"]


def test_fewer_threads_take_something_away_even_when_lanes_are_added() -> None:
    world = world_of(lanes=0)
    world.replica("s-1", "s", lanes=1, threads=4)
    world.resize("s-1", 3, threads=1)
    world.run()
    assert world.log[-1] == "0 closed s-1 to 3"


def test_the_idle_lanes_are_closed_before_the_busy_ones() -> None:
    world = world_of(lanes=2)
    busy(world, 1)
    world.resize("s-0", 1)
    world.run(until=0.0)
    assert world.log[-1] == "0 closed s-0 to 1", "without waiting for the batch"


def test_a_shrink_is_not_reported_when_another_one_has_begun_at_the_same_instant() -> None:
    world = world_of(lanes=2)
    busy(world, 1)
    world.resize("s-0", 1)
    world.resize("s-0", 0)
    world.run()
    assert [line for line in world.log if "closed" in line] == ["0.01 closed s-0 to 0"]


def test_a_shrink_overtaken_by_a_drain_is_reported_as_drained_only() -> None:
    world = world_of(lanes=2)
    busy(world, 1)
    world.resize("s-0", 1)
    world.drain("s-0")
    world.run()
    assert [line for line in world.log if "closed" in line or "drained" in line] == ["0.01 drained s-0"]


def test_a_draining_replica_gets_no_new_work_and_is_done_with_its_last_batch() -> None:
    world = world_of(lanes=2)
    world.replica("s-1", "s")
    busy(world, 5)
    world.drain("s-0")
    world.run()
    assert since(world, "drain s-0") == [
        "0 drain s-0",
        "0.01 done b0",
        "0.01 done b1",
        "0.01 done b2",
        "0.01 drained s-0",
        "0.01 run b3 s/v on s-1: r3",
        "0.02 done b3",
        "0.02 run b4 s/v on s-1: r4",
        "0.03 done b4",
    ]


def test_an_idle_replica_is_drained_at_once_and_only_once() -> None:
    world = world_of()
    world.drain("s-0")
    world.drain("s-0")
    world.run()
    assert world.log == ["0 drain s-0", "0 drain s-0", "0 drained s-0"]
    assert world.dispatcher.stages[0].replicas == {}


def test_a_draining_replica_does_not_grow_again() -> None:
    world = world_of(lanes=1)
    busy(world, 2)
    world.drain("s-0")
    world.dispatcher.resize(ReplicaId("s-0"), 4, 1, 0.0)
    world.run(until=1.0)
    assert [line for line in world.log if " run " in line] == ["0 run b0 s/v on s-0: r0"]
    assert "0.01 drained s-0" in world.log


def test_a_draining_replica_that_dies_is_lost_and_its_items_run_elsewhere() -> None:
    world = world_of(lanes=1)
    busy(world, 1)
    world.drain("s-0")
    world.lose("s-0")
    world.replica("s-1", "s")
    world.run()
    assert not any("drained" in line for line in world.log)
    assert world.log[-1] == "0.01 end r0 answered"


def test_resizing_or_draining_the_unknown_does_nothing() -> None:
    world = world_of()
    world.dispatcher.resize(ReplicaId("nobody"), 2, 1, 0.0)
    world.dispatcher.drain(ReplicaId("nobody"), 0.0)
    commands = world.step()
    assert (commands.runs, commands.ends, commands.orders) == ([], [], [])


@pytest.mark.parametrize("bad", [("t", ("v",)), ("s", ("w",))])
def test_an_unknown_stage_or_variant_is_refused_and_leaves_no_trace(bad: tuple[str, tuple[str, ...]]) -> None:
    world = world_of(lanes=0)
    stage_name, variants = bad
    with pytest.raises(ValueError):
        world.dispatcher.replica_ready(ReplicaId("s-1"), stage_name, variants, 1, 1, "node", 0.0)
    world.replica("s-1", "s")


def two_variants() -> World:
    what = pipeline(10_000.0, s=stage(variant("good", 10.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.8)))
    return World(what, plan(what))


def test_another_variant_is_used_from_the_next_batch_on() -> None:
    world = two_variants()
    world.replica("s-0", "s", "good", lanes=2)
    busy(world, 3)
    world.dispatcher.variants_changed(ReplicaId("s-0"), ["fast"], world.now)
    world.run()
    assert [line for line in world.log if " run " in line] == [
        "0 run b0 s/good on s-0: r0",
        "0 run b1 s/good on s-0: r1",
        "0.01 run b2 s/fast on s-0: r2",
    ]
    assert world.dispatcher.stages[0].lanes == 2


def test_an_idle_replica_that_holds_another_variant_takes_work_at_once() -> None:
    world = two_variants()
    world.replica("s-0", "s", "fast")
    world.run()
    world.dispatcher.variants_changed(ReplicaId("s-0"), ["fast", "good"], world.now)
    assert world.dispatcher.stages[0].resident == (0, 1)
    busy(world, 1)
    assert len(world.running) == 1


def test_variants_and_lanes_change_together() -> None:
    world = two_variants()
    world.replica("s-0", "s", "good", lanes=2)
    busy(world, 4)
    world.resize("s-0", 1)
    world.dispatcher.variants_changed(ReplicaId("s-0"), ["fast"], world.now)
    world.resize("s-0", 3)
    world.run()
    assert [line.split(" on ")[0] for line in world.log if " run " in line] == [
        "0 run b0 s/good",
        "0 run b1 s/good",
        "0 run b2 s/fast",
        "0.005 run b3 s/fast",
    ]


def test_one_that_is_about_to_hold_what_is_planned_serves_meanwhile_and_one_that_is_not_is_spare() -> None:
    for changing, lanes_used in ((True, 2), (False, 1)):
        world = two_variants()  # the plan is for `good`
        world.replica("s-0", "s", "good")
        world.replica("s-1", "s", "fast")
        world.dispatcher.variants_changed(ReplicaId("s-1"), ["fast"], world.now, changing=changing)
        world.run()
        busy(world, 2)
        assert len(world.running) == lanes_used


def test_lanes_that_serve_meanwhile_do_as_much_as_their_number_says() -> None:
    world = two_variants()
    world.replica("s-0", "s", "good")
    world.replica("s-1", "s", "fast", lanes=3)
    world.dispatcher.variants_changed(ReplicaId("s-1"), ["fast"], world.now, changing=True)
    assert world.dispatcher.stages[0].routes[0].shares == [0.25, 0.75]
    world.resize("s-1", 1)
    assert world.dispatcher.stages[0].routes[0].shares == [0.5, 0.5]
    world.dispatcher.variants_changed(ReplicaId("s-1"), ["good"], world.now)
    assert world.dispatcher.stages[0].routes[0].shares == [1.0, 0.0]


def test_only_variants_that_there_are_can_be_held() -> None:
    world = two_variants()
    world.replica("s-0", "s", "good")
    for variants in ([], ["best"]):
        with pytest.raises(ValueError):
            world.dispatcher.variants_changed(ReplicaId("s-0"), variants, world.now)
    world.dispatcher.variants_changed(ReplicaId("unknown"), ["fast"], world.now)
    assert world.dispatcher.stages[0].resident == (0,)


class TestSharedCores:
    """Two stages whose lanes share the cores of a node."""

    def world(self, cores: float, *, threads: int = 1, slo_ms: float = 10_000.0) -> World:
        what = pipeline(slo_ms, a=stage(variant("v", 10.0)), b=stage(variant("v", 10.0), after="a"))
        world = World(what, plan(what))
        world.share_cores("node", cores)
        world.replica("a-0", "a", lanes=4, threads=threads)
        world.replica("b-0", "b", lanes=4)
        return world

    def test_no_more_lanes_run_than_there_are_cores(self) -> None:
        """The world raises when more do."""
        world = self.world(cores=3)
        busy(world, 12)
        assert len(world.running) == 3
        world.run()
        assert world.dispatcher.accounts.outcomes[0] == 12

    def test_the_earliest_deadline_gets_the_core_whichever_its_stage(self) -> None:
        world = self.world(cores=1)
        world.arrive(within_s=5.0)
        world.run(until=0.001)
        world.arrive(within_s=1.0)
        world.arrive(within_s=9.0)
        world.run()
        assert [line.split(": ")[1] for line in world.log if " run " in line] == ["r0", "r1", "r1/", "r0/", "r2", "r2/"]

    def test_a_lane_of_several_threads_takes_as_many_cores(self) -> None:
        world = self.world(cores=3, threads=2)
        busy(world, 4)
        assert [batch.stage for batch in world.running.values()] == [0]

    def test_a_wide_lane_is_not_starved_by_narrow_ones_with_later_deadlines(self) -> None:
        """The two cores become free at 20 and at 23 ms. Six items at `b` wait for either; r1 at `a` needs both."""
        world = self.world(cores=2, threads=2)
        world.emits = lambda item, _: [6] * (item.stage == 0)
        world.service_s = lambda batch: 0.013 if batch.id == 2 else 0.01
        world.arrive(within_s=9.0)
        world.run(until=0.012)
        world.arrive(within_s=1.0)
        world.run(until=0.03)
        assert [line.split(" ")[0] for line in world.log if " a/" in line] == ["0", "0.023"]

    def test_cores_taken_away_are_free_when_enough_batches_are_done(self) -> None:
        world = self.world(cores=4)
        busy(world, 8)
        world.share_cores("node", 1)
        world.run(until=0.01)
        assert len(world.running) == 1
        world.run()
        assert world.dispatcher.accounts.outcomes[0] == 8

    def test_nodes_are_filled_evenly(self) -> None:
        what = pipeline(10_000.0, s=stage(variant("v", 10.0)))
        world = World(what, plan(what))
        for node in ("n0", "n1"):
            world.share_cores(node, 2)
            world.replica(f"on-{node}", "s", lanes=2, node=node)
        busy(world, 2)
        assert {batch.lane.replica.node for batch in world.running.values()} == {"n0", "n1"}

    def test_the_cores_of_a_lost_replica_are_free_again(self) -> None:
        world = self.world(cores=1)
        world.service_s = lambda batch: math.inf if batch.id == 0 else 0.01
        busy(world, 1)
        world.lose("a-0")
        world.replica("a-1", "a")
        world.run()
        assert world.dispatcher.accounts.outcomes[0] == 1


def test_the_predicted_time_of_a_burst_counts_the_lanes_that_cores_allow() -> None:
    """Four items on four lanes take 10 ms, on four lanes that share two cores 20 ms."""
    what = pipeline(
        10_000.0, a=stage(variant("v", 10.0, fan_out={"b": 4})), b=stage(variant("v", 10.0, max_batch=1), after="a")
    )
    for cores, planned in ((4, 0.010), (2, 0.020)):
        world = World(what, plan(what), settings=Settings(admission=False))
        world.share_cores("node", cores)
        world.replica("a-0", "a", lanes=4)
        world.replica("b-0", "b", lanes=4)
        world.step()
        assert world.dispatcher.outlook.planned[0] == pytest.approx(planned)
        assert world.dispatcher.outlook.least[0] == pytest.approx(0.010 + planned)
