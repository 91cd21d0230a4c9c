"""What the control loop needs of the serving side, and what it remembers of each replica."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from triscale.core.cluster import NodeId, Replica, ReplicaId, ReplicaSpec
from triscale.core.plan import Plan
from triscale.core.snapshot import Phase, ReplicaView

__all__ = ["Fleet", "Known"]


class Fleet(Protocol):
    """The serving side, as far as replicas come, change and go."""

    def attach(self, replica: Replica) -> None:
        """It can take work; one that is attached already keeps its batches. EngineError when it is gone by now."""
        ...

    def detach(self, replica: ReplicaId, reason: str) -> None:
        """It is gone. Idempotent."""
        ...

    def follow(self, plan: Plan) -> None:
        """Use this plan's shares, batch sizes and admission."""
        ...

    def share_cores(self, node: str, cores: float) -> None:
        """The lanes of a node share so many cores from now on."""
        ...

    def resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        """Use so many lanes from now on."""
        ...

    def lanes_closed(self, replica: ReplicaId) -> Awaitable[None]:
        """Done when the next shrink has taken effect. Ask before shrinking."""
        ...

    def drain(self, replica: ReplicaId) -> Awaitable[None]:
        """Give it no new work; done when it is idle."""
        ...


@dataclass(slots=True)
class Known:
    """A replica, from the moment its launch began."""

    spec: ReplicaSpec
    """As it is to be."""
    has: ReplicaSpec
    """As it is."""
    node: NodeId
    phase: Phase
    since: float
    resizing: bool = False
    refused_until: float = 0.0

    def view(self) -> ReplicaView:
        """As a policy sees it."""
        return ReplicaView(spec=self.spec, node=self.node, phase=self.phase, cores=max(self.spec.cores, self.has.cores))
