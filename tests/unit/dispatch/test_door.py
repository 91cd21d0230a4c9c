"""Admission: what is refused at the door, why, and when it is worth trying again."""

from __future__ import annotations

import msgspec
import pytest

from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.dispatch.work import Request
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def world_of(*, lanes: int = 1, **settings: object) -> World:
    """An item takes 10 ms, alone or in a batch of two; the SLO is 100 ms."""
    what = pipeline(100.0, s=stage(variant("v", 10.0, max_batch=2)))
    world = World(what, plan(what, batch=2), settings=Settings(**settings))  # type: ignore[arg-type]
    if lanes:
        world.replica("s-0", "s", lanes=lanes)
    return world


def refusal(request: Request) -> tuple[Outcome | None, Reason]:
    return request.outcome, request.reason


def test_a_request_is_refused_when_it_would_be_late_behind_what_was_admitted() -> None:
    """5 ms per item: behind n of them one waits for n * 5 ms, and takes 10 ms itself; 18 are the most."""
    world = world_of()
    requests = [world.arrive() for _ in range(25)]
    world.run()
    admitted = [request for request in requests if request.outcome is Outcome.ANSWERED]
    assert len(admitted) == 19
    assert {refusal(request) for request in requests[19:]} == {(Outcome.SHED, Reason.OVERLOADED)}


def test_cores_that_would_be_there_in_time_count_from_then_on() -> None:
    """5 ms of work per item; after 20 ms four cores do it: 20 + 70 * 4 = 300 ms of it are done 10 ms before the end."""
    what = pipeline(100.0, s=stage(variant("v", 10.0, max_batch=2)))
    now = msgspec.structs.replace(plan(what, batch=2), shared_cores=1.0)
    grows = msgspec.structs.replace(now, spare_cores=3.0, spare_after_s=0.02)
    admitted = []
    for it in (now, grows):
        world = World(what, it, settings=Settings())
        world.share_cores("node", 1)
        world.replica("s-0", "s", lanes=4)
        admitted.append(sum(world.arrive().outcome is None for _ in range(100)))
    assert admitted == [19, 61]


def test_few_that_wait_are_not_predicted_to_run_in_full_batches() -> None:
    """Alone an item takes 10 ms, one of a full batch 80 ms: behind one item on each lane it is in time all the same."""
    what = pipeline(100.0, s=stage(variant("v", {1: 10.0, 8: 80.0}, max_batch=8)))
    world = World(what, plan(what, batch=8), settings=Settings())
    world.replica("s-0", "s", lanes=4)
    requests = [world.arrive() for _ in range(12)]
    world.run()
    assert {request.outcome for request in requests} == {Outcome.ANSWERED}


def test_a_refused_request_ends_at_once_and_is_told_when_to_try_again() -> None:
    """Behind 19 items, 95 ms of work, 105 ms would be needed: 5 ms too much."""
    world = world_of()
    for _ in range(19):
        world.arrive()
    late = world.arrive()
    assert late.outcome is Outcome.SHED
    assert late.retry_after_s == pytest.approx(0.005)
    assert late.stage == -1
    world.step()
    assert "0 end r19 shed overloaded" in world.log


def test_a_retry_after_that_time_is_admitted() -> None:
    world = world_of()
    for _ in range(19):
        world.arrive()
    late = world.arrive()
    world.at(late.retry_after_s + 0.01, world.arrive)
    world.run()
    assert world.requests[-1].outcome is Outcome.ANSWERED


def test_a_request_of_many_rows_waits_for_its_own_rows_too() -> None:
    world = world_of()
    assert world.arrive(rows=19).outcome is None
    assert refusal(world_of().arrive(rows=21)) == (Outcome.SHED, Reason.OVERLOADED)


def test_a_deadline_shorter_than_the_fastest_path_is_too_tight() -> None:
    world = world_of()
    request = world.arrive(within_s=0.009)
    assert refusal(request) == (Outcome.SHED, Reason.TOO_TIGHT)
    assert request.retry_after_s == 0.0
    assert world.arrive(within_s=0.011).outcome is None


def test_the_fastest_path_counts_the_fastest_variant_of_every_stage() -> None:
    what = pipeline(
        a=stage(variant("slow", 50.0), variant("fast", 10.0)),
        b=stage(variant("slow", 90.0), variant("fast", 30.0), after="a"),
    )
    world = World(what, plan(what), settings=Settings())
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    assert world.arrive(within_s=0.039).reason is Reason.TOO_TIGHT
    assert world.arrive(within_s=0.041).outcome is None


def test_a_stage_without_lanes_is_waited_for_no_longer_than_a_request_may_take() -> None:
    world = world_of(lanes=0)
    world.at(0.1, world.arrive)
    world.at(0.101, world.arrive)
    world.run()
    assert "0.101 end r1 shed no_capacity" in world.log
    assert world.requests[0].reason is not Reason.NO_CAPACITY
    assert world.requests[1].retry_after_s == 1.0


def test_a_lost_replica_counts_from_its_loss_on_and_a_new_one_ends_it() -> None:
    world = world_of()
    world.at(5.0, lambda: world.lose("s-0"))
    world.at(5.05, world.arrive)
    world.at(5.2, world.arrive)
    world.at(5.3, lambda: world.replica("s-1", "s"))
    world.at(5.3, world.arrive)
    world.run()
    assert [request.reason for request in world.requests] == [Reason.PREDICTED_LATE, Reason.NO_CAPACITY, Reason.NONE]


def test_so_many_requests_and_no_more_are_in_the_system() -> None:
    world = world_of(max_requests=3, admission=False)
    requests = [world.arrive() for _ in range(4)]
    assert [request.outcome for request in requests] == [None, None, None, Outcome.SHED]
    assert requests[3].reason is Reason.QUEUE_FULL
    assert requests[3].retry_after_s == pytest.approx(0.015), "the time to work off three items at 5 ms"
    world.run()
    assert world.arrive().outcome is None


def test_without_admission_nothing_else_is_refused() -> None:
    world = world_of(lanes=0, admission=False)
    world.at(5.0, lambda: world.arrive(within_s=0.001))
    world.run()
    assert world.requests[0].outcome is Outcome.DROPPED


class TestThePlanSheds:
    """The plan carries half of 100 requests/s: 50/s, in bursts of at most half an SLO's worth, which is 2.5."""

    def world(self, served: float = 0.5, capacity: float = 50.0) -> World:
        what = pipeline(100.0, s=stage(variant("v", 1.0)))
        shedding = plan(what, served_fraction=served, capacity=capacity, demand=100.0)
        world = World(what, shedding, settings=Settings())
        world.replica("s-0", "s", lanes=4)
        return world

    def admitted(self, world: World) -> int:
        return world.dispatcher.accounts.outcomes[Outcome.ANSWERED]

    def test_the_excess_is_refused(self) -> None:
        world = self.world()
        for number in range(200):
            world.at(number * 0.010, world.arrive)
        world.run()
        assert self.admitted(world) == pytest.approx(100, abs=3)
        assert world.dispatcher.accounts.causes[(Outcome.SHED, -1, Reason.PLAN_SHEDS)] == 200 - self.admitted(world)

    def test_the_next_free_place_is_named(self) -> None:
        world = self.world()
        requests = [world.arrive() for _ in range(3)]
        assert [request.outcome for request in requests] == [None, None, Outcome.SHED]
        assert requests[2].retry_after_s == pytest.approx(0.010), "half a request at 50/s"

    def test_a_renewed_plan_is_no_new_burst(self) -> None:
        """Plans come every second or so: a full bucket each time would admit far more than the plan carries."""
        world = self.world()
        for number in range(200):
            world.at(number * 0.010, world.arrive)
            world.at(number * 0.010, lambda: world.dispatcher.follow(world.dispatcher.plan, world.now))
        world.run()
        assert self.admitted(world) == pytest.approx(100, abs=3)

    def test_without_a_known_capacity_the_served_part_of_the_demand_counts(self) -> None:
        world = self.world(served=0.25, capacity=0.0)
        for number in range(200):
            world.at(number * 0.010, world.arrive)
        world.run()
        assert self.admitted(world) == pytest.approx(50, abs=3)

    def test_a_plan_that_serves_everything_sheds_nothing(self) -> None:
        world = self.world(served=1.0)
        for number in range(200):
            world.at(number * 0.002, world.arrive)
        world.run()
        assert self.admitted(world) == 200
