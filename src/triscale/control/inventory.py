"""The nodes, as the engine described them and as far as they have given what was asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId

__all__ = ["Inventory"]


class Inventory:
    """Nodes that come and go. One that refused cores counts for no more than it gave, for a while."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, Node] = {}
        self._full: dict[NodeId, tuple[float, float]] = {}
        """Node -> (cores that can be had of it, until when that is believed)."""

    def know(self, nodes: Iterable[Node]) -> None:
        """These are all; what was known of any is forgotten."""
        self._nodes = {node.id: node for node in nodes}
        self._full.clear()

    def up(self, node: Node) -> None:
        """It is there (again), and as described."""
        self._nodes[node.id] = node
        self._full.pop(node.id, None)

    def down(self, node: NodeId) -> None:
        """It is gone."""
        if node in self._nodes:
            self._nodes[node] = replace(self._nodes[node], ready=False)

    def full(self, node: NodeId, cores: float, until: float) -> None:
        """It gives no more than so many cores; believed until then."""
        self._full[node] = cores, until

    def seen(self, now: float) -> Sequence[Node]:
        """The nodes, with the cores that can be had of each."""
        self._full = {node: full for node, full in self._full.items() if full[1] > now}
        return tuple(
            replace(node, cores=min(node.cores, self._full[node.id][0])) if node.id in self._full else node
            for node in self._nodes.values()
        )

    @property
    def ids(self) -> Sequence[NodeId]:
        """Of all nodes, in the engine's order."""
        return tuple(self._nodes)
