"""The system of a live run: the product's own, on an engine that is as slow as the experiment's cluster."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import msgspec

from benchmarks.live.cases import contender, emulated, experiment
from benchmarks.live.engine import SlowEngine
from benchmarks.live.meter import Meter, WatchingRecorder
from benchmarks.live.setup import Ready, Setup
from benchmarks.support.process import cpu_seconds, own_cpu_seconds
from triscale.app.simulation import options_of
from triscale.app.system import Options, System
from triscale.clock import SystemClock
from triscale.control.decider_messages import Recipe
from triscale.control.loop import Controller
from triscale.control.process_decider import ProcessDecider
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.snapshot import Snapshot
from triscale.observe.window import ArrivalWindow
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.policy.latency import LatencyModel

__all__ = ["serve"]


class _Arrivals(ArrivalWindow):
    """Counts from the start of the trace, which is known when its first request is here."""

    __slots__ = ("_first_moment", "begun", "start")

    def __init__(self, first_moment: float) -> None:
        super().__init__(0.0)
        self._first_moment = first_moment
        self.start = 0.0
        self.begun = asyncio.Event()

    def arrived(self, now: float, requests: int = 1) -> None:
        """See `ArrivalWindow`."""
        if not self.begun.is_set():
            self.start = now - self._first_moment
            super().__init__(self.start)
            self.begun.set()
        super().arrived(now, requests)


class _FromStart(ProcessDecider):
    """The product's, whose autoscaler sees seconds since the start of the trace, as in the simulation."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.arrivals: _Arrivals

    async def decide(self, snapshot: Snapshot) -> Plan:
        """See `Decider`."""
        return await super().decide(msgspec.structs.replace(snapshot, now=snapshot.now - self.arrivals.start))


async def serve(setup: Setup, complaints: Callable[[], tuple[str, ...]]) -> None:
    """Say `Ready`, serve until told to stop, say the `Report`."""
    case = experiment(setup.case).case
    who = contender(case, setup.policy)
    graph = Graph.of(case.pipeline)
    setting = Setting(
        graph=graph,
        profile=case.profile,
        nodes=case.nodes,
        min_accuracy=case.pipeline.policy.min_accuracy,
        cold_start_s=case.world.cold_start_s,
        resize_s=case.world.resize_s,
        options=options_of(case.pipeline, who.policy, who.options),
    )
    autoscaler = make_autoscaler(who.policy, setting)
    decider = _FromStart(Recipe.of(autoscaler, setting, setup.first_demand))
    asleep = emulated(case.pipeline, case.profile, setup.dilation)
    engine = SlowEngine(asleep, (), nodes=case.nodes, pin=False, limit=False)
    plan = autoscaler.first(setup.first_demand)
    options = Options(port=0, metrics_port=0, grace_s=10.0)
    system = System(
        case.pipeline,
        (),
        case.profile,
        plan,
        SystemClock(),
        options,
        decider=decider,
        nodes=case.nodes,
        engine=engine,
    )
    models = [
        [LatencyModel(case.profile.stages[stage][name], "p50") for name in graph.variants[s]]
        for s, stage in enumerate(graph.stages)
    ]
    recorder = system.recorder = system.runner.recorder = WatchingRecorder(graph, models)
    arrivals = system.runner.arrivals = decider.arrivals = _Arrivals(setup.first_moment)
    # As in the simulation, nothing is decided before the trace begins.
    controller, system.controller = system.controller, None
    assert controller is not None
    await system.start()
    try:
        decider.start()
        while not decider.ready:
            await asyncio.sleep(0.01)
        engine.delay(case.world.cold_start_s, case.world.resize_s)
        # The first plan was simply there: that tells nothing of what a launch takes from now on.
        system.actuator.cold_start_s = case.world.cold_start_s
        system.actuator.resize_s = case.world.resize_s
        _say(Ready(url=f"http://127.0.0.1:{system.http.port}", replicas=len(system.actuator.replicas)))
        meter = Meter(system, controller, recorder, decider, setup.dilation)
        tasks = [asyncio.create_task(meter.run()), asyncio.create_task(_control(system, controller, arrivals.begun))]
        told = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.readline))
        before = _spent_by_replicas(decider)
        await asyncio.wait([told])
        spent = _spent_by_replicas(decider) - before
        for task in tasks:
            task.cancel()
        report = meter.report(arrivals.start, setup.seconds, spent, complaints())
    finally:
        await system.close(0.0)
    _say(report)


async def _control(system: System, controller: Controller, begun: asyncio.Event) -> None:
    await begun.wait()
    system.controller = controller
    await controller.run()


def _spent_by_replicas(decider: ProcessDecider) -> float:
    """Processor seconds of all replicas, those that are gone included: of all children but the one that decides."""
    own = os.times()
    gone = own.children_user + own.children_system
    deciding = own_cpu_seconds(decider.pid) if decider.ready else 0.0
    return cpu_seconds(os.getpid()) - own.user - own.system + gone - deciding


def _say(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()
