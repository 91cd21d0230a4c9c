"""Cores by the axis that brought them: there at the start, grown in place (up), or with a new replica (out).

Where the lanes of a node share cores, the cores are the node's rather than a replica's: what it granted when its first
replica came counts as start or out, and what it granted since as up. The simulator's ledger counts in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from triscale.core.cluster import NodeId
from triscale.core.snapshot import ReplicaView

__all__ = ["Axes", "CoreAxes"]


class Axes(Struct, frozen=True, kw_only=True):
    """Cores held at one moment."""

    start: float = 0.0
    """By what was there when the pipeline opened, as far as it had them then."""
    up: float = 0.0
    """By which replicas, or the grants of nodes, have grown in place."""
    out: float = 0.0
    """That replicas launched later came with."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.start + self.up + self.out


class CoreAxes:
    """Remembers of everything that holds cores with how many it came, and whether it was there at the start."""

    def __init__(self) -> None:
        self._came_with: dict[str, tuple[float, bool]] = {}
        """Replica or node -> (cores when it was first seen, whether the pipeline was not open yet)."""
        self._opened = False

    def open(self) -> None:
        """What comes from now on was not there at the start."""
        self._opened = True

    def observe(self, replicas: Sequence[ReplicaView], grants: Mapping[NodeId, float]) -> Axes:
        """The cores held now; `grants` are those that the lanes of a node share, empty where none are shared."""
        start = up = out = 0.0
        seen: set[str] = set()
        for name, cores in _holders(replicas, grants):
            seen.add(name)
            first, initial = self._came_with.setdefault(name, (cores, not self._opened))
            if initial:
                start += min(cores, first)
            else:
                out += min(cores, first)
            up += max(0.0, cores - first)
        for gone in self._came_with.keys() - seen:
            del self._came_with[gone]
        return Axes(start=start, up=up, out=out)


def _holders(replicas: Sequence[ReplicaView], grants: Mapping[NodeId, float]) -> Iterator[tuple[str, float]]:
    """Everything that holds cores, and how many."""
    nodes = {view.node for view in replicas}
    for node in nodes & grants.keys():
        yield f"node {node}", grants[node]
    for view in replicas:
        if view.node not in grants:
            yield f"replica {view.spec.id}", float(view.cores)
