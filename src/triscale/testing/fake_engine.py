"""An engine that starts nothing: it records what it was asked, and fails when told to, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from triscale.core.cluster import Capabilities, Node, NodeId, Replica, ReplicaId, ReplicaSpec, Resized, Resizing
from triscale.core.ports import EngineEvent, NodeDown, NodeUp, ReplicaExited, ReplicaReady
from triscale.errors import EngineError

__all__ = ["FakeEngine"]


class FakeEngine:
    """Implements `core.ports.Engine` in memory. One-shot faults: set `next_launch_error`, `next_resized` or
    `next_hold_error`; or call `crash` or `node_down`.
    """

    def __init__(self, cores: float = 8.0, nodes: Sequence[Node] = ()) -> None:
        """`nodes`: instead of one, called `fake`, with so many `cores`."""
        self.calls: list[tuple[object, ...]] = []
        self.next_launch_error: EngineError | None = None
        self.next_resized: Resized | None = None
        self.next_hold_error: EngineError | None = None
        self._nodes = {node.id: node for node in nodes or [Node(id=NodeId("fake"), cores=cores)]}
        self._replicas: dict[ReplicaId, Replica] = {}
        self._queues: list[asyncio.Queue[EngineEvent | None]] = []

    @property
    def capabilities(self) -> Capabilities:
        """Everything."""
        return Capabilities(in_place=True, fractional=True, hard_limit=True, min_step=0.001, placement=True, hold=True)

    async def nodes(self) -> Sequence[Node]:
        """All nodes, those that are down marked so."""
        return tuple(self._nodes.values())

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Ready at once, unless `next_launch_error` is set."""
        self.calls.append(("launch", spec.id))
        error, self.next_launch_error = self.next_launch_error, None
        if error is not None:
            raise error
        replica = Replica(spec=spec, node=spec.node or next(iter(self._nodes)), address="fake:")
        self._replicas[spec.id] = replica
        self._emit(ReplicaReady(replica))
        return replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Applied at once, unless `next_resized` says otherwise."""
        self.calls.append(("resize", replica, lanes, threads))
        result, self.next_resized = self.next_resized, None
        if result is None:
            result = Resized(status=Resizing.APPLIED, lanes=lanes, threads=threads)
        known = self._known(replica)
        spec = replace(known.spec, lanes=result.lanes, threads=result.threads)
        self._replicas[replica] = replace(known, spec=spec)
        return result

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        """Done at once, unless `next_hold_error` is set."""
        self.calls.append(("hold", replica, *variants))
        error, self.next_hold_error = self.next_hold_error, None
        if error is not None:
            raise error
        known = self._known(replica)
        self._replicas[replica] = replace(known, spec=replace(known.spec, variants=tuple(variants)))
        return tuple(variants)

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

    def node_down(self, node: NodeId, reason: str = "its network is gone") -> None:
        """Let a node go, and what runs on it without a word."""
        self._nodes[node] = replace(self._nodes[node], ready=False)
        self._replicas = {name: replica for name, replica in self._replicas.items() if replica.node != node}
        self._emit(NodeDown(node, reason))

    def node_up(self, node: NodeId) -> None:
        """Let it come back, empty."""
        self._nodes[node] = replace(self._nodes[node], ready=True)
        self._emit(NodeUp(self._nodes[node]))

    def _known(self, replica: ReplicaId) -> Replica:
        if replica not in self._replicas:
            raise EngineError(f"no replica {replica!r} runs here")
        return self._replicas[replica]

    def _gone(self, replica: ReplicaId, reason: str, *, expected: bool) -> None:
        if self._replicas.pop(replica, None) is not None:
            self._emit(ReplicaExited(replica, expected, reason))

    def _emit(self, event: EngineEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)
