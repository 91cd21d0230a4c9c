"""The embedded default: replicas as child processes of this one, cores by affinity and, where permitted, a limit.

Who owns what: the engine owns each process and its connection. `launch` starts the worker, connects and waits until
it is ready; `client(replica)` hands out the connected `ReplicaClient`, whose `observer` the runner of batches sets.
That one connection carries batches, control and heartbeats. A replica that sends garbage, misses its heartbeats or
ends its connection is killed; one that exits ends its connection; either way exactly one `ReplicaExited` follows.

Cores: `_allot` gives every replica its processors and its limit, by what it may be using at this moment. One that
shrinks keeps what it has until its lanes are closed; one that grows has what it needs before it opens lanes.
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
from triscale.engines.limits import Limits
from triscale.engines.machine import memory_bytes, processors, usable_cores
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
        nodes: Sequence[Node] = (),
        pin: bool = True,
        limit: bool = True,
        launch_timeout: float = _LAUNCH_TIMEOUT,
        resize_timeout: float = _RESIZE_TIMEOUT,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    ) -> None:
        """`cpus`: processors to use (None: all that this process may). `cores`: how many to report, where emulated
        replicas stand for a larger machine. `nodes`: what to report instead of one node, where they stand for a
        cluster; its replicas all run here. `pin`: tell replicas which processors to run on. `limit`: keep them to
        their cores by control groups, where this process may.

        Where a quota leaves us fewer cores than there are processors, replicas are told of processors only if `cpus`
        names them: others use the same ones, and the kernel, which sees who does, finds free ones better than we.
        """
        self._pipeline = pipeline
        self._graph = Graph.of(pipeline)
        self._import_roots = tuple(import_roots)
        self._cpus = processors() if cpus is None else tuple(sorted(cpus))
        usable = min(usable_cores(), len(self._cpus))
        self._cores = float(usable) if cores is None else cores
        self._nodes = {node.id: node for node in nodes}
        self._pin = pin and (cpus is not None or usable == len(self._cpus))
        self._limits = Limits(usable, wanted=limit)
        self._launch_timeout = launch_timeout
        self._resize_timeout = resize_timeout
        self._heartbeat_timeout = heartbeat_timeout
        self._workers: dict[ReplicaId, Worker] = {}
        self._events = Events()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """In place, in whole cores, on one node; with a hard limit where control groups are ours to make."""
        limited = self._limits.in_force
        placed = len(self._nodes) > 1
        return Capabilities(
            in_place=True, fractional=False, hard_limit=limited, min_step=1.0, placement=placed, hold=True
        )

    async def nodes(self) -> Sequence[Node]:
        """The machine that we run on, or the nodes that it stands for."""
        if self._nodes:
            return tuple(self._nodes.values())
        return (Node(id=NODE, cores=self._cores, memory_bytes=memory_bytes()),)

    async def replicas(self) -> Sequence[Replica]:
        """The replicas that can take work, or are finishing their last."""
        return [
            replace(worker.replica, draining=worker.expected)
            for worker in self._workers.values()
            if worker.replica is not None
        ]

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
            node = spec.node or next(iter(self._nodes), NODE)
            await worker.connect(address, node, self._launch_timeout, self._heartbeat_timeout)
        except BaseException:
            worker.child.kill_and_reap()
            self._forget(worker)
            raise
        assert worker.replica is not None
        self._events.emit(ReplicaReady(worker.replica))
        if worker.spec != worker.replica.spec:  # its processors are others by now
            self._background(self._adapt(worker))
        return worker.replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Change a replica in place. DEFERRED when batches hold it up for long; an event says when it is done.

        EngineError when the replica does not run, or ends meanwhile.
        """
        self.client(replica)
        worker = self._workers[replica]
        largest = max(self._cores, len(self._cpus), *(node.cores for node in self._nodes.values()))
        if threads > largest:
            text = f"a lane of {threads} threads does not fit the {largest:g} cores of this node"
            return worker.unchanged(Resizing.INFEASIBLE, text)
        worker.spec = replace(worker.spec, lanes=lanes, threads=threads)
        self._allot(but=worker)
        change = self._background(self._adapt(worker))
        try:
            return await asyncio.wait_for(asyncio.shield(change), self._resize_timeout)
        except TimeoutError:
            return worker.unchanged(Resizing.DEFERRED, f"batches still run after {self._resize_timeout:g} s")

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        """Make these the resident variants of a live replica, while it serves. See `core.ports.Engine`."""
        self.client(replica)
        worker = self._workers[replica]
        self._check_variants(replace(worker.spec, variants=tuple(variants)))
        return await worker.hold(tuple(dict.fromkeys(variants)))

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """Have it finish what it has, for at most `grace` seconds, then end it. Idempotent."""
        worker = self._workers.get(replica)
        if worker is not None:
            if not worker.expected:
                worker.expected = True  # at once: nobody is to take it for one that stays
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
            self._limits.close()
            for task in self._tasks:
                task.cancel()
            self._events.close()

    def _check(self, spec: ReplicaSpec) -> None:
        if self._closed:
            raise EngineError(f"replica {spec.id} cannot be launched: the engine is closed")
        if spec.id in self._workers:
            raise EngineError(f"replica {spec.id} runs already")
        here = tuple(self._nodes) or (NODE,)
        if spec.node is not None and spec.node not in here:
            raise EngineError(f"replica {spec.id} asks for node {spec.node!r}; there is only {', '.join(here)}")
        self._check_variants(spec)

    def _check_variants(self, spec: ReplicaSpec) -> None:
        stage = self._pipeline.stages.get(spec.stage)
        if stage is None:
            known = ", ".join(self._pipeline.stages)
            raise EngineError(f"replica {spec.id} is of the unknown stage {spec.stage!r}; the stages are: {known}")
        known_variants = [variant.name for variant in stage.variants]
        if not spec.variants:
            raise EngineError(f"replica {spec.id} is to hold no variant; name at least one of stage {spec.stage}")
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
                spec=replace(spec, cpus=self._processors(spec)[spec.id]),
                variants=stage.variants,
                children=tuple(self._graph.stages[child] for child in self._graph.children[index]),
                join=self._graph.joins[index],
                import_roots=self._import_roots,
                listen_fd=listener.fileno(),
                parent_pid=os.getpid(),
            )
            worker = Worker(config, listener)
        self._workers[spec.id] = worker
        self._limits.enclose(spec.id, worker.child.pid, worker.cores)
        worker.watching = self._background(self._watch(worker))
        self._allot()
        return worker

    async def _watch(self, worker: Worker) -> None:
        reason = await worker.gone()
        self._forget(worker)
        if worker.replica is not None:
            self._events.emit(ReplicaExited(worker.spec.id, worker.expected, reason))

    def _forget(self, worker: Worker) -> None:
        if self._workers.get(worker.spec.id) is worker:
            del self._workers[worker.spec.id]
            self._limits.release(worker.spec.id)
            self._allot()

    async def _adapt(self, worker: Worker) -> Resized:
        """Bring a replica to what it is to be, then take back what it does not need any more."""
        assert worker.replica is not None
        before = worker.replica.spec
        resized = await worker.adapt()
        if self._allot(but=worker):
            await worker.adapt()
        if (resized.lanes, resized.threads) != (before.lanes, before.threads):
            self._events.emit(ReplicaResized(worker.spec.id, resized))
        return resized

    def _processors(self, new: ReplicaSpec | None = None) -> dict[ReplicaId, tuple[int, ...]]:
        """The processors of every replica, `new` included."""
        cores = {replica: worker.cores for replica, worker in self._workers.items()}
        held = {replica: worker.spec.cpus for replica, worker in self._workers.items()}
        if new is not None:
            cores[new.id], held[new.id] = new.cores, new.cpus
        return assign(self._cpus, cores, held) if self._pin else dict.fromkeys(cores, ())

    def _allot(self, but: Worker | None = None) -> bool:
        """Give every replica its processors and its limit, and move those whose processors are others now.

        `but` moves itself: whether it has to.
        """
        moves = False
        if self._closed:
            return False
        for replica, cpus in self._processors().items():
            worker = self._workers[replica]
            self._limits.change(replica, worker.cores)
            if worker.spec.cpus == cpus:
                continue
            worker.spec = replace(worker.spec, cpus=cpus)
            if worker is but:
                moves = True
            elif worker.replica is not None:
                self._background(self._adapt(worker))
        return moves

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
