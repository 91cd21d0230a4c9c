"""The control loop under load: whatever it does, however often and in whatever order, no request is lost or fails.

Hundreds of scale-outs, scale-ins, resizes, changes of variants and restarts of the controller happen on an event loop
whose clock is moved by hand, with the real dispatcher, runner, actuator and controller on replicas in memory, which
object to whatever a real machine would suffer for. Some of each happen again to real processes, with real time and the
emulated runtime.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.integration.memory_engine import MemoryEngine
from triscale.app.system import Options, ServedFleet, System
from triscale.clock import Clock, SystemClock
from triscale.control.actuator import Actuator
from triscale.control.decider import LocalDecider, at_once
from triscale.control.loop import Controller
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import inline_profile
from triscale.core.settings import Settings
from triscale.core.snapshot import Phase, Snapshot
from triscale.dispatch.assemble import make_dispatcher
from triscale.engines.local import LocalEngine
from triscale.observe.recorder import Recorder
from triscale.observe.snapshots import snapshot_of
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.policy.plan_rules import broken_rules
from triscale.serve.runner import Runner
from triscale.serve.service import Call, Reply
from triscale.testing.builders import pipeline, stage, variant
from triscale.testing.clock import ManualClock
from triscale.testing.loop import manual_loop
from triscale.wire.payload import pack

MANY = 500
TICK_S = 0.02
NODES = (Node(id=NodeId("n-1"), cores=8), Node(id=NodeId("n-2"), cores=8))
BOTH = ("large", "small")
PIPELINE = pipeline(
    60_000.0,
    detect=stage(variant("large", {1: 3.0, 8: 9.0}), variant("small", {1: 1.0, 8: 4.0}, accuracy=0.8)),
    classify=stage(
        variant("large", {1: 4.0, 8: 10.0}), variant("small", {1: 2.0, 8: 4.0}, accuracy=0.8), after="detect"
    ),
)


def plan(
    replicas: int = 2,
    lanes: int = 1,
    threads: int = 1,
    share: float = 0.5,
    variants: tuple[str, ...] = BOTH,
    grants: tuple[float, float] | None = None,
) -> Plan:
    """The same for both stages; `share` is the large variant's. `grants`: of the nodes, where lanes share cores."""
    shares = {name: share if name == "large" else 1.0 - share for name in variants}
    if len(variants) == 1:
        shares = {variants[0]: 1.0}
    groups: tuple[ReplicaGroup, ...] = (
        ReplicaGroup(variants=variants, replicas=replicas, lanes=lanes, threads=threads),
    )
    if grants is not None:
        groups = tuple(
            ReplicaGroup(variants=variants, lanes=max(1, int(cores)), node=node.id)
            for node, cores in zip(NODES, grants, strict=True)
        )
    one = StagePlan(variants={name: VariantPlan(share=part, batch=4) for name, part in shares.items()}, groups=groups)
    return Plan(
        stages={"detect": one, "classify": one},
        shared_cores=max(grants) if grants else 0.0,
        node_cores={node.id: cores for node, cores in zip(NODES, grants, strict=True)} if grants else {},
    )


class Script:
    """An autoscaler that decides what its plans say, one each tick."""

    name = "script"
    tick_s = TICK_S
    dispatch = Settings()

    def __init__(self, plans: Iterator[Plan]) -> None:
        self._plans = plans
        self.decided = 0

    def first(self, demand: float) -> Plan:
        return next(self._plans)

    def decide(self, snapshot: Snapshot) -> Plan:
        self.decided += 1
        return next(self._plans)


class Load:
    """Requests at a steady pace, and how each of them ended."""

    def __init__(self, runner: Runner, clock: Clock, every_s: float) -> None:
        self.sent = 0
        self.ends: Counter[str] = Counter()
        self._runner = runner
        self._clock = clock
        self.every_s = every_s
        self._payload = pack({"x": 1.0})

    async def run(self) -> None:
        while True:
            now = self._clock.now()
            self.sent += 1
            self._runner.submit("test", Call([self._payload], now, now + PIPELINE.slo_s, self._ended))
            await asyncio.sleep(self.every_s)

    def _ended(self, reply: Reply) -> None:
        self.ends[reply.outcome.name] += 1


class Scene:
    """Dispatcher, runner and replicas that stay, and a controller and an actuator that may be replaced at any time."""

    def __init__(
        self, clock: ManualClock, plans: Iterator[Plan], every_s: float = 1.0, engine: MemoryEngine | None = None
    ) -> None:
        self.clock = clock
        self.policy = Script(plans)
        self.steps: Counter[str] = Counter()
        self._graph = graph = Graph.of(PIPELINE)
        first = self.policy.first(0.0)
        self._dispatcher = make_dispatcher(graph, inline_profile(PIPELINE), first, clock.now())
        self.runner = Runner(self._dispatcher, Recorder(graph), clock, lambda replica, why: self._objected(why))
        self.engine = engine or MemoryEngine(PIPELINE, NODES)
        self.engine.shares = first.shared_cores > 0.0
        self.load = Load(self.runner, clock, every_s)
        self.actuator: Actuator
        self._plan = first
        self._tasks: list[asyncio.Task[None]] = []
        self._watch_batches()

    async def start(self) -> None:
        """A controller that finds whatever runs."""
        self.actuator = Actuator(self.engine, ServedFleet(self.runner, self.engine), self.clock)
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self.actuator.watch()))
        await asyncio.sleep(0.0)
        await self.actuator.take_over(self._plan)
        decider = LocalDecider(self.policy, at_once)  # a thread would take real time
        controller = Controller(decider, self.actuator, self._look, self._plan, self.clock, check=self._impossible)
        self._controller = controller
        self._tasks.append(loop.create_task(controller.run()))

    async def stop(self) -> None:
        """It dies, in the middle of whatever it was doing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.actuator.close()
        self._plan = self._controller.plan
        for step in ("launches", "resizes", "holds", "drains", "deaths", "launch_failures", "hold_failures"):
            self.steps[step] += getattr(self.actuator, step)

    def _look(self, plan: Plan) -> Snapshot:
        return snapshot_of(
            self._dispatcher, self.runner.arrivals, self.actuator.replicas, self.actuator.nodes, plan, self.clock.now()
        )

    def _impossible(self, plan: Plan) -> list[str]:
        return list(broken_rules(plan, self._graph, NODES))

    def _objected(self, why: str) -> None:
        self.engine.objections.append(why)

    def _watch_batches(self) -> None:
        """Where lanes share cores: no batch begins on a core that is not granted."""
        step = self._dispatcher.step

        def watched(now: float) -> Any:
            commands = step(now)
            if self._dispatcher.plan.shared_cores > 0.0 and commands.runs:
                for batch in commands.runs:
                    node = batch.lane.replica.node
                    if self._dispatcher.free_cores(node) < 0.0:
                        self._objected(f"a batch began on node {node}, which grants no core for it")
            return commands

        self._dispatcher.step = watched  # type: ignore[method-assign]

    def done(self, step: str) -> int:
        """How often the engine has finished such a step."""
        return sum(call[0] == step for call in self.engine.calls)

    def finish(self) -> None:
        """Everything that was promised, after the load has ended."""
        assert self.engine.objections == []
        assert self.load.ends == {"ANSWERED": self.load.sent}
        assert self.load.sent > MANY
        assert list(self._dispatcher.accounts.unbalanced(self._dispatcher.live_items())) == []
        assert self.steps["deaths"] == self.steps["launch_failures"] == self.steps["hold_failures"] == 0


def churn(
    plans: Iterator[Plan],
    until: Callable[[Scene], bool],
    every_s: float = 0.004,
    restart_every_s: float = 0.0,
    engine: MemoryEngine | None = None,
) -> Scene:
    """Serve under load while the plan changes each tick, `until` enough has happened; then let every request end."""
    clock = ManualClock(100.0)
    loop = manual_loop(clock)

    async def run() -> Scene:
        scene = Scene(clock, plans, every_s, engine)
        await scene.start()
        await asyncio.sleep(0.5)
        scene.runner.open()
        load = asyncio.get_running_loop().create_task(scene.load.run())
        rng = random.Random(7)
        while not until(scene):
            if restart_every_s:
                # At any moment of what the controller does: mid-launch, mid-resize, mid-drain.
                await asyncio.sleep(restart_every_s * rng.uniform(0.2, 1.8))
                await scene.stop()
                await scene.start()
                scene.steps["restarts"] += 1
            else:
                await asyncio.sleep(1.0)
        load.cancel()
        await scene.runner.close(30.0)
        await scene.stop()
        scene.finish()
        return scene

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


def test_no_request_is_lost_over_hundreds_of_scale_outs_and_scale_ins() -> None:
    # Some ticks long enough for launches to be done, some so short that they are called off.
    counts = itertools.cycle([1, 4, 4, 4, 4, 2, 2, 6, 1, 3, 3, 3, 3])
    scene = churn(
        (plan(replicas=count) for count in counts),
        lambda it: min(it.done("launch"), it.done("drain")) >= MANY,
    )
    assert scene.steps["launches"] > scene.done("launch"), "some were called off"


def test_no_request_is_lost_over_hundreds_of_resizes() -> None:
    shapes = itertools.cycle([(1, 1), (4, 1), (2, 2), (2, 1), (1, 4), (3, 1), (1, 2)])
    churn(
        (plan(replicas=2, lanes=lanes, threads=threads) for lanes, threads in shapes),
        lambda it: it.done("resize") >= MANY,
        every_s=0.001,  # so that lanes are busy when they are to close
    )


def changing(*held: tuple[str, ...]) -> Iterator[Plan]:
    """Shares flip from one tick to the next, and every few ticks other variants are to be held."""
    rng = random.Random(5)
    shares = itertools.cycle([0.0, 1.0, 0.3, 0.9])
    for variants in itertools.cycle(held):
        for share in itertools.islice(shares, rng.randint(2, 12)):
            yield plan(share=share, variants=variants)


def test_no_request_is_lost_over_hundreds_of_changes_of_variants() -> None:
    scene = churn(changing(BOTH, ("small",), BOTH, ("large",), ("small",)), lambda it: it.actuator.holds >= MANY)
    assert (scene.steps["launches"], scene.steps["drains"]) == (4, 0), "all of them in live replicas"


def test_no_request_is_lost_over_hundreds_of_changes_of_variants_of_which_memory_holds_one() -> None:
    scene = churn(
        changing(("large",), ("small",)),
        lambda it: it.actuator.holds >= 2 * MANY,  # every other one finds out that there is no room
        engine=MemoryEngine(PIPELINE, NODES, most_variants=1),
    )
    assert (scene.steps["launches"], scene.steps["drains"]) == (4, 0)


def test_no_request_is_lost_over_changes_of_variants_by_launches_where_the_engine_knows_no_others() -> None:
    scene = churn(
        changing(BOTH, ("small",), BOTH, ("large",)),
        lambda it: it.policy.decided >= MANY and it.done("launch") > 50,
        engine=MemoryEngine(PIPELINE, NODES, hold=False),
    )
    assert scene.steps["holds"] == 0


@pytest.mark.parametrize("most_variants", [0, 1], ids=["memory for all", "memory for one"])
def test_no_request_is_lost_when_the_controller_is_restarted_while_variants_change(most_variants: int) -> None:
    scene = churn(
        changing(("large",), ("small",)),
        lambda it: it.steps["restarts"] >= MANY and it.done("hold") >= MANY,
        restart_every_s=0.05,
        engine=MemoryEngine(PIPELINE, NODES, most_variants=most_variants),
    )
    assert scene.steps["holds"] > 50


def test_no_request_is_lost_while_nodes_are_granted_more_and_less() -> None:
    grants = itertools.cycle([(1.0, 1.0), (8.0, 2.0), (3.0, 8.0), (1.0, 5.0), (1.0, 2.0), (4.0, 4.0)])
    churn((plan(grants=each) for each in grants), lambda it: it.done("resize") >= MANY)


@pytest.mark.parametrize("shared", [False, True], ids=["cores of their own", "shared cores"])
def test_no_request_is_lost_over_hundreds_of_restarts_of_the_controller(shared: bool) -> None:
    rng = random.Random(3)

    def plans() -> Iterator[Plan]:
        while True:
            share = rng.choice([0.0, 0.5, 1.0])
            if shared:
                made = plan(share=share, grants=(float(rng.randint(1, 8)), float(rng.randint(1, 8))))
            else:
                made = plan(rng.randint(1, 3), rng.randint(1, 2), share=share)
            for _ in range(rng.randint(1, 6)):
                yield made

    scene = churn(plans(), lambda it: it.steps["restarts"] >= MANY, restart_every_s=0.05)
    assert scene.done("resize") > 50


def test_a_new_controller_adopts_what_runs_and_launches_nothing() -> None:
    clock = ManualClock(100.0)
    loop = manual_loop(clock)

    async def run() -> None:
        scene = Scene(clock, itertools.repeat(plan(replicas=3, lanes=2)))
        await scene.start()
        await asyncio.sleep(0.5)
        launched = {view.spec.id for view in scene.actuator.replicas if view.phase is Phase.READY}
        await scene.stop()
        await scene.start()
        await asyncio.sleep(0.5)
        assert {view.spec.id for view in scene.actuator.replicas if view.phase is Phase.READY} == launched
        assert (scene.actuator.launches, scene.actuator.resizes, scene.actuator.drains) == (0, 0, 0)
        await scene.stop()

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


# --- faults, through the whole system -----------------------------------------------------------------------------

HEAVY = pipeline(
    1000.0,
    detect=stage(variant("large", {1: 20.0, 8: 120.0}), variant("small", {1: 5.0, 8: 30.0}, accuracy=0.8)),
    classify=stage(
        variant("large", {1: 20.0, 8: 120.0}), variant("small", {1: 5.0, 8: 30.0}, accuracy=0.8), after="detect"
    ),
)


class World:
    """A system with the product's own policy on replicas in memory, under load, on a clock moved by hand."""

    def __init__(self, clock: ManualClock, every_s: float) -> None:
        profile = inline_profile(HEAVY)
        assert profile is not None
        self.clock = clock
        self.engine = MemoryEngine(HEAVY, NODES, launch_s=0.5)
        self.engine.shares = True
        policy = make_autoscaler("triscale", Setting(graph=Graph.of(HEAVY), profile=profile, nodes=NODES))
        self.system = System(
            HEAVY,
            (),
            profile,
            policy.first(1.0 / every_s),
            clock,
            Options(port=0, metrics_port=0),
            decider=LocalDecider(policy, at_once),
            nodes=NODES,
            engine=self.engine,
        )
        self.load = Load(self.system.runner, clock, every_s)

    @property
    def used(self) -> set[str]:
        """Nodes that the plan in force runs anything on."""
        return {str(group.node) for stage in self.system.plan.stages.values() for group in stage.groups}

    async def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for it; fails when it does not come in so many seconds of the clock."""
        end = self.clock.now() + seconds
        while not true():
            assert self.clock.now() < end, "it never came true"
            await asyncio.sleep(0.05)

    async def answers(self, more: int = 200) -> None:
        """Go on until so many more requests have been answered in time."""
        goal = self.load.ends["ANSWERED"] + more
        await self.until(lambda: self.load.ends["ANSWERED"] >= goal)


def world(every_s: float) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[], None]]:
    """A test that is given a world, with a request each `every_s`; what must hold in all of them is checked then."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        def wrapped() -> None:
            clock = ManualClock(100.0)
            loop = manual_loop(clock)

            async def run() -> None:
                it = World(clock, every_s)
                await it.system.start()
                load = asyncio.get_running_loop().create_task(it.load.run())
                await it.answers()
                try:
                    await test(it)
                    load.cancel()
                    await it.system.runner.close(30.0)
                    assert it.engine.objections == []
                    assert it.load.ends["FAILED"] == 0
                    assert it.load.ends.total() == it.load.sent
                finally:
                    await it.system.close(0.0)

            try:
                loop.run_until_complete(run())
            finally:
                loop.close()

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate


@world(every_s=1 / 300)
async def test_when_a_node_goes_down_the_plan_is_made_again_without_it_and_no_request_fails(it: World) -> None:
    assert it.used == {"n-1", "n-2"}
    it.engine.node_down(NodeId("n-1"))
    await it.until(lambda: it.used == {"n-2"}, 1.0)
    await it.answers()
    assert it.system.plan.mode == "accuracy", "what is left carries the demand with smaller variants"
    assert {view.node for view in it.system.actuator.replicas} == {"n-2"}
    assert it.system.actuator.deaths == 2


@world(every_s=1 / 300)
async def test_when_the_node_is_back_it_is_used_again_and_accuracy_returns(it: World) -> None:
    it.engine.node_down(NodeId("n-1"))
    await it.until(lambda: it.system.plan.mode == "accuracy")
    it.engine.node_up(NodeId("n-1"))
    await it.until(lambda: it.used == {"n-1", "n-2"} and it.system.plan.mode == "hardware")
    await it.answers()


@world(every_s=1 / 50)
async def test_cores_that_a_node_refuses_are_planned_without(it: World) -> None:
    it.engine.room = {str(node.id): it.engine.held(node.id) for node in NODES}
    before = dict(it.engine.room)
    it.load.every_s = 1 / 300
    await it.until(lambda: any(node.cores < 8 for node in it.system.actuator.nodes))
    await it.until(lambda: it.used == {"n-1", "n-2"})
    await it.answers()
    assert it.engine.held(NodeId("n-1")) <= before["n-1"]


@world(every_s=1 / 100)
async def test_replicas_that_crash_again_and_again_are_replaced_and_no_request_fails(it: World) -> None:
    for _ in range(12):
        await it.until(lambda: it.system.runner.ready())
        victim = next(view.spec.id for view in it.system.actuator.replicas if view.phase is Phase.READY)
        it.engine.crash(victim)
        await it.answers(5)
    assert it.system.actuator.deaths == 12
    await it.answers()


@world(every_s=1 / 300)
async def test_the_systems_controller_can_be_restarted_while_requests_flow(it: World) -> None:
    launches = it.system.actuator.launches
    running = {view.spec.id for view in it.system.actuator.replicas}
    for _ in range(20):
        await it.system.restart_controller()
        await it.answers(20)
    assert {view.spec.id for view in it.system.actuator.replicas} == running
    assert it.system.actuator.launches == launches
    assert it.load.ends["ANSWERED"] == it.load.ends.total()


# --- real processes -----------------------------------------------------------------------------------------------


async def served(
    plans: Iterator[Plan], done: Callable[[Actuator, int], bool], nodes: tuple[Node, ...] = NODES
) -> Actuator:
    """Serve with real processes while the plan and the controller change, until enough of it is done."""
    policy = Script(plans)
    policy.tick_s = 0.1
    clock = SystemClock()
    options = Options(port=0, metrics_port=0)
    system = System(
        PIPELINE,
        (),
        inline_profile(PIPELINE),
        policy.first(0.0),
        clock,
        options,
        autoscaler=policy,
        nodes=nodes,
    )
    await system.start()
    load = Load(system.runner, clock, 0.02)
    sending = asyncio.create_task(load.run())
    restarts = 0
    try:
        async with asyncio.timeout(60.0):
            while not done(system.actuator, restarts):
                await asyncio.sleep(1.1)
                await system.restart_controller()
                restarts += 1
        sending.cancel()
        await system.runner.close(30.0)
    finally:
        await system.close(0.0)
    assert load.ends == {"ANSWERED": load.sent}
    assert system.actuator.deaths == system.actuator.launch_failures == system.actuator.hold_failures == 0
    assert isinstance(system.engine, LocalEngine)
    return system.actuator


@pytest.mark.processes
def test_real_replicas_come_and_go_and_are_resized_and_controllers_restart_and_no_request_is_lost() -> None:
    shapes = itertools.cycle([(2, 1), (4, 1), (4, 2), (1, 2), (1, 6), (3, 1), (3, 3)])
    shares = itertools.cycle([0.0, 1.0, 0.4])

    def plans() -> Iterator[Plan]:
        for (replicas, lanes), share in zip(shapes, shares, strict=False):
            for _ in range(8):
                yield plan(replicas, lanes, share=share)

    asyncio.run(
        served(plans(), lambda it, restarts: restarts >= 4 and min(it.launches - 4, it.drains, it.resizes) >= 8)
    )


@pytest.mark.processes
def test_real_replicas_change_their_variants_while_they_serve_and_no_request_is_lost() -> None:
    plans = (each for one in changing(BOTH, ("small",), ("large",), BOTH, ("large",)) for each in [one] * 2)
    actuator = asyncio.run(served(plans, lambda it, restarts: restarts >= 4 and it.holds >= 16))
    assert (actuator.launches, actuator.drains) == (4, 0)
