"""One simulated replica: what it is, what it is to be, and what was begun with it."""

from __future__ import annotations

from triscale.core.cluster import NodeId, ReplicaSpec
from triscale.core.snapshot import Phase, ReplicaView

__all__ = ["SimulatedReplica"]


class SimulatedReplica:
    """A replica on a node. Life: starting -> ready -> draining -> gone; it may be lost from any of them."""

    __slots__ = (
        "closed",
        "cores",
        "first",
        "held",
        "initial",
        "loading",
        "loads",
        "node",
        "open_cores",
        "owner",
        "phase",
        "spec",
        "target",
        "tight",
        "waits",
    )

    def __init__(self, spec: ReplicaSpec, node: NodeId, owner: int, *, initial: bool) -> None:
        self.spec = spec
        """With the shape and the variants that it has or, while they are being changed, is to have."""
        self.node = node
        self.owner = owner
        """The stage's index."""
        self.initial = initial
        self.first = spec.cores
        """Cores that it was launched with."""
        self.phase = Phase.STARTING
        self.cores = 0
        """That it holds on its node."""
        self.open_cores = 0
        """Cores of the lanes that the dispatcher was last told of."""
        self.target = 0
        """Number of the newest resize: what belongs to an earlier one is void."""
        self.waits = False
        """A grow has not taken effect yet: lanes that were closed for an earlier resize mean nothing."""
        self.held = spec.variants
        """Variants that it may be given batches of; while its lanes are closed, those that its last batches use."""
        self.loading = False
        """It is being given other variants."""
        self.loads = 0
        """Number of the newest change of variants: what belongs to an earlier one is void."""
        self.closed = False
        """Its lanes are closed until other variants are loaded."""
        self.tight = False
        """Its memory does not hold other variants beside those that it holds."""

    def view(self) -> ReplicaView:
        """As the autoscaler sees it."""
        return ReplicaView(
            spec=self.spec,
            node=self.node,
            phase=self.phase,
            cores=self.cores,
            loading=self.loading,
            tight=self.tight,
        )
