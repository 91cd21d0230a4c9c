"""The composition root: a running server from a pipeline file.

    doors (HTTP) -> Runner -> Dispatcher        requests and batches
                      |  ^
                      v  |
                   ReplicaClient <- LocalEngine <- Keeper        processes

Everything is started and stopped here, in order, and whatever was started is stopped however a start ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import triscale
from triscale.app.assemble import make_dispatcher
from triscale.clock import Clock
from triscale.control.keeper import Keeper
from triscale.core.cluster import Replica, ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import Profile
from triscale.engines.local import NODE, LocalEngine
from triscale.observe.metrics import PipelineCollector, registry_of, render
from triscale.observe.recorder import Recorder
from triscale.serve.limits import Limits
from triscale.serve.listener import HttpServer
from triscale.serve.metrics_route import MetricsApi
from triscale.serve.routes import InferenceApi
from triscale.serve.runner import Runner

__all__ = ["Options", "System"]

_LAST_BYTES_S = 5.0
"""Longest that the last responses may take to be sent."""


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


class _Fleet:
    """The runner as the keeper sees it: replicas come with the engine's connection to them."""

    def __init__(self, runner: Runner, engine: LocalEngine) -> None:
        self._engine = engine
        self._runner = runner
        self.detach = runner.detach
        self.follow = runner.follow
        self.resize = runner.resize
        self.lanes_closed = runner.lanes_closed
        self.drain = runner.drain

    def attach(self, replica: Replica) -> None:
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
    ) -> None:
        self.pipeline = pipeline
        self.plan = plan
        self._options = options
        self._clock = clock
        graph = Graph.of(pipeline)
        dispatcher = make_dispatcher(graph, profile, plan, clock.now())
        if plan.shared_cores > 0:
            dispatcher.share_cores(NODE, plan.shared_cores)
        self.engine = LocalEngine(pipeline, import_roots)
        self.recorder = Recorder(graph)
        self.runner = Runner(dispatcher, self.recorder, clock, self._kill)
        self.keeper = Keeper(self.engine, _Fleet(self.runner, self.engine), clock, on_crash=self._crashed)
        self._registry = registry_of(PipelineCollector(dispatcher, self.recorder, triscale.__version__))
        limits = Limits(body_bytes=options.max_body_bytes)
        self.http = HttpServer(InferenceApi(self.runner, options.token), limits, tls=options.tls)
        self.metrics_http = HttpServer(MetricsApi(self.metrics))
        self._watch: asyncio.Task[None] | None = None
        self._kills: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Launch the plan's replicas, then open the doors. Whatever was started is stopped when this fails."""
        try:
            self._watch = asyncio.get_running_loop().create_task(self.keeper.watch())
            await asyncio.sleep(0)  # the watch subscribes to the engine's events before anything can happen
            # The doors open first: a port that is taken should be known before models are loaded, and health
            # checks should see "live, not ready" meanwhile.
            await self.http.start(self._options.host, self._options.port)
            await self.metrics_http.start(self._options.host, self._options.metrics_port)
            await self.keeper.apply(self.plan)
            self.runner.open()
        except BaseException:
            await self.close(0.0)
            raise

    async def close(self, grace_s: float | None = None) -> None:
        """Refuse new requests, let those in progress finish for at most the grace, stop everything. Idempotent."""
        grace = self._options.grace_s if grace_s is None else grace_s
        self.http.stop_accepting()
        await self.runner.close(grace)
        await self.http.close(min(grace, _LAST_BYTES_S))
        await self.keeper.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.engine.close()
        await self.metrics_http.close()

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """The Prometheus metrics and their content type."""
        return render(self._registry, accept)

    def _crashed(self, replica: ReplicaId, reason: str) -> None:  # noqa: ARG002 - the keeper's signature
        self.recorder.replica_exits += 1

    def _kill(self, replica: ReplicaId, reason: str) -> None:
        task = asyncio.get_running_loop().create_task(self.engine.kill(replica, reason))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)
