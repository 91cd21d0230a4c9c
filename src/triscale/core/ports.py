"""The interfaces between decisions and the world. Small, owned here, implemented in several places.

Every implementation passes the contract tests in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from triscale.core.cluster import Capabilities, Node, NodeId, Replica, ReplicaId, ReplicaSpec, Resized

__all__ = [
    "Engine",
    "EngineEvent",
    "NodeDown",
    "NodeUp",
    "ReplicaExited",
    "ReplicaReady",
    "ReplicaResized",
]


@dataclass(frozen=True, slots=True)
class NodeUp:
    """A node can take replicas."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A node is gone, with everything on it."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaReady:
    """A replica can take work."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaExited:
    """A replica is gone: drained (`expected`), crashed or killed. Its batches must be run elsewhere."""

    replica: ReplicaId
    expected: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaResized:
    """A replica's cores changed, asked for or not; plans must use what it has, not what was wished."""

    replica: ReplicaId
    resized: Resized


EngineEvent: TypeAlias = NodeUp | NodeDown | ReplicaReady | ReplicaExited | ReplicaResized


class Engine(Protocol):
    """What launches, resizes, drains and watches replicas."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """The nodes, with what may be allocated on each."""
        ...

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Start a replica and return when it can take work. Raises EngineError; never leaves a half-started one."""
        ...

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Change a live replica in place. One resize in flight per replica; the newest target wins.

        To grow, cores first and then lanes; to shrink, lanes first, then, when their batches are done, cores.
        """
        ...

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        """Make these, at least one, the resident variants of a live replica: those that it holds when it is done.

        Batches go on meanwhile. The newest call's variants win. New variants are loaded before old ones go, or after
        where the replica's memory does not hold both. So give it no batches of variants that are not to stay, before
        the call, nor of new ones before it returns. EngineError, with what went wrong, when a variant cannot be loaded:
        `replicas` says what is held then. A call that is cancelled unloads nothing from then on. Only where
        `capabilities.hold`.
        """
        ...

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """Give it no new work, let it finish for at most `grace` seconds, stop it. Idempotent."""
        ...

    async def kill(self, replica: ReplicaId, reason: str) -> None:
        """Stop it at once (it hangs). Idempotent; the ReplicaExited event follows."""
        ...

    async def replicas(self) -> Sequence[Replica]:
        """What really runs."""
        ...

    def events(self) -> AsyncIterator[EngineEvent]:
        """Changes, in order, from the moment of the call on."""
        ...

    async def close(self) -> None:
        """Stop everything that this engine started."""
        ...
