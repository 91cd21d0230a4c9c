"""The actuator makes what runs equal to the plan, replaces what dies, never waits, and keeps to the safe order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from triscale.control.actuator import Actuator
from triscale.core.cluster import Capabilities, Node, NodeId, Replica, ReplicaId, ReplicaSpec, Resized, Resizing
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.ports import ReplicaResized
from triscale.core.snapshot import Phase
from triscale.errors import EngineError
from triscale.observe.recorder import ControlRecorder
from triscale.replica.client import DoesNotFit
from triscale.testing.fake_engine import FakeEngine

A1, A2, A3 = ReplicaId("a-1"), ReplicaId("a-2"), ReplicaId("a-3")


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class FakeFleet:
    """Records what it is told, in one list with the engine's calls. `busy` holds a shrink up until it is set."""

    def __init__(self, calls: list[tuple[object, ...]]) -> None:
        self.calls = calls
        self.busy: asyncio.Event | None = None

    def attach(self, replica: Replica) -> None:
        self.calls.append(("attach", replica.spec.id))

    def detach(self, replica: ReplicaId, reason: str) -> None:
        self.calls.append(("detach", replica, reason))

    def follow(self, plan: Plan) -> None:
        self.calls.append(("follow",))

    def share_cores(self, node: str, cores: float) -> None:
        self.calls.append(("share", node, cores))

    def resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        self.calls.append(("lanes", replica, lanes, threads))

    def hold(self, replica: ReplicaId, variants: Sequence[str], *, changing: bool = False) -> None:
        self.calls.append(("lend" if changing else "use", replica, *variants))

    def lanes_closed(self, replica: ReplicaId) -> Awaitable[None]:
        return self._done("closed", replica)

    def drain(self, replica: ReplicaId) -> Awaitable[None]:
        self.calls.append(("stop work", replica))
        return self._done("idle", replica)

    async def _done(self, what: str, replica: ReplicaId) -> None:
        if self.busy is not None:
            await self.busy.wait()
        self.calls.append((what, replica))


class SlowEngine(FakeEngine):
    """Launches take until `started` is set, and loads until `loaded` is, where these are given."""

    started: asyncio.Event | None = None
    loaded: asyncio.Event | None = None
    room = 9
    """Variants that fit a replica's memory."""
    can_hold = True

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, hold=self.can_hold)

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        if self.loaded is not None:
            await self.loaded.wait()
        if len(variants) > self.room:
            self.calls.append(("no room", replica, *variants))
            raise DoesNotFit(f"{replica} holds enough")
        return await super().hold(replica, variants)

    async def launch(self, spec: ReplicaSpec) -> Replica:
        if self.started is not None:
            await self.started.wait()
        return await super().launch(spec)


class Scene:
    """An actuator, its fakes, and a sleep that only records."""

    def __init__(self) -> None:
        self.engine = SlowEngine()
        self.clock = Clock()
        self.slept: list[float] = []
        self.fleet = FakeFleet(self.engine.calls)
        self.actuator = Actuator(self.engine, self.fleet, self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def pursue(self, plan: Plan) -> None:
        self.actuator.pursue(plan)
        await self.settle()

    def ready(self) -> list[str]:
        return [str(view.spec.id) for view in self.actuator.replicas if view.phase is Phase.READY]


def plan(lanes: int = 2, replicas: int = 1, shared: float = 0.0, variants: tuple[str, ...] = ("v",)) -> Plan:
    group = ReplicaGroup(variants=variants, replicas=replicas, lanes=lanes)
    stage = StagePlan(variants={variants[0]: VariantPlan(share=1.0)}, groups=(group,))
    return Plan(stages={"a": stage}, shared_cores=shared)


def scene(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        it = Scene()
        watch = asyncio.create_task(it.actuator.watch())
        await it.settle()
        try:
            await test(it)
        finally:
            await it.actuator.close()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    def wrapped() -> None:
        asyncio.run(run())

    wrapped.__name__ = test.__name__
    return wrapped


@scene
async def test_a_first_plan_is_carried_out_before_begin_returns(it: Scene) -> None:
    await it.actuator.begin(plan())
    assert it.engine.calls == [("follow",), ("launch", A1), ("attach", A1)]
    assert it.ready() == [A1]


@scene
async def test_to_grow_cores_come_before_lanes(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=1))
    it.engine.calls.clear()
    await it.pursue(plan(lanes=3))
    assert it.engine.calls == [("follow",), ("resize", A1, 3, 1), ("lanes", A1, 3, 1)]


@scene
async def test_to_shrink_lanes_finish_before_cores_go(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=3))
    it.engine.calls.clear()
    await it.pursue(plan(lanes=1))
    assert it.engine.calls == [
        ("follow",),
        ("lanes", A1, 1, 1),
        ("closed", A1),
        ("resize", A1, 1, 1),
        ("lanes", A1, 1, 1),
    ]


@scene
async def test_cores_that_are_shared_are_granted_when_the_replicas_have_grown_and_taken_back_at_once(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=1, shared=1.0))
    it.engine.calls.clear()
    await it.pursue(plan(lanes=3, shared=3.0))
    assert it.engine.calls == [("follow",), ("resize", A1, 3, 1), ("lanes", A1, 3, 1), ("share", "fake", 3.0)]
    it.engine.calls.clear()
    await it.pursue(plan(lanes=2, shared=2.0))
    assert it.engine.calls[:3] == [("follow",), ("share", "fake", 2.0), ("lanes", A1, 2, 1)]


@scene
async def test_of_several_targets_during_a_resize_only_the_newest_is_carried_out(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=6))
    it.fleet.busy = asyncio.Event()
    await it.pursue(plan(lanes=1))
    for lanes in (5, 2, 4):
        await it.pursue(plan(lanes=lanes))
    it.engine.calls.clear()
    it.fleet.busy.set()
    await it.settle()
    resizes = [call for call in it.engine.calls if call[0] == "resize"]
    assert resizes == [("resize", A1, 1, 1), ("resize", A1, 4, 1)]
    assert it.actuator.replicas[0].spec.lanes == 4


@scene
async def test_a_cold_start_holds_nothing_up(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=1))
    it.engine.started = asyncio.Event()
    await it.pursue(plan(lanes=1, replicas=2))
    assert [view.phase for view in it.actuator.replicas] == [Phase.READY, Phase.STARTING]
    it.engine.calls.clear()
    await it.pursue(plan(lanes=3, replicas=2))
    assert ("resize", A1, 3, 1) in it.engine.calls


@scene
async def test_what_goes_stays_until_what_comes_is_ready(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=4))
    it.engine.started = asyncio.Event()
    await it.pursue(plan(lanes=1, replicas=4))
    assert it.actuator.replicas[0].cores == 4
    it.engine.started.set()
    await it.settle()
    assert sorted(it.ready()) == ["a-1", "a-2", "a-3", "a-4"]
    assert [view.cores for view in it.actuator.replicas] == [1, 1, 1, 1]


@scene
async def test_a_launch_that_is_not_wanted_any_more_is_called_off_at_once(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.started = asyncio.Event()
    await it.pursue(plan(replicas=2))
    await it.pursue(plan(replicas=1))
    assert [view.spec.id for view in it.actuator.replicas] == [A1], "nothing of it is left to hold cores"
    it.engine.started.set()
    await it.settle()
    assert it.ready() == [A1]
    assert ("attach", A2) not in it.engine.calls
    assert [replica.spec.id for replica in await it.engine.replicas()] == [A1]


@scene
async def test_a_replica_that_is_not_wanted_finishes_its_work_before_it_is_stopped(it: Scene) -> None:
    await it.actuator.begin(plan(replicas=2))
    it.engine.calls.clear()
    await it.pursue(plan(replicas=1))
    assert it.engine.calls == [
        ("follow",),
        ("stop work", A2),
        ("idle", A2),
        ("drain", A2, 30.0),
        ("detach", A2, "drained"),
    ]
    assert it.ready() == [A1]


@scene
async def test_a_replica_that_dies_is_replaced_at_once(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.calls.clear()
    it.engine.crash(A1)
    await it.settle()
    assert it.engine.calls == [("detach", A1, "killed by SIGKILL"), ("launch", A2), ("attach", A2)]
    assert it.slept == []


@scene
async def test_one_that_dies_again_and_again_is_relaunched_more_and_more_slowly(it: Scene) -> None:
    await it.actuator.begin(plan())
    for number in range(1, 13):
        it.engine.crash(ReplicaId(f"a-{number}"))
        await it.settle()
    assert it.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


@scene
async def test_a_crash_loop_of_one_stage_leaves_the_others_alone(it: Scene) -> None:
    both = Plan(stages={**plan().stages, "b": plan(variants=("w",)).stages["a"]})
    await it.actuator.begin(both)
    for _ in range(4):
        victim = next(view.spec.id for view in it.actuator.replicas if view.spec.stage == "a")
        it.engine.crash(victim)
        await it.settle()
    survivors = [view for view in it.actuator.replicas if view.spec.stage == "b"]
    assert [view.phase for view in survivors] == [Phase.READY]
    assert it.actuator.deaths == 4


@scene
async def test_a_long_life_clears_the_record(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.crash(A1)
    await it.settle()
    it.clock.time = 60.0
    it.engine.crash(A2)
    await it.settle()
    assert it.slept == []


@scene
async def test_a_relaunch_that_fails_is_tried_again(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.next_launch_error = EngineError("no memory")
    it.engine.crash(A1)
    await it.settle()
    assert it.ready() == [A3]
    assert it.slept == [0.1]


@scene
async def test_a_first_launch_that_fails_is_an_error(it: Scene) -> None:
    it.engine.next_launch_error = EngineError("replica a-1 did not start: no such module")
    with pytest.raises(EngineError, match="no such module"):
        await it.actuator.begin(plan())


@scene
async def test_a_first_launch_that_fails_is_not_tried_again(it: Scene) -> None:
    it.engine.next_launch_error = EngineError("replica a-1 did not start: no such module")
    with pytest.raises(EngineError, match="no such module"):
        await it.actuator.begin(plan())
    assert (it.actuator.launches, it.actuator.launch_failures, it.slept) == (1, 1, [])


@scene
async def test_a_resize_that_is_not_honoured_is_used_as_it_is_and_not_asked_for_again_at_once(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=1))
    it.engine.calls.clear()
    it.engine.next_resized = Resized(status=Resizing.INFEASIBLE, lanes=1, threads=1, reason="the node has 8 cores")
    wanted = plan(lanes=6)
    await it.pursue(wanted)
    assert it.engine.calls == [("follow",), ("resize", A1, 6, 1), ("lanes", A1, 1, 1)]
    await it.pursue(wanted)
    assert [call for call in it.engine.calls if call[0] == "resize"] == [("resize", A1, 6, 1)]
    it.clock.time = 11.0
    await it.pursue(wanted)
    assert it.actuator.replicas[0].spec.lanes == 6


@scene
async def test_what_runs_already_is_adopted(it: Scene) -> None:
    spec = ReplicaSpec(id=ReplicaId("a-7"), stage="a", variants=("v",), lanes=2, node=NodeId("fake"))
    await it.engine.launch(spec)
    it.engine.calls.clear()
    await it.actuator.begin(plan(replicas=2))
    assert it.engine.calls == [("attach", "a-7"), ("follow",), ("launch", "a-8"), ("attach", "a-8")]


@scene
async def test_no_more_cores_are_taken_than_the_node_has(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=3, replicas=2))
    it.actuator.pursue(plan(lanes=5, replicas=2))
    await it.settle()
    assert sum(view.cores for view in it.actuator.replicas) <= 8


@scene
async def test_what_launches_and_resizes_took_is_recorded_and_failed_launches_are_counted(it: Scene) -> None:
    recorder = ControlRecorder()
    it.actuator = Actuator(it.engine, it.fleet, it.clock, sleep=it._sleep, recorder=recorder)
    await it.actuator.begin(plan(lanes=1))
    it.engine.next_launch_error = EngineError("no memory")
    await it.pursue(plan(lanes=2, replicas=2))
    assert recorder.cold_start_s["a"].count == 2
    assert recorder.resize_s["a"].count == 1
    assert (it.actuator.launches, it.actuator.launch_failures) == (3, 1)


@scene
async def test_a_node_that_goes_down_takes_its_replicas_along_and_they_are_launched_elsewhere(it: Scene) -> None:
    it.engine = SlowEngine(nodes=[Node(id=NodeId(name), cores=4) for name in ("n1", "n2")])
    it.actuator = Actuator(it.engine, it.fleet, it.clock, sleep=it._sleep)
    watch = asyncio.create_task(it.actuator.watch())
    await it.settle()
    await it.actuator.begin(plan(lanes=3, replicas=2))
    lost = next(view.spec.id for view in it.actuator.replicas if view.node == "n1")
    it.fleet.calls.clear()
    it.engine.node_down(NodeId("n1"))
    await it.settle()
    assert it.fleet.calls == [("detach", lost, "node n1 is gone: its network is gone")]
    assert [node.ready for node in it.actuator.nodes] == [False, True]
    await it.pursue(plan(lanes=1, replicas=2))
    assert {view.node for view in it.actuator.replicas} == {"n2"}
    assert it.slept == [], "nobody is to blame: nothing waits"
    it.engine.node_up(NodeId("n1"))
    await it.pursue(plan(lanes=1, replicas=6))
    assert {view.node for view in it.actuator.replicas} == {"n1", "n2"}
    await it.actuator.close()
    watch.cancel()


@scene
async def test_a_node_that_refuses_cores_counts_for_what_it_gave_until_it_is_asked_again(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=2))
    it.engine.next_resized = Resized(status=Resizing.INFEASIBLE, lanes=2, threads=1, reason="others use them")
    await it.pursue(plan(lanes=6))
    assert [node.cores for node in it.actuator.nodes] == [2.0]
    it.clock.time = 10.0
    assert [node.cores for node in it.actuator.nodes] == [8.0]


@scene
async def test_a_resize_that_is_only_deferred_says_nothing_of_the_node(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=2))
    it.engine.next_resized = Resized(status=Resizing.DEFERRED, lanes=2, threads=1, reason="batches still run")
    await it.pursue(plan(lanes=6))
    assert [node.cores for node in it.actuator.nodes] == [8.0]


@scene
async def test_what_a_resize_takes_is_learned_from_those_that_grow(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=4))
    it.fleet.busy = asyncio.Event()
    await it.pursue(plan(lanes=1))
    it.clock.time += 30.0  # the batches of the lanes that are to close
    it.fleet.busy.set()
    await it.settle()
    assert it.actuator.resize_s == 0.0


@scene
async def test_a_replica_that_dies_as_it_becomes_ready_is_launched_again(it: Scene) -> None:
    attach = it.fleet.attach

    def gone(replica: Replica) -> None:
        if replica.spec.id == A2:
            it.engine.crash(A2)
            raise EngineError("no replica 'a-2' runs here")
        attach(replica)

    await it.actuator.begin(plan())
    it.fleet.attach = gone  # type: ignore[method-assign]
    await it.pursue(plan(replicas=2))
    assert it.ready() == [A1, A3]
    assert (it.actuator.launch_failures, it.actuator.deaths) == (1, 0)


@scene
async def test_a_new_controller_leaves_what_is_being_drained_to_end_and_counts_its_cores_until_then(it: Scene) -> None:
    spec = ReplicaSpec(id=ReplicaId("a-7"), stage="a", variants=("v",), lanes=3, node=NodeId("fake"))
    await it.engine.launch(spec)
    it.engine._replicas[spec.id] = replace(it.engine._replicas[spec.id], draining=True)
    it.engine.calls.clear()
    await it.actuator.take_over(plan(lanes=6))
    assert ("launch", "a-8") not in it.engine.calls, "there is no room yet"
    await it.settle()
    assert ("attach", "a-7") not in it.engine.calls
    assert it.ready() == ["a-8"]


@scene
async def test_a_launch_of_an_earlier_controller_that_ends_late_is_adopted(it: Scene) -> None:
    await it.actuator.begin(plan())
    await it.engine.launch(ReplicaSpec(id=ReplicaId("a-9"), stage="a", variants=("v",), lanes=2))
    await it.settle()
    assert ("attach", "a-9") in it.engine.calls
    assert it.ready() == [A1], "it was one more than the plan wants"


@scene
async def test_after_a_restart_what_runs_is_known_again_and_nothing_is_launched_for_it(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=2, replicas=2))
    it.engine.calls.clear()
    await it.actuator.restart(plan(lanes=2, replicas=2))
    await it.settle()
    assert it.engine.calls == [("attach", A1), ("attach", A2), ("follow",)]
    assert it.ready() == [A1, A2]


@scene
async def test_a_restart_in_the_middle_of_a_launch_leaves_no_half_started_replica(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.started = asyncio.Event()
    await it.pursue(plan(replicas=2))
    await it.actuator.restart(plan(replicas=1))
    it.engine.started.set()
    await it.settle()
    assert it.ready() == [A1]
    assert len(await it.engine.replicas()) == 1


# --- other variants in live replicas ------------------------------------------------------------------------------

W = ("w",)


def begun(it: Scene, *steps: str) -> list[tuple[object, ...]]:
    """What was done of these kinds."""
    return [call for call in it.engine.calls if call[0] in steps]


@scene
async def test_other_variants_are_loaded_beside_the_old_ones_which_go_when_the_new_ones_are_used(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.calls.clear()
    await it.pursue(plan(variants=W))
    assert it.engine.calls == [
        ("follow",),
        ("lend", A1, "v"),
        ("hold", A1, "v", "w"),
        ("use", A1, "w"),
        ("hold", A1, "w"),
    ]
    assert [view.spec.variants for view in it.actuator.replicas] == [W]
    assert (it.actuator.holds, it.actuator.launches, it.actuator.drains) == (1, 1, 0)


@scene
async def test_while_they_load_the_replica_serves_and_can_be_resized(it: Scene) -> None:
    await it.actuator.begin(plan(lanes=2))
    it.engine.loaded = asyncio.Event()
    it.engine.calls.clear()
    await it.pursue(plan(lanes=2, variants=W))
    assert [(view.phase, view.loading) for view in it.actuator.replicas] == [(Phase.READY, True)]
    await it.pursue(plan(lanes=4, variants=W))
    assert begun(it, "resize", "lanes", "use") == [("resize", A1, 4, 1), ("lanes", A1, 4, 1)]
    it.engine.loaded.set()
    await it.settle()
    (view,) = it.actuator.replicas
    assert (view.spec.variants, view.spec.lanes, view.loading) == (W, 4, False)


@scene
async def test_variants_that_only_go_are_not_used_any_more_before_they_are_unloaded(it: Scene) -> None:
    await it.actuator.begin(plan(variants=("v", "w")))
    it.engine.calls.clear()
    await it.pursue(plan(variants=W))
    assert it.engine.calls == [("follow",), ("use", A1, "w"), ("hold", A1, "w")]


@scene
async def test_of_several_plans_during_a_load_only_the_newest_is_carried_out(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.loaded = asyncio.Event()
    for name in ("w", "x", "y"):
        await it.pursue(plan(variants=(name,)))
    it.engine.calls.clear()
    it.engine.loaded.set()
    await it.settle()
    assert begun(it, "hold", "lend") == [
        ("hold", A1, "v", "w"),
        ("lend", A1, "v"),
        ("hold", A1, "v", "y"),
        ("hold", A1, "y"),
    ]
    assert begun(it, "use") == [("use", A1, "v"), ("use", A1, "y")]


@scene
async def test_a_plan_that_comes_back_to_the_old_variants_has_the_new_ones_unloaded(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.loaded = asyncio.Event()
    await it.pursue(plan(variants=W))
    await it.pursue(plan())
    it.engine.calls.clear()
    it.engine.loaded.set()
    await it.settle()
    assert it.engine.calls == [("hold", A1, "v", "w"), ("use", A1, "v"), ("hold", A1, "v")]


@scene
async def test_where_memory_does_not_hold_both_the_old_ones_finish_and_go_first_one_replica_after_the_other(
    it: Scene,
) -> None:
    it.engine.room = 1
    await it.actuator.begin(plan(replicas=2))
    it.fleet.busy = asyncio.Event()
    it.engine.calls.clear()
    await it.pursue(plan(replicas=2, variants=W))
    assert begun(it, "lanes", "hold") == [("lanes", A1, 0, 1)], "its batches still run, and the other serves"
    it.fleet.busy.set()
    await it.settle()
    assert begun(it, "lanes", "closed", "hold", "attach") == [
        ("lanes", A1, 0, 1),
        ("closed", A1),
        ("hold", A1, "w"),
        ("attach", A1),
        ("lanes", A2, 0, 1),
        ("closed", A2),
        ("hold", A2, "w"),
        ("attach", A2),
    ]
    assert (it.actuator.launches, it.actuator.hold_failures) == (2, 0)


@scene
async def test_the_only_replica_of_a_stage_is_replaced_where_its_memory_does_not_hold_both(it: Scene) -> None:
    it.engine.room = 1
    await it.actuator.begin(plan())
    it.engine.calls.clear()
    await it.pursue(plan(variants=W))
    assert begun(it, "no room", "launch", "drain") == [
        ("no room", A1, "v", "w"),
        ("launch", A2),
        ("drain", A1, 30.0),
    ]


@scene
async def test_variants_that_stay_serve_while_others_are_swapped(it: Scene) -> None:
    it.engine.room = 2
    await it.actuator.begin(plan(variants=("v", "w")))
    it.engine.calls.clear()
    await it.pursue(plan(variants=("w", "x")))
    assert it.engine.calls == [
        ("follow",),
        ("lend", A1, "v", "w"),
        ("no room", A1, "v", "w", "x"),
        ("use", A1, "v", "w"),
        ("lend", A1, "w"),
        ("hold", A1, "w", "x"),
        ("attach", A1),
    ]


@scene
async def test_a_resize_waits_for_a_swap(it: Scene) -> None:
    it.engine.room = 1
    await it.actuator.begin(plan(lanes=1, replicas=2))
    it.fleet.busy = asyncio.Event()
    await it.pursue(plan(lanes=1, replicas=2, variants=W))
    it.engine.calls.clear()
    await it.pursue(plan(lanes=2, replicas=2, variants=W))
    assert begun(it, "resize", "lanes") == [("resize", A2, 2, 1), ("lanes", A2, 2, 1)]
    it.engine._emit(ReplicaResized(A1, Resized(status=Resizing.APPLIED, lanes=1, threads=1)))
    it.fleet.busy.set()
    await it.settle()
    calls = begun(it, "resize", "lanes", "attach")
    assert calls.index(("attach", A1)) < calls.index(("resize", A1, 2, 1))
    assert [(view.spec.lanes, view.spec.variants) for view in it.actuator.replicas] == [(2, W), (2, W)]


@scene
async def test_what_cannot_be_loaded_is_launched_instead_and_not_asked_for_again_for_a_while(it: Scene) -> None:
    await it.actuator.begin(plan(replicas=2))
    it.engine.calls.clear()
    it.engine.next_hold_error = EngineError("no weights")
    it.engine.started = asyncio.Event()
    wanted = plan(replicas=3, variants=W)
    await it.pursue(wanted)
    assert it.actuator.hold_failures == 1
    assert begun(it, "use") == [("use", A1, "v"), ("use", A2, "w")], "the other had begun as well"
    await it.pursue(wanted)
    assert len(begun(it, "hold")) == 3, "one that failed, two of the other"
    it.clock.time = 10.0
    it.engine.started.set()
    await it.settle()
    assert it.ready() == [A2, A3, "a-4"]


@scene
async def test_the_wait_after_a_load_that_failed_ends(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.next_hold_error = EngineError("no weights")
    it.engine.started = asyncio.Event()
    await it.pursue(plan(variants=W))
    await it.pursue(plan())
    it.engine.calls.clear()
    it.clock.time = 10.0
    await it.pursue(plan(variants=W))
    assert begun(it, "hold", "use") == [("hold", A1, "v", "w"), ("use", A1, "w"), ("hold", A1, "w")]


@scene
async def test_one_that_a_failed_swap_leaves_with_nothing_is_replaced(it: Scene) -> None:
    it.engine.room = 1
    await it.actuator.begin(plan(replicas=2))
    it.fleet.busy = asyncio.Event()
    await it.pursue(plan(replicas=2, variants=W))
    known = it.engine._replicas[A1]
    it.engine._replicas[A1] = replace(known, spec=replace(known.spec, variants=()))
    it.engine.next_hold_error = EngineError("no weights")
    it.engine.calls.clear()
    it.fleet.busy.set()
    await it.settle()
    assert ("attach", A1) not in it.engine.calls
    assert begun(it, "launch") == [("launch", A3), ("launch", "a-4")]
    assert it.ready() == [A3, "a-4"]


@scene
async def test_a_replica_that_dies_while_it_loads_is_replaced_by_one_that_holds_what_is_wanted(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.loaded = asyncio.Event()
    await it.pursue(plan(variants=W))
    it.engine.crash(A1)
    it.engine.loaded.set()
    await it.settle()
    assert [(view.spec.id, view.spec.variants, view.phase) for view in it.actuator.replicas] == [(A2, W, Phase.READY)]
    assert (it.actuator.deaths, it.actuator.hold_failures) == (1, 0)


@scene
async def test_one_that_is_not_wanted_any_more_while_it_loads_is_drained(it: Scene) -> None:
    await it.actuator.begin(plan(replicas=2))
    it.engine.loaded = asyncio.Event()
    await it.pursue(plan(replicas=2, variants=W))
    it.engine.calls.clear()
    await it.pursue(plan(replicas=1, variants=W))
    it.engine.loaded.set()
    await it.settle()
    assert it.ready() == [A1]
    assert [call[1] for call in begun(it, "use")] == [A1]


@scene
async def test_a_controller_that_is_restarted_during_a_load_goes_on_with_what_is_held(it: Scene) -> None:
    await it.actuator.begin(plan())
    it.engine.loaded = asyncio.Event()
    await it.pursue(plan(variants=W))
    it.engine.calls.clear()
    await it.actuator.restart(plan(variants=W))
    it.engine.loaded.set()
    await it.settle()
    assert begun(it, "attach", "hold", "use") == [
        ("attach", A1),
        ("hold", A1, "v", "w"),
        ("use", A1, "w"),
        ("hold", A1, "w"),
    ]


@scene
async def test_one_that_a_restart_finds_with_nothing_takes_work_when_it_holds_something(it: Scene) -> None:
    spec = ReplicaSpec(id=ReplicaId("a-7"), stage="a", variants=(), lanes=2, node=NodeId("fake"))
    await it.engine.launch(spec)
    await it.settle()
    it.engine.calls.clear()
    await it.actuator.take_over(plan(variants=W))
    await it.settle()
    assert begun(it, "attach", "hold", "launch") == [("hold", "a-7", "w"), ("attach", "a-7")]
    assert it.ready() == ["a-7"]


@scene
async def test_an_engine_that_cannot_change_variants_is_asked_to_launch(it: Scene) -> None:
    it.engine.can_hold = False
    await it.actuator.begin(plan())
    it.engine.calls.clear()
    await it.pursue(plan(variants=W))
    assert begun(it, "hold", "launch", "drain") == [("launch", A2), ("drain", A1, 30.0)]
