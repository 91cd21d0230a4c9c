"""Failures: of a batch, of an item, of a replica, of a lane that hangs. Nothing is lost, nobody else pays."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from triscale.core.cluster import ReplicaId
from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.dispatch.work import Request
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def world_of(
    *, retries: int = 2, lanes: int = 1, replicas: int = 1, partial: Literal["allow", "deny"] = "deny"
) -> World:
    what: Pipeline = pipeline(1000.0, s=stage(variant("v", 10.0)), retries=retries, partial=partial)
    quick = Settings(admission=False, hang_factor=3.0, hang_floor_s=0.1, margin=0.0)
    world = World(what, plan(what, batch=4), settings=quick)
    for number in range(replicas):
        world.replica(f"s-{number}", "s", lanes=lanes)
    return world


def why(request: Request) -> tuple[Outcome | None, Reason, int]:
    return request.outcome, request.reason, request.stage


def runs(world: World) -> list[str]:
    return [line for line in world.log if " run " in line]


def poisoned(world: World, number: int) -> None:
    """Batches with an item of this request fail."""
    world.outcome_of = lambda b: "cannot read it" if any(i.request.id == number for i in b.items) else None


def test_items_of_a_failed_batch_are_run_once_more_each_alone() -> None:
    world = world_of(lanes=3)
    poisoned(world, 1)
    first = world.arrive()
    culprit = world.arrive()
    third = world.arrive()
    world.run()
    assert runs(world) == [
        "0 run b0 s/v on s-0: r0 r1 r2",
        "0.01 run b1 s/v on s-0: r0",
        "0.01 run b2 s/v on s-0: r1",
        "0.01 run b3 s/v on s-0: r2",
    ]
    assert (first.outcome, third.outcome) == (Outcome.ANSWERED, Outcome.ANSWERED)
    assert why(culprit) == (Outcome.FAILED, Reason.MODEL_ERROR, 0)
    assert culprit.message == "cannot read it"
    assert world.dispatcher.accounts.stages[0].requeued == 3


def test_an_item_that_failed_alone_is_not_tried_again() -> None:
    world = world_of()
    poisoned(world, 0)
    world.arrive()
    world.run()
    assert world.log[-1] == "0.01 end r0 failed model_error at s"
    assert len(runs(world)) == 1


def test_an_item_to_be_run_alone_gets_no_company_and_gives_none() -> None:
    world = world_of(lanes=1)
    poisoned(world, 1)
    for _ in range(2):
        world.arrive()
    world.at(0.005, lambda: world.arrive(within_s=0.1))
    world.at(0.005, world.arrive)
    world.run()
    assert [line.split(": ")[1] for line in runs(world)] == ["r0 r1", "r2", "r0", "r1", "r3"]


def test_a_batch_with_the_wrong_number_of_results_has_failed() -> None:
    world = world_of()
    request = world.arrive()
    world.run(until=0.0)
    world.dispatcher.batch_done(0, [], 0.005)
    world.run(until=0.005)
    assert request.message == "0 results came back for 1 items"
    assert why(request) == (Outcome.FAILED, Reason.MODEL_ERROR, 0)


def test_a_refused_item_fails_its_request_and_no_other() -> None:
    world = world_of()
    world.rejects = lambda item: "not an image" if item.request.id == 1 else None
    others = [world.arrive(), world.arrive(), world.arrive()]
    world.run()
    assert [request.outcome for request in others] == [Outcome.ANSWERED, Outcome.FAILED, Outcome.ANSWERED]
    assert (others[1].reason, others[1].message) == (Reason.REJECTED, "not an image")
    assert len(runs(world)) == 1, "nothing is run again"


def test_what_a_lost_replica_ran_is_run_elsewhere_with_the_same_deadline() -> None:
    world = world_of(replicas=2)
    early = world.arrive(within_s=0.5)
    world.at(0.002, lambda: world.arrive(within_s=0.9))
    world.at(0.003, lambda: world.arrive(within_s=0.7))
    world.at(0.005, lambda: world.lose("s-0"))
    world.run()
    assert world.log[:8] == [
        "0 arrive r0",
        "0 run b0 s/v on s-0: r0",
        "0.002 arrive r1",
        "0.002 run b1 s/v on s-1: r1",
        "0.003 arrive r2",
        "0.005 lose s-0",
        "0.01 done b0 too late",
        "0.012 done b1",
    ]
    assert world.log[8] == "0.012 run b2 s/v on s-1: r0 r2", "r0 has kept its deadline, the earliest"
    assert early.deadline == 0.5
    assert all(request.outcome is Outcome.ANSWERED for request in world.requests)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_an_item_is_run_again_at_most_so_often(retries: int) -> None:
    world = world_of(retries=retries, replicas=4)
    request = world.arrive()
    world.run(until=0.0)
    for number in range(retries + 1):
        world.lose(world.running[number].lane.replica.id)
        world.step()
    assert why(request) == (Outcome.FAILED, Reason.REPLICA_LOST, 0)
    assert len(runs(world)) == retries + 1


def test_the_last_try_is_alone_so_that_only_the_culprit_fails() -> None:
    """r1 kills whatever runs it. r0 shares its first two tries and survives the third."""
    world = world_of(retries=2, replicas=4)
    first, culprit = world.arrive(), world.arrive()
    world.run(until=0.0)
    for number in (0, 1):
        world.lose(world.running[number].lane.replica.id)
        world.step()
    alone = next(batch for batch in world.running.values() if batch.items[0].request is culprit)
    world.lose(alone.lane.replica.id)
    world.run()
    assert [line.split(": ")[1] for line in runs(world)] == ["r0 r1", "r0 r1", "r0", "r1"]
    assert first.outcome is Outcome.ANSWERED
    assert why(culprit) == (Outcome.FAILED, Reason.REPLICA_LOST, 0)


def test_a_failed_batch_does_not_use_up_the_retries() -> None:
    """They are for replicas that die: here one try each is left after the batch failed."""
    world = world_of(retries=1, replicas=2)
    world.outcome_of = lambda batch: "broken" if len(batch.items) > 1 else None
    world.arrive()
    world.arrive()
    world.run(until=0.012)
    world.lose("s-0")
    world.run()
    assert all(request.outcome is Outcome.ANSWERED for request in world.requests)


def test_an_item_under_suspicion_stays_alone_though_its_replica_dies() -> None:
    world = world_of(retries=2, replicas=2)
    world.outcome_of = lambda batch: "broken" if len(batch.items) > 1 else None
    for _ in range(2):
        world.arrive()
    world.run(until=0.012)
    world.lose("s-0")
    world.lose("s-1")
    world.replica("s-2", "s")
    world.run()
    assert [line.split(": ")[1] for line in runs(world)] == ["r0 r1", "r0", "r1", "r0", "r1"]


def test_an_item_that_is_run_again_waits_from_then_on() -> None:
    world = world_of(replicas=2)
    world.arrive()
    world.run(until=0.004)
    world.lose("s-0")
    world.step()
    (batch,) = world.running.values()
    assert (batch.started, batch.items[0].since) == (0.004, 0.004)


def test_a_hung_batch_has_its_replica_killed_and_is_run_elsewhere() -> None:
    """It may take max(0.1 s, 3 times the 10 ms that were predicted)."""
    world = world_of(replicas=2)
    world.service_s = lambda batch: math.inf if batch.id == 0 else 0.01
    world.arrive()
    world.run()
    assert world.log == [
        "0 arrive r0",
        "0 run b0 s/v on s-0: r0",
        "0.1 kill s-0: a batch of 1 items ran for 0.1 s",
        "0.1 run b1 s/v on s-1: r0",
        "0.11 done b1",
        "0.11 end r0 answered",
    ]


def test_a_request_that_hangs_every_time_fails_as_hung() -> None:
    world = world_of(retries=1, replicas=2)
    world.service_s = lambda _: math.inf
    request = world.arrive()
    world.run()
    assert why(request) == (Outcome.FAILED, Reason.MODEL_HUNG, 0)
    assert [line for line in world.log if "kill" in line] == [
        "0.1 kill s-0: a batch of 1 items ran for 0.1 s",
        "0.2 kill s-1: a batch of 1 items ran for 0.1 s",
    ]


def test_results_of_a_replica_that_was_given_up_are_ignored() -> None:
    world = world_of(replicas=2)
    world.service_s = lambda batch: 0.15 if batch.id == 0 else 0.1
    world.arrive()
    world.run()
    assert world.log[-3:] == ["0.15 done b0 too late", "0.2 done b1", "0.2 end r0 answered"]
    assert world.dispatcher.accounts.stages[0].completed == 1


def test_losing_a_replica_twice_or_an_unknown_one_does_nothing() -> None:
    world = world_of(replicas=2)
    world.arrive()
    world.run(until=0.0)
    for name in ("s-0", "s-0", "nobody"):
        world.dispatcher.replica_lost(ReplicaId(name), 0.0)
    world.step()
    assert len(runs(world)) == 2


def test_an_id_may_be_used_again_after_its_replica_was_lost_but_not_before() -> None:
    world = world_of()
    with pytest.raises(ValueError, match="replica 's-0' is already known"):
        world.replica("s-0", "s")
    world.lose("s-0")
    world.replica("s-0", "s")
    world.arrive()
    world.run()
    assert world.log[-1] == "0.01 end r0 answered"


def test_a_replica_must_hold_a_variant() -> None:
    world = world_of()
    with pytest.raises(ValueError, match="replica 's-9' of stage 's' holds no variant; name at least one"):
        world.dispatcher.replica_ready(ReplicaId("s-9"), "s", (), 1, 1, "node", 0.0)


def test_a_cancelled_request_is_not_run_any_more_and_ends_once() -> None:
    world = world_of()
    running, waiting = world.arrive(), None
    world.run(until=0.001)
    waiting = world.arrive()
    world.run(until=0.002)
    world.cancel(waiting)
    world.cancel(running)
    world.cancel(running)
    world.run()
    assert world.log[2:] == [
        "0.001 arrive r1",
        "0.002 cancel r1",
        "0.002 cancel r0",
        "0.002 cancel r0",
        "0.002 end r1 cancelled client_gone",
        "0.002 end r0 cancelled client_gone",
        "0.01 done b0",
    ]
    assert world.dispatcher.accounts.stages[0].abandoned == 2


def test_items_of_ended_requests_are_not_run_again_when_their_batch_fails() -> None:
    world = world_of()
    world.outcome_of = lambda _: "broken"
    gone, stays = world.arrive(), world.arrive()
    world.run(until=0.001)
    world.cancel(gone)
    world.run()
    assert [line.split(": ")[1] for line in runs(world)] == ["r0 r1", "r1"]
    assert why(stays) == (Outcome.FAILED, Reason.MODEL_ERROR, 0)


def test_stopping_fails_everything_that_is_live_in_the_order_of_arrival() -> None:
    world = world_of()
    for _ in range(6):
        world.arrive()
    world.run(until=0.001)
    world.dispatcher.abort(Reason.SHUTDOWN, world.now)
    world.run()
    assert [line for line in world.log if "end" in line] == [f"0.001 end r{n} failed shutdown" for n in range(6)]


def test_the_outputs_of_a_request_that_was_not_answered_are_let_go() -> None:
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 2})), b=stage(variant("v", 10.0), after="a"))
    world = World(what, plan(what))
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    request = world.arrive()
    world.run(until=0.02)
    assert len(request.outputs) == 1
    world.cancel(request)
    assert request.outputs == []
