"""What the dispatcher asks of its driver, besides running batches and telling clients how their requests ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from triscale.core.cluster import ReplicaId
from triscale.dispatch.work import Batch, Request

__all__ = ["Commands", "KillReplica", "LanesClosed", "Order", "ReplicaDrained"]


@dataclass(frozen=True, slots=True)
class KillReplica:
    """A lane of this replica hangs; it counts as lost already. Kill the process."""

    replica: ReplicaId
    reason: str


@dataclass(frozen=True, slots=True)
class LanesClosed:
    """A resize is done: the replica runs at most `lanes` batches from now on, on no more threads than it should.

    What that leaves of its cores may be taken. Every resize is answered, at once if it closes nothing; several that
    overtake each other are answered once, with the lanes that the last one left.
    """

    replica: ReplicaId
    lanes: int


@dataclass(frozen=True, slots=True)
class ReplicaDrained:
    """A draining replica has finished its last batch and may be stopped."""

    replica: ReplicaId


Order: TypeAlias = KillReplica | LanesClosed | ReplicaDrained


class Commands:
    """Everything decided in one step, each list in the order decided.

    Obey the orders first: the runs count on the cores of a replica that is to be killed.
    """

    __slots__ = ("ends", "orders", "runs")

    def __init__(self, runs: list[Batch], ends: list[Request], orders: list[Order]) -> None:
        self.runs = runs
        """Batches to run, each on its `lane`."""
        self.ends = ends
        """Requests that ended; `outcome` says how."""
        self.orders = orders
