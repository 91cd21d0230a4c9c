"""An engine that starts nothing: it records what it was asked, and fails when told to, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from triscale.core.cluster import Capabilities, Node, NodeId, Replica, ReplicaId, ReplicaSpec, Resized, Resizing
from triscale.core.ports import EngineEvent, ReplicaExited, ReplicaReady
from triscale.errors import EngineError

__all__ = ["FakeEngine"]


class FakeEngine:
    """Implements `core.ports.Engine` in memory. One-shot faults: set `next_launch_error` or `next_resized`."""

    def __init__(self, cores: float = 8.0) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.next_launch_error: EngineError | None = None
        self.next_resized: Resized | None = None
        self._node = Node(id=NodeId("fake"), cores=cores)
        self._replicas: dict[ReplicaId, Replica] = {}
        self._queues: list[asyncio.Queue[EngineEvent | None]] = []

    @property
    def capabilities(self) -> Capabilities:
        """Everything."""
        return Capabilities(in_place=True, fractional=True, hard_limit=True, min_step=0.001, placement=True)

    async def nodes(self) -> Sequence[Node]:
        """One node."""
        return (self._node,)

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Ready at once, unless `next_launch_error` is set."""
        self.calls.append(("launch", spec.id))
        error, self.next_launch_error = self.next_launch_error, None
        if error is not None:
            raise error
        replica = Replica(spec=spec, node=self._node.id, address="fake:")
        self._replicas[spec.id] = replica
        self._emit(ReplicaReady(replica))
        return replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Applied at once, unless `next_resized` says otherwise."""
        self.calls.append(("resize", replica, lanes, threads))
        result, self.next_resized = self.next_resized, None
        if result is None:
            result = Resized(status=Resizing.APPLIED, lanes=lanes, threads=threads)
        known = self._replicas[replica]
        spec = replace(known.spec, lanes=result.lanes, threads=result.threads)
        self._replicas[replica] = replace(known, spec=spec)
        return result

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """Gone at once, as asked."""
        self.calls.append(("drain", replica, grace))
        self._gone(replica, "drained", expected=True)

    async def kill(self, replica: ReplicaId, reason: str) -> None:
        """Gone at once."""
        self.calls.append(("kill", replica))
        self._gone(replica, reason, expected=False)

    async def replicas(self) -> Sequence[Replica]:
        """What was launched and is not gone."""
        return tuple(self._replicas.values())

    async def events(self) -> AsyncIterator[EngineEvent]:
        """Every event from the first step of the iteration on."""
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        while (event := await queue.get()) is not None:
            yield event

    async def close(self) -> None:
        """Everything gone, and the event streams end."""
        for replica in tuple(self._replicas):
            self._gone(replica, "closed", expected=True)
        for queue in self._queues:
            queue.put_nowait(None)

    def crash(self, replica: ReplicaId, reason: str = "killed by SIGKILL") -> None:
        """Let a replica die unasked."""
        self._gone(replica, reason, expected=False)

    def _gone(self, replica: ReplicaId, reason: str, *, expected: bool) -> None:
        if self._replicas.pop(replica, None) is not None:
            self._emit(ReplicaExited(replica, expected, reason))

    def _emit(self, event: EngineEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)
