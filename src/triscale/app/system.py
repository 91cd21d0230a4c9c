"""The composition root: a running server from a pipeline file.

    doors (HTTP) -> Runner -> Dispatcher        requests and batches
                      |  ^
                      v  |
                   ReplicaClient <- LocalEngine <- Actuator <- Controller <- Decider          processes, plans

Everything is started and stopped here, in order, and whatever was started is stopped however a start ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import triscale
from triscale.app.pages import LivePages
from triscale.app.policy import COLD_START_S, RESIZE_S, data_plane
from triscale.app.telemetry import tracer_for
from triscale.clock import Clock
from triscale.control.actuator import Actuator
from triscale.control.decider import Decider, LocalDecider
from triscale.control.loop import Controller
from triscale.core.cluster import Node, Replica, ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.ports import Engine
from triscale.core.profile import Profile
from triscale.core.snapshot import Snapshot
from triscale.dispatch.assemble import make_dispatcher
from triscale.engines.local import NODE, LocalEngine
from triscale.engines.machine import usable_cores
from triscale.observe.control_metrics import ControlCollector
from triscale.observe.decisions import DecisionFile, DecisionLog
from triscale.observe.metrics import PipelineCollector, registry_of, render
from triscale.observe.recorder import ControlRecorder, Recorder
from triscale.observe.snapshots import snapshot_of
from triscale.policy.autoscalers.interface import Autoscaler
from triscale.policy.plan_rules import broken_rules
from triscale.replica.client import ReplicaClient
from triscale.serve.limits import Limits
from triscale.serve.listener import HttpServer
from triscale.serve.metrics_route import MetricsApi
from triscale.serve.routes import InferenceApi
from triscale.serve.runner import Runner
from triscale.serve.status_routes import Page

__all__ = ["ConnectedEngine", "Options", "ServedFleet", "System"]

_LAST_BYTES_S = 5.0
"""Longest that the last responses may take to be sent."""
_LAST_SPANS_S = 5.0
"""And the last spans to be exported."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int = 8002
    token: str = ""
    """Bearer token that every request must carry; empty = none."""
    tls: ssl.SSLContext | None = None
    grace_s: float = 30.0
    """Longest that a shutdown waits for requests in progress."""
    max_body_bytes: int = 64 * 2**20
    otlp_endpoint: str = ""
    """Base URL of the collector that traces go to; empty = requests are not traced."""
    decision_log: Path | None = None
    """File that every decision is appended to."""
    page: Page | None = None
    """The dashboard, shown at `/`; None = there is none."""


class ConnectedEngine(Engine, Protocol):
    """An engine that hands out its connections to replicas."""

    def client(self, replica: ReplicaId) -> ReplicaClient:
        """The connection; EngineError when the replica does not run (any more)."""
        ...


class ServedFleet:
    """The runner as the actuator sees it: replicas come with the engine's connection to them."""

    def __init__(self, runner: Runner, engine: ConnectedEngine) -> None:
        self._engine = engine
        self._runner = runner
        self.detach = runner.detach
        self.follow = runner.follow
        self.share_cores = runner.share_cores
        self.resize = runner.resize
        self.hold = runner.hold
        self.lanes_closed = runner.lanes_closed
        self.drain = runner.drain

    def attach(self, replica: Replica) -> None:
        """See `control.fleet.Fleet`."""
        self._runner.attach(replica, self._engine.client(replica.spec.id))


class System:
    """A pipeline being served."""

    def __init__(
        self,
        pipeline: Pipeline,
        import_roots: Sequence[str],
        profile: Profile | None,
        plan: Plan,
        clock: Clock,
        options: Options,
        *,
        autoscaler: Autoscaler | None = None,
        decider: Decider | None = None,
        nodes: Sequence[Node] = (),
        engine: ConnectedEngine | None = None,
        cold_start_s: float = COLD_START_S,
        resize_s: float = RESIZE_S,
    ) -> None:
        """`plan` is what it starts with. `decider`: what changes it, or an `autoscaler`, which gets a thread of this
        process; neither = nothing. `nodes`: the machine, as far as it may be used, or the cluster that it stands for;
        none: all of the machine. `engine`: what runs the replicas; None = processes of this machine. `cold_start_s`,
        `resize_s`: what a launch and a resize are expected to take, until one has been measured.
        """
        if decider is None and autoscaler is not None:
            decider = LocalDecider(autoscaler)
        self.pipeline = pipeline
        self._options = options
        self._clock = clock
        self._graph = graph = Graph.of(pipeline)
        dispatcher = make_dispatcher(graph, profile, plan, clock.now(), data_plane(pipeline, decider))
        if plan.shared_cores > 0:
            for node in [node.id for node in nodes] or [NODE]:
                dispatcher.share_cores(node, plan.cores_of(node))
        self.engine = engine or _local(pipeline, import_roots, nodes)
        self.recorder = Recorder(graph)
        self._tracer = tracer_for(graph, options.otlp_endpoint)
        self.runner = Runner(dispatcher, self.recorder, clock, self._kill, self._tracer)
        steps = ControlRecorder(graph.stages)
        self.actuator = Actuator(
            self.engine,
            ServedFleet(self.runner, self.engine),
            clock,
            cold_start_s=cold_start_s,
            resize_s=resize_s,
            on_crash=self._crashed,
            recorder=steps,
        )
        self._decision_file = DecisionFile(options.decision_log, pipeline.name) if options.decision_log else None
        decisions = DecisionLog(self._decision_file.write) if self._decision_file else DecisionLog()
        self._first_plan = plan
        self._decider = decider
        self.controller = (
            Controller(
                decider,
                self.actuator,
                self._look,
                plan,
                clock,
                check=self._impossible,
                decisions=decisions,
                recorder=steps,
            )
            if decider is not None
            else None
        )
        self._registry = registry_of(
            PipelineCollector(dispatcher, self.recorder, triscale.__version__),
            ControlCollector(
                dispatcher,
                self.runner.arrivals,
                self.actuator,
                steps,
                clock,
                "static" if decider is None else decider.name,
                self.controller,
            ),
        )
        limits = Limits(body_bytes=options.max_body_bytes)
        self.pages = LivePages(self.runner, self.recorder, self.actuator, self.controller, clock, page=options.page)
        self.http = HttpServer(InferenceApi(self.runner, options.token, self.pages), limits, tls=options.tls)
        self.metrics_http = HttpServer(MetricsApi(self.metrics))
        self._tasks: list[asyncio.Task[None]] = []
        self._controlling: asyncio.Task[None] | None = None
        self._kills: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Launch the plan's replicas, then open the doors. Whatever was started is stopped when this fails."""
        try:
            self._tasks.append(asyncio.get_running_loop().create_task(self.actuator.watch()))
            await asyncio.sleep(0)  # the watch subscribes to the engine's events before anything can happen
            self._tasks.append(asyncio.get_running_loop().create_task(self.pages.run()))
            # The doors open first: a port that is taken should be known before models are loaded, and health
            # checks should see "live, not ready" meanwhile.
            await self.http.start(self._options.host, self._options.port)
            await self.metrics_http.start(self._options.host, self._options.metrics_port)
            await self.actuator.begin(self._first_plan)
            self.runner.open()
            self.pages.open()
            self._control()
        except BaseException:
            await self.close(0.0)
            raise

    async def close(self, grace_s: float | None = None) -> None:
        """Refuse new requests, let those in progress finish for at most the grace, stop everything. Idempotent."""
        grace = self._options.grace_s if grace_s is None else grace_s
        self.http.stop_accepting()
        await self.runner.close(grace)
        await self.http.close(min(grace, _LAST_BYTES_S))
        await self._stop_controlling()
        if self._decider is not None:
            await self._decider.close()
        await self.actuator.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.close()
        await self.metrics_http.close()
        if self._tracer is not None:
            self._tracer.close(_LAST_SPANS_S)
        if self._decision_file is not None:
            self._decision_file.close()

    async def restart_controller(self, autoscaler: Autoscaler | None = None) -> None:
        """Break the control loop off wherever it is, forget what it knew, and have it take over what runs.

        Requests flow on: the dispatcher, the replicas and their batches are not touched, and the plan in force stays.
        `autoscaler` takes the place of the last one, which else goes on with what it remembers.
        """
        await self._stop_controlling()
        if self.controller is not None and autoscaler is not None:
            await self.controller.decider.close()
            self._decider = LocalDecider(autoscaler)
            self.controller.ask_another(self._decider)
        await self.actuator.restart(self.plan)
        self._control()

    def _control(self) -> None:
        if self.controller is not None:
            self._controlling = asyncio.get_running_loop().create_task(self.controller.run())

    async def _stop_controlling(self) -> None:
        if self._controlling is not None:
            self._controlling.cancel()
            await asyncio.gather(self._controlling, return_exceptions=True)

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._first_plan if self.controller is None else self.controller.plan

    def _look(self, plan: Plan) -> Snapshot:
        return snapshot_of(
            self.runner.dispatcher,
            self.runner.arrivals,
            now=self._clock.now(),
            plan=plan,
            nodes=self.actuator.nodes,
            replicas=self.actuator.replicas,
            cold_start_s=self.actuator.cold_start_s,
            resize_s=self.actuator.resize_s,
        )

    def _impossible(self, plan: Plan) -> list[str]:
        return list(broken_rules(plan, self._graph, self.actuator.nodes, self.plan))

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """The Prometheus metrics and their content type."""
        return render(self._registry, accept)

    def _crashed(self, replica: ReplicaId, reason: str) -> None:  # noqa: ARG002 - the actuator's signature
        self.recorder.replica_exits += 1

    def _kill(self, replica: ReplicaId, reason: str) -> None:
        task = asyncio.get_running_loop().create_task(self.engine.kill(replica, reason))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)


def _local(pipeline: Pipeline, import_roots: Sequence[str], nodes: Sequence[Node]) -> LocalEngine:
    """Processes of this machine. Those that stand for a larger one only sleep, whose processor is no matter."""
    larger = sum(node.cores for node in nodes) > usable_cores()
    return LocalEngine(pipeline, import_roots, nodes=nodes, pin=not larger, limit=not larger)
