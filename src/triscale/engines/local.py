"""The embedded default: replicas as child processes of this one, cores by affinity.

Who owns what: the engine owns each process and its connection. `launch` starts the worker, connects and waits until
it is ready; `client(replica)` hands out the connected `ReplicaClient`, whose `observer` the runner of batches sets.
That one connection carries batches, control and heartbeats. A replica that ends its connection, sends garbage or
misses its heartbeats is killed; one that exits ends its connection; either way exactly one `ReplicaExited` follows.

Cores are steered, not limited: a hard limit (cgroup `cpu.max`) would be set where `_pin` assigns processors.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from triscale.clock import monotonic
from triscale.core.cluster import (
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
from triscale.engines.child import Child
from triscale.engines.cpus import assign
from triscale.engines.events import Events, EventStream
from triscale.errors import EngineError
from triscale.replica.address import bound
from triscale.replica.client import HEARTBEAT_TIMEOUT, ReplicaClient
from triscale.replica.config import ReplicaConfig

__all__ = ["LocalEngine"]

NODE = NodeId("local")
_LAUNCH_TIMEOUT = 300.0
_RESIZE_TIMEOUT = 10.0
_EXIT_GRACE = 1.0
"""Seconds in which a worker that ended its connection, or was told to stop, may exit by itself."""

_numbers = itertools.count(1)

T = TypeVar("T")


class _Running:
    """A worker process, from its start to its end."""

    def __init__(self, spec: ReplicaSpec, child: Child, cpus: tuple[int, ...]) -> None:
        self.spec = spec
        """What it is asked to be; `replica` says what it is."""
        self.child = child
        self.cpus = cpus
        self.client: ReplicaClient | None = None
        self.replica: Replica | None = None
        self.draining: asyncio.Task[None] | None = None
        self.expected = False
        self.reason = ""
        """Why we ended it; empty while it is its own doing."""

    def end(self, reason: str) -> None:
        """Kill it. No-op when it is gone."""
        if not self.child.exited.done():
            self.reason = self.reason or reason
            if self.client is not None:
                self.client.lose(reason)
            self.child.kill()

    def unchanged(self, reason: str) -> Resized:
        """What it has, where it cannot have what was asked for."""
        assert self.replica is not None
        now = self.replica.spec
        return Resized(status=Resizing.INFEASIBLE, lanes=now.lanes, threads=now.threads, reason=reason)


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
        self._pinning = pin
        self._launch_timeout = launch_timeout
        self._resize_timeout = resize_timeout
        self._heartbeat_timeout = heartbeat_timeout
        self._running: dict[ReplicaId, _Running] = {}
        self._events = Events()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """In place, in whole cores, steered but not limited, on one node."""
        return Capabilities(in_place=True, fractional=False, hard_limit=False, min_step=1.0, placement=False)

    async def nodes(self) -> Sequence[Node]:
        """This machine."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return (Node(id=NODE, cores=self._cores, memory_bytes=memory),)

    def client(self, replica: ReplicaId) -> ReplicaClient:
        """The connection to a replica that was launched here; EngineError when it does not run."""
        running = self._running.get(replica)
        if running is None or running.client is None:
            raise EngineError(f"no replica {replica!r} runs here")
        return running.client

    async def replicas(self) -> Sequence[Replica]:
        """The replicas that can take work, or are finishing their last."""
        return [running.replica for running in self._running.values() if running.replica is not None]

    def events(self) -> EventStream:
        """All events from this call on; ends when the engine is closed."""
        return self._events.subscribe()

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Start a worker and wait until it can take batches.

        EngineError with the worker's own words when it cannot; nothing is left of it then.
        """
        self._check(spec)
        started = monotonic()
        address = f"unix:@triscale-{os.getpid()}-{next(_numbers)}-{spec.id}"
        running = self._start(spec, address)
        try:
            running.client = await self._connect(running, address)
        except BaseException:
            running.child.kill_and_reap()
            self._forget(running)
            raise
        running.replica = Replica(
            spec=spec, node=NODE, address=address, pid=running.child.pid, ready_after_s=monotonic() - started
        )
        running.client.ended.add_done_callback(lambda _: self._connection_ended(running))
        self._events.emit(ReplicaReady(running.replica))
        return running.replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Change a replica in place; DEFERRED when batches hold it up for long, and then an event says when it is done.

        EngineError when the replica does not run, or ends meanwhile.
        """
        self.client(replica)
        running = self._running[replica]
        if threads > max(self._cores, len(self._cpus)):
            return running.unchanged(
                f"a lane of {threads} threads does not fit the {max(self._cores, len(self._cpus)):g} cores of this node"
            )
        running.spec = msgspec.structs.replace(running.spec, lanes=lanes, threads=threads)
        self._repin(running)
        change = self._background(self._carry_out(running))
        try:
            return await asyncio.wait_for(asyncio.shield(change), self._resize_timeout)
        except TimeoutError:
            return msgspec.structs.replace(
                running.unchanged(f"batches still run after {self._resize_timeout:g} s"), status=Resizing.DEFERRED
            )

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """Have it finish what it has, for at most `grace` seconds, then end it. Idempotent."""
        running = self._running.get(replica)
        if running is None:
            return
        running.expected = True
        if running.client is None:
            running.end("drained before it was ready")
        elif running.draining is None:
            running.draining = self._background(self._drain(running, running.client, grace))
        await asyncio.wait([running.child.exited])

    async def kill(self, replica: ReplicaId, reason: str) -> None:
        """End it at once. Idempotent; returns when it is gone."""
        running = self._running.get(replica)
        if running is not None:
            running.end(reason)
            await asyncio.wait([running.child.exited])

    async def close(self) -> None:
        """End every replica, at once but for `model.close()`. Idempotent; when cancelled, still nothing is left."""
        self._closed = True
        all_running = list(self._running.values())
        exits = [running.child.exited for running in all_running]
        try:
            for running in all_running:
                running.expected = True
                if running.client is not None:
                    running.client.stop("the engine was closed")
                else:
                    running.end("the engine was closed")
            if exits:
                await asyncio.wait(exits, timeout=_EXIT_GRACE)
            for running in all_running:
                running.end("the engine was closed")
            if exits:
                await asyncio.wait(exits)
        finally:
            for running in all_running:
                running.child.kill_and_reap()
            for task in self._tasks:
                task.cancel()
            self._events.close()

    def _check(self, spec: ReplicaSpec) -> None:
        stage = self._pipeline.stages.get(spec.stage)
        if self._closed:
            raise EngineError(f"replica {spec.id} cannot be launched: the engine is closed")
        if spec.id in self._running:
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

    def _start(self, spec: ReplicaSpec, address: str) -> _Running:
        stage = self._pipeline.stages[spec.stage]
        index = self._graph.stage(spec.stage)
        cpus = self._assign(spec)[spec.id]
        # The worker inherits the listening socket, so that connecting never has to be tried again.
        with bound(address) as listener:
            config = ReplicaConfig(
                spec=msgspec.structs.replace(spec, cpus=cpus),
                variants=stage.variants,
                children=tuple(self._graph.stages[child] for child in self._graph.children[index]),
                join=self._graph.joins[index],
                import_roots=self._import_roots,
                listen_fd=listener.fileno(),
                parent_pid=os.getpid(),
            )
            running = _Running(spec, Child(config, listener), cpus)
        self._running[spec.id] = running
        running.child.exited.add_done_callback(lambda _: self._process_ended(running))
        self._repin(running)
        return running

    async def _connect(self, running: _Running, address: str) -> ReplicaClient:
        """Connect and wait for the worker to be ready; EngineError in its own words when it is not going to be."""
        child = running.child
        try:
            async with asyncio.timeout(self._launch_timeout):
                return await ReplicaClient.connect(address, heartbeat_timeout=self._heartbeat_timeout)
        except TimeoutError:
            why = f"it was not ready within {self._launch_timeout:g} s and was killed{child.last_words()}"
        except EngineError as error:
            why = str(error)
        except OSError as error:
            await asyncio.wait([child.exited], timeout=_EXIT_GRACE)
            why = running.reason or (child.describe_exit() if child.exited.done() else str(error)) + child.last_words()
        raise EngineError(f"replica {running.spec.id} did not start: {why}")

    async def _carry_out(self, running: _Running) -> Resized:
        """Bring a replica to its spec, and note what it really has then."""
        assert running.client is not None
        assert running.replica is not None
        spec = running.spec
        resized = await running.client.resize(spec.lanes, spec.threads, running.cpus)
        before = running.replica.spec
        actual = msgspec.structs.replace(before, lanes=resized.lanes, threads=resized.threads)
        running.replica = msgspec.structs.replace(running.replica, spec=actual)
        if resized.status is Resizing.INFEASIBLE:
            running.spec = actual
        if actual != before:
            self._events.emit(ReplicaResized(spec.id, resized))
        return resized

    async def _drain(self, running: _Running, client: ReplicaClient, grace: float) -> None:
        try:
            async with asyncio.timeout(grace):
                if await client.drain():
                    running.reason = running.reason or "drained"
        except TimeoutError:
            running.end(f"it had not finished after {grace:g} s of grace and was killed")

    def _assign(self, new: ReplicaSpec | None = None) -> dict[ReplicaId, tuple[int, ...]]:
        """The processors of every replica, `new` included."""
        specs = [running.spec for running in self._running.values()] + ([new] if new else [])
        if not self._pinning:
            return {spec.id: () for spec in specs}
        held = {running.spec.id: running.cpus for running in self._running.values()}
        return assign(self._cpus, {spec.id: spec.cores for spec in specs}, held)

    def _repin(self, changing: _Running | None = None) -> None:
        """Processors were taken or given back: move every replica whose own are others now, but for `changing`."""
        for replica, cpus in self._assign().items():
            running = self._running[replica]
            if running.cpus != cpus:
                running.cpus = cpus
                if running is not changing and running.replica is not None:
                    self._background(self._carry_out(running))

    def _connection_ended(self, running: _Running) -> None:
        client = running.client
        assert client is not None
        reason = client.ended.result()
        if not client.ended_by_peer:
            running.end(reason)
        else:  # it may be about to exit, and its exit tells more
            asyncio.get_running_loop().call_later(_EXIT_GRACE, running.end, reason)

    def _process_ended(self, running: _Running) -> None:
        self._forget(running)
        reason = running.reason or running.child.describe_exit()
        if running.client is not None:
            # The end of the stream tells the client, behind the last results; unless something else holds the socket.
            asyncio.get_running_loop().call_later(_EXIT_GRACE, running.client.lose, reason)
        if running.replica is not None:
            self._events.emit(ReplicaExited(running.spec.id, running.expected, reason))

    def _forget(self, running: _Running) -> None:
        if self._running.get(running.spec.id) is running:
            del self._running[running.spec.id]
            if not self._closed:
                self._repin()

    def _background(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # an EngineError of a replica that ended: its exit is reported
