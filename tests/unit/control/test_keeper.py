"""The keeper makes what runs equal to the plan, replaces what dies, and does each thing in the safe order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from triscale.control.keeper import Keeper
from triscale.core.cluster import Replica, ReplicaId, Resized, Resizing
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.errors import EngineError
from triscale.testing.fake_engine import FakeEngine

A1, A2, A3 = ReplicaId("a-1"), ReplicaId("a-2"), ReplicaId("a-3")


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class FakeFleet:
    """Records what it is told, in one list with the engine's calls."""

    def __init__(self, calls: list[tuple[object, ...]]) -> None:
        self.calls = calls

    def attach(self, replica: Replica) -> None:
        self.calls.append(("attach", replica.spec.id))

    def detach(self, replica: ReplicaId, reason: str) -> None:
        self.calls.append(("detach", replica, reason))

    def follow(self, plan: Plan) -> None:
        self.calls.append(("follow",))

    def resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        self.calls.append(("lanes", replica, lanes, threads))

    def lanes_closed(self, replica: ReplicaId) -> Awaitable[None]:
        return self._done("closed", replica)

    def drain(self, replica: ReplicaId) -> Awaitable[None]:
        self.calls.append(("stop work", replica))
        return self._done("idle", replica)

    async def _done(self, what: str, replica: ReplicaId) -> None:
        self.calls.append((what, replica))


class Scene:
    """A keeper, its fakes, and a sleep that only records."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.clock = Clock()
        self.slept: list[float] = []
        self.keeper = Keeper(self.engine, FakeFleet(self.engine.calls), self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def plan(lanes: int = 2, replicas: int = 1) -> Plan:
    group = ReplicaGroup(variants=("v",), replicas=replicas, lanes=lanes)
    return Plan(stages={"a": StagePlan(variants={"v": VariantPlan(share=1.0)}, groups=(group,))})


def scene(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        it = Scene()
        watch = asyncio.create_task(it.keeper.watch())
        await it.settle()
        try:
            await test(it)
        finally:
            await it.keeper.close()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    def wrapped() -> None:
        asyncio.run(run())

    wrapped.__name__ = test.__name__
    return wrapped


@scene
async def test_a_plan_is_carried_out(it: Scene) -> None:
    await it.keeper.apply(plan())
    assert it.engine.calls == [("launch", A1), ("attach", A1), ("follow",)]
    assert [replica.spec.id for replica in it.keeper.running] == [A1]


@scene
async def test_to_grow_cores_come_before_lanes(it: Scene) -> None:
    await it.keeper.apply(plan(lanes=1))
    it.engine.calls.clear()
    await it.keeper.apply(plan(lanes=3))
    assert it.engine.calls == [("resize", A1, 3, 1), ("lanes", A1, 3, 1), ("follow",)]


@scene
async def test_to_shrink_lanes_finish_before_cores_go(it: Scene) -> None:
    await it.keeper.apply(plan(lanes=3))
    it.engine.calls.clear()
    await it.keeper.apply(plan(lanes=1))
    assert it.engine.calls == [
        ("follow",),
        ("lanes", A1, 1, 1),
        ("closed", A1),
        ("resize", A1, 1, 1),
        ("lanes", A1, 1, 1),
    ]


@scene
async def test_a_replica_that_is_not_wanted_finishes_its_work_before_it_is_stopped(it: Scene) -> None:
    await it.keeper.apply(plan(replicas=2))
    it.engine.calls.clear()
    await it.keeper.apply(plan(replicas=1))
    await it.settle()
    assert it.engine.calls == [
        ("follow",),
        ("stop work", A2),
        ("idle", A2),
        ("drain", A2, 30.0),
        ("detach", A2, "drained"),
    ]
    assert [replica.spec.id for replica in it.keeper.running] == [A1]


@scene
async def test_a_replica_that_dies_is_replaced_at_once(it: Scene) -> None:
    await it.keeper.apply(plan())
    it.engine.calls.clear()
    it.engine.crash(A1)
    await it.settle()
    assert it.engine.calls == [("detach", A1, "killed by SIGKILL"), ("launch", A2), ("attach", A2)]
    assert it.slept == []


@scene
async def test_one_that_dies_again_and_again_is_relaunched_more_and_more_slowly(it: Scene) -> None:
    await it.keeper.apply(plan())
    for number in range(1, 13):
        it.engine.crash(ReplicaId(f"a-{number}"))
        await it.settle()
    assert it.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


@scene
async def test_a_long_life_clears_the_record(it: Scene) -> None:
    await it.keeper.apply(plan())
    it.engine.crash(A1)
    await it.settle()
    it.clock.time = 60.0
    it.engine.crash(A2)
    await it.settle()
    assert it.slept == []


@scene
async def test_a_relaunch_that_fails_is_tried_again(it: Scene) -> None:
    await it.keeper.apply(plan())
    it.engine.next_launch_error = EngineError("no memory")
    it.engine.crash(A1)
    await it.settle()
    assert [replica.spec.id for replica in it.keeper.running] == [A3]
    assert it.slept == [0.1]


@scene
async def test_a_first_launch_that_fails_is_an_error(it: Scene) -> None:
    it.engine.next_launch_error = EngineError("replica a-1 did not start: no such module")
    with pytest.raises(EngineError, match="no such module"):
        await it.keeper.apply(plan())


@scene
async def test_a_resize_that_is_not_honoured_is_reported_and_what_is_there_is_used(it: Scene) -> None:
    await it.keeper.apply(plan(lanes=1))
    it.engine.calls.clear()
    it.engine.next_resized = Resized(status=Resizing.INFEASIBLE, lanes=1, threads=1, reason="the node has 8 cores")
    with pytest.raises(EngineError, match="replica 'a-1' has 1 lanes of 1 threads, not 64 of 1: the node has 8 cores"):
        await it.keeper.resize(A1, 64)
    assert it.engine.calls == [("resize", A1, 64, 1), ("lanes", A1, 1, 1)]


@scene
async def test_resizing_what_does_not_run_is_an_error(it: Scene) -> None:
    with pytest.raises(EngineError, match="there is no running replica 'a-9' to resize"):
        await it.keeper.resize(ReplicaId("a-9"), 2)
