"""The embedded default: replicas as child processes of this one, cores by affinity.

Who owns what: the engine owns each process and its connection. `launch` starts the worker, connects and waits until
it is ready; `client(replica)` hands out the connected `ReplicaClient`, whose `observer` the runner of batches sets.
That one connection carries batches, control and heartbeats. A replica that sends garbage, misses its heartbeats or
ends its connection is killed; one that exits ends its connection; either way exactly one `ReplicaExited` follows.

Cores are steered, not limited: a hard limit (cgroup `cpu.max`) would be set where `_repin` assigns processors.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from triscale.core.cluster import (
    Address,
    Capabilities,
    Node,
    NodeId,
    Replica,
    ReplicaId,
    ReplicaSpec,
    Resized,
    Resizing,
)
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.ports import ReplicaExited, ReplicaReady, ReplicaResized
from triscale.engines.cpus import assign
from triscale.engines.events import Events, EventStream
from triscale.engines.worker import EXIT_GRACE, Worker
from triscale.errors import EngineError
from triscale.replica.address import bound
from triscale.replica.client import HEARTBEAT_TIMEOUT, ReplicaClient
from triscale.replica.config import ReplicaConfig

__all__ = ["LocalEngine"]

NODE = NodeId("local")
_LAUNCH_TIMEOUT = 300.0
_RESIZE_TIMEOUT = 10.0

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class LocalEngine:
    """Replicas of one pipeline as child processes. Use it on one event loop; `close` it in the end."""

    def __init__(
        self,
        pipeline: Pipeline,
        import_roots: Sequence[str],
        *,
        cpus: Sequence[int] | None = None,
        cores: float | None = None,
        pin: bool = True,
        launch_timeout: float = _LAUNCH_TIMEOUT,
        resize_timeout: float = _RESIZE_TIMEOUT,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    ) -> None:
        """`cpus`: processors to use (None: all that this process may). `cores`: how many to report, where emulated
        replicas stand for a larger machine. `pin`: give replicas processors of their own while there are enough.
        """
        self._pipeline = pipeline
        self._graph = Graph.of(pipeline)
        self._import_roots = tuple(import_roots)
        self._cpus = tuple(sorted(os.sched_getaffinity(0) if cpus is None else cpus))
        self._cores = float(len(self._cpus)) if cores is None else cores
        self._pin = pin
        self._launch_timeout = launch_timeout
        self._resize_timeout = resize_timeout
        self._heartbeat_timeout = heartbeat_timeout
        self._workers: dict[ReplicaId, Worker] = {}
        self._events = Events()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """In place, in whole cores, steered but not limited, on one node."""
        return Capabilities(in_place=True, fractional=False, hard_limit=False, min_step=1.0, placement=False)

    async def nodes(self) -> Sequence[Node]:
        """The machine that we run on."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return (Node(id=NODE, cores=self._cores, memory_bytes=memory),)

    async def replicas(self) -> Sequence[Replica]:
        """The replicas that can take work, or are finishing their last."""
        return [worker.replica for worker in self._workers.values() if worker.replica is not None]

    def client(self, replica: ReplicaId) -> ReplicaClient:
        """The connection to a replica that was launched here; EngineError when it does not run."""
        worker = self._workers.get(replica)
        if worker is None or worker.client is None:
            raise EngineError(f"no replica {replica!r} runs here")
        return worker.client

    def events(self) -> EventStream:
        """All events from this call on; ends when the engine is closed."""
        return self._events.subscribe()

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Start a worker and wait until it can take batches.

        EngineError with the worker's own words when it cannot; nothing is left of it then.
        """
        self._check(spec)
        address = f"unix:@triscale-{os.getpid()}-{next(_numbers)}"
        try:
            worker = self._start(spec, address)
        except OSError as error:
            raise EngineError(f"replica {spec.id} of stage {spec.stage} cannot be started: {error}") from error
        try:
            await worker.connect(address, NODE, self._launch_timeout, self._heartbeat_timeout)
        except BaseException:
            worker.child.kill_and_reap()
            self._forget(worker)
            raise
        assert worker.replica is not None
        self._events.emit(ReplicaReady(worker.replica))
        return worker.replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Change a replica in place. DEFERRED when batches hold it up for long; an event says when it is done.

        EngineError when the replica does not run, or ends meanwhile.
        """
        self.client(replica)
        worker = self._workers[replica]
        largest = max(self._cores, len(self._cpus))
        if threads > largest:
            text = f"a lane of {threads} threads does not fit the {largest:g} cores of this node"
            return worker.unchanged(Resizing.INFEASIBLE, text)
        worker.spec = replace(worker.spec, lanes=lanes, threads=threads)
        self._repin(but=worker)
        change = self._background(self._adapt(worker))
        try:
            return await asyncio.wait_for(asyncio.shield(change), self._resize_timeout)
        except TimeoutError:
            return worker.unchanged(Resizing.DEFERRED, f"batches still run after {self._resize_timeout:g} s")

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """Have it finish what it has, for at most `grace` seconds, then end it. Idempotent."""
        worker = self._workers.get(replica)
        if worker is not None:
            if not worker.expected:
                self._background(worker.drain(grace))
            await asyncio.wait([worker.watching])

    async def kill(self, replica: ReplicaId, reason: str) -> None:
        """End it at once. Idempotent; returns when it is gone."""
        worker = self._workers.get(replica)
        if worker is not None:
            worker.end(reason)
            await asyncio.wait([worker.watching])

    async def close(self) -> None:
        """End every replica, at once but for `model.close()`. Idempotent; when cancelled, still nothing is left."""
        self._closed = True
        workers = list(self._workers.values())
        try:
            for worker in workers:
                worker.stop("the engine was closed")
            if workers:
                await asyncio.wait([worker.watching for worker in workers], timeout=EXIT_GRACE)
            for worker in workers:
                worker.end("the engine was closed")
            if workers:
                await asyncio.wait([worker.watching for worker in workers])
        finally:
            for worker in workers:
                worker.child.kill_and_reap()
            self._workers.clear()
            for task in self._tasks:
                task.cancel()
            self._events.close()

    def _check(self, spec: ReplicaSpec) -> None:
        stage = self._pipeline.stages.get(spec.stage)
        if self._closed:
            raise EngineError(f"replica {spec.id} cannot be launched: the engine is closed")
        if spec.id in self._workers:
            raise EngineError(f"replica {spec.id} runs already")
        if spec.node not in (None, NODE):
            raise EngineError(f"replica {spec.id} asks for node {spec.node!r}; the only node here is {NODE!r}")
        if stage is None:
            known = ", ".join(self._pipeline.stages)
            raise EngineError(f"replica {spec.id} is of the unknown stage {spec.stage!r}; the stages are: {known}")
        known_variants = [variant.name for variant in stage.variants]
        for variant in spec.variants:
            if variant not in known_variants:
                raise EngineError(
                    f"replica {spec.id} asks for variant {variant!r}, which stage {spec.stage} does not have; "
                    f"its variants are: {', '.join(known_variants)}"
                )

    def _start(self, spec: ReplicaSpec, address: Address) -> Worker:
        stage = self._pipeline.stages[spec.stage]
        index = self._graph.stage(spec.stage)
        # The worker inherits the listening socket, so that connecting never has to be tried again.
        with bound(address) as listener:
            config = ReplicaConfig(
                spec=replace(spec, cpus=self._assign(spec)[spec.id]),
                variants=stage.variants,
                children=tuple(self._graph.stages[child] for child in self._graph.children[index]),
                join=self._graph.joins[index],
                import_roots=self._import_roots,
                listen_fd=listener.fileno(),
                parent_pid=os.getpid(),
            )
            worker = Worker(config, listener)
        self._workers[spec.id] = worker
        worker.watching = self._background(self._watch(worker))
        self._repin(but=worker)
        return worker

    async def _watch(self, worker: Worker) -> None:
        reason = await worker.gone()
        self._forget(worker)
        if worker.replica is not None:
            self._events.emit(ReplicaExited(worker.spec.id, worker.expected, reason))

    def _forget(self, worker: Worker) -> None:
        if self._workers.get(worker.spec.id) is worker:
            del self._workers[worker.spec.id]
            self._repin()

    async def _adapt(self, worker: Worker) -> Resized:
        resized, changed = await worker.adapt()
        if changed:
            self._events.emit(ReplicaResized(worker.spec.id, resized))
        return resized

    def _assign(self, new: ReplicaSpec | None = None) -> dict[ReplicaId, tuple[int, ...]]:
        """The processors of every replica, `new` included."""
        specs = [worker.spec for worker in self._workers.values()] + ([new] if new else [])
        if not self._pin:
            return {spec.id: () for spec in specs}
        return assign(self._cpus, {spec.id: spec.cores for spec in specs}, {spec.id: spec.cpus for spec in specs})

    def _repin(self, but: Worker | None = None) -> None:
        """Processors were taken or given back: move every replica whose own are others now; `but` moves itself."""
        if self._closed:
            return
        for replica, cpus in self._assign().items():
            worker = self._workers[replica]
            if worker.spec.cpus != cpus:
                worker.spec = replace(worker.spec, cpus=cpus)
                if worker is not but and worker.replica is not None:
                    self._background(self._adapt(worker))

    def _background(self, work: Coroutine[object, object, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # An EngineError is that of a replica that ended meanwhile: its exit is reported.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, EngineError):
            _log.error("a background task of the local engine failed", exc_info=error)
