"""A system shows what runs: its history goes on by itself, and scaling is told from what was there at the start."""

from __future__ import annotations

import asyncio

import msgspec

from triscale.app.pages import LivePages
from triscale.control.actuator import Actuator
from triscale.control.decider import LocalDecider
from triscale.control.loop import Controller
from triscale.core.cluster import Replica
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.history import HistoryDocument
from triscale.observe.recorder import Recorder
from triscale.observe.status import Status
from triscale.serve.runner import Runner
from triscale.testing.builders import TableTimes, pipeline, plan, stage, variant
from triscale.testing.clock import ManualClock
from triscale.testing.fake_engine import FakeEngine

PIPELINE = pipeline(1000.0, only=stage(variant("v", 10.0)))


def plan_of(lanes: int, replicas: int = 1, reason: str = "") -> Plan:
    found = plan(PIPELINE, cores=float(lanes * replicas), capacity=10.0 * lanes * replicas, reason=reason)
    group = ReplicaGroup(variants=("v",), lanes=lanes, replicas=replicas)
    only = msgspec.structs.replace(found.stages["only"], groups=(group,))
    return msgspec.structs.replace(found, stages={"only": only})


class Fleet:
    """The runner, with replicas that need no connection."""

    def __init__(self, runner: Runner) -> None:
        self.follow = runner.follow
        self.share_cores = runner.share_cores
        self.resize = runner.resize
        self.hold = runner.hold
        self.lanes_closed = runner.lanes_closed
        self.drain = runner.drain
        self.detach = runner.detach
        self._runner = runner

    def attach(self, replica: Replica) -> None:
        spec = replica.spec
        self._runner.dispatcher.replica_ready(
            spec.id, spec.stage, spec.variants, spec.lanes, spec.threads, replica.node, 0.0
        )


class Listed:
    """A policy that makes the plans of a list."""

    name = "listed"
    tick_s = 0.1
    dispatch = Settings()

    def __init__(self, *plans: Plan) -> None:
        self.plans = list(plans)

    def first(self, demand: float) -> Plan:
        return plan_of(1)

    def decide(self, snapshot: Snapshot) -> Plan:
        return self.plans.pop(0)


class Scene:
    """A system without doors, on a manual clock."""

    def __init__(self, *plans: Plan) -> None:
        graph = Graph.of(PIPELINE)
        self.clock = ManualClock(100.0)
        self.slept: list[float] = []
        recorder = Recorder(graph)
        models = [[TableTimes({1: 10.0})]]
        dispatcher = Dispatcher(graph, models, [[[]]], plan_of(1), PIPELINE.dispatch, self.clock.now())
        self.runner = Runner(dispatcher, recorder, self.clock, lambda *_: None)
        self.actuator = Actuator(FakeEngine(), Fleet(self.runner), self.clock)
        decider = LocalDecider(Listed(*plans))
        self.controller = Controller(decider, self.actuator, self.look, plan_of(1), self.clock) if plans else None
        self.pages = LivePages(
            self.runner, recorder, self.actuator, self.controller, self.clock, sleep=self.sleep_and_pass
        )
        self.passing = [1.0, 1.0, 3.5, 1.0]

    def look(self, current: Plan) -> Snapshot:
        return Snapshot(now=0.0, plan=current, nodes=(), replicas=(), per_second=(), recent=())

    async def sleep_and_pass(self, seconds: float) -> None:
        """Time passes as listed, whatever was asked for; at the end of the list, for ever."""
        self.slept.append(seconds)
        if not self.passing:
            await asyncio.Event().wait()
        self.clock.advance(self.passing.pop(0))

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def begin(self) -> None:
        await self.actuator.begin(plan_of(1))
        self.runner.open()
        self.pages.open()

    def status(self) -> Status:
        return msgspec.json.decode(self.pages.status(), type=Status)


def test_a_sample_is_taken_every_second_and_missed_seconds_are_in_the_next() -> None:
    async def run() -> HistoryDocument:
        it = Scene()
        task = asyncio.create_task(it.pages.run())
        await it.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert it.slept == [1.0, 1.0, 1.0, 1.0, 1.0], "and no short one follows to make up for it"
        return msgspec.json.decode(it.pages.history(0), type=HistoryDocument)

    document = asyncio.run(run())
    assert document.last == 4


def test_before_the_first_replica_is_ready_the_status_says_so() -> None:
    async def run() -> Status:
        return Scene().status()

    status = asyncio.run(run())
    assert not status.ready
    assert (status.pipeline, status.policy, status.cores.held) == ("test", "static", 0.0)


def test_what_was_there_at_the_opening_is_the_start_and_what_comes_later_is_not() -> None:
    async def run() -> tuple[Status, Status]:
        it = Scene()
        await it.begin()
        first = it.status()
        it.actuator.pursue(plan_of(2, replicas=2))
        await it.settle()
        return first, it.status()

    first, later = asyncio.run(run())
    assert first.ready
    assert (first.cores.start, first.cores.up, first.cores.out) == (1.0, 0.0, 0.0)
    assert (later.cores.start, later.cores.up, later.cores.out) == (1.0, 1.0, 2.0)
    assert later.stages[0].replicas == {"starting": 0, "ready": 2, "draining": 0}


def test_decisions_are_told_in_the_status_and_one_by_one() -> None:
    async def run() -> None:
        it = Scene(plan_of(2, reason="more is coming"), plan_of(1, reason="less is coming"))
        await it.begin()
        assert it.controller is not None
        await it.controller.tick()
        await it.controller.tick()
        assert [each.reason for each in it.status().decisions] == ["more is coming", "less is coming"]
        newer = msgspec.json.decode(it.pages.decisions(1), type=DecisionsDocument)
        assert (newer.last, [each.reason for each in newer.decisions]) == (2, ["less is coming"])
        assert newer.started_s == it.status().started_s

    asyncio.run(run())


def test_a_fixed_plan_has_no_decisions() -> None:
    async def run() -> DecisionsDocument:
        return msgspec.json.decode(Scene().pages.decisions(0), type=DecisionsDocument)

    found = asyncio.run(run())
    assert (found.last, found.decisions) == (0, [])


def test_replicas_that_died_are_counted() -> None:
    async def run() -> Status:
        it = Scene()
        it.pages._recorder.replica_exits += 1
        return it.status()

    assert asyncio.run(run()).replica_exits == 1
