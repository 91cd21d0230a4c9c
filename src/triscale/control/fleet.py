"""What the control loop needs of the serving side, and what it remembers of each replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

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

    def hold(self, replica: ReplicaId, variants: Sequence[str], *, changing: bool = False) -> None:
        """Give it batches of these variants only from now on; those that run are finished.

        `changing`: others follow soon, and until then it is to do its part with these, whatever the plan says.
        """
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
    """As it is: of what it holds, the variants that it may be given batches of."""
    node: NodeId
    phase: Phase
    since: float
    resizing: bool = False
    refused_until: float = 0.0
    loading: bool = False
    """It is being given other variants."""
    swap: bool = False
    """The old ones are to go before the new ones are loaded."""
    tight: bool = False
    """Its memory does not hold other variants beside those that it holds."""
    shaping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever opens and closes its lanes."""

    def view(self) -> ReplicaView:
        """As a policy sees it."""
        return ReplicaView(
            spec=self.spec,
            node=self.node,
            phase=self.phase,
            cores=max(self.spec.cores, self.has.cores),
            loading=self.loading,
            tight=self.tight,
        )

    @property
    def shaped(self) -> bool:
        """Whether it has the lanes and threads that it is to have."""
        return (self.has.lanes, self.has.threads) == (self.spec.lanes, self.spec.threads)

    def reshaped(self, lanes: int, threads: int) -> None:
        """So many lanes of so many threads are what it has."""
        self.has = replace(self.has, lanes=lanes, threads=threads)

    def stay(self) -> None:
        """It is to have the lanes and threads that it has."""
        self.spec = replace(self.spec, lanes=self.has.lanes, threads=self.has.threads)

    def holds(self, variants: tuple[str, ...]) -> None:
        """These variants are what it may be given batches of."""
        self.has = replace(self.has, variants=variants)
