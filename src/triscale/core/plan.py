"""A decision: which variants run where, with what share of the load. Never edited, only replaced and compared.

What leads from what runs to a plan are actions: `policy/reconcile.py` says which can be taken now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec import Struct

from triscale.core.cluster import NodeId, ReplicaId, ReplicaSpec

__all__ = [
    "Action",
    "Drain",
    "Hold",
    "Launch",
    "PathPlan",
    "Plan",
    "ReplicaGroup",
    "Resize",
    "StagePlan",
    "VariantPlan",
]


class VariantPlan(Struct, frozen=True, kw_only=True):
    """How one variant of a stage is used."""

    share: float
    """Part of the stage's items that it runs; the shares of a stage sum to 1 (or all are 0 where nothing runs)."""
    batch: int = 1
    threads: int = 1
    lanes: int = 0
    """Lanes that its share needs, over all replicas."""
    replicas: int = 0
    utilisation: float = 0.0
    latency_s: float = 0.0
    """Predicted service quantile of a full batch."""
    wait_s: float = 0.0
    """Predicted wait quantile before service."""


class ReplicaGroup(Struct, frozen=True, kw_only=True):
    """Replicas of one stage that are alike."""

    variants: tuple[str, ...]
    """Resident in each."""
    replicas: int = 1
    lanes: int = 1
    """Of each replica."""
    threads: int = 1
    """Of each lane."""
    node: NodeId | None = None
    """Where they must run; None = wherever there is room."""
    memory_bytes: int = 0
    """What each may hold; 0 = all of its node's, where that is stated."""


class StagePlan(Struct, frozen=True, kw_only=True):
    """One stage of a plan."""

    variants: Mapping[str, VariantPlan]
    groups: tuple[ReplicaGroup, ...] = ()
    by_parent: Mapping[str, Mapping[str, float]] = {}
    """Parent stage's variant -> variant -> share, where the share depends on the path; else empty."""
    linger_s: float = 0.0
    """Longest that an idle lane waits for a fuller batch."""


class PathPlan(Struct, frozen=True, kw_only=True):
    """One way through the pipeline, and how much of the load takes it."""

    variants: Mapping[str, str]
    share: float
    latency_s: float = 0.0
    accuracy: float = 1.0


class Plan(Struct, frozen=True, kw_only=True):
    """What should run, for which demand, and why."""

    stages: Mapping[str, StagePlan]
    demand: float = 0.0
    """Requests per second at the root that it was made for."""
    capacity: float = 0.0
    """Requests per second at the root that it can carry within the SLO; 0 = not known."""
    served_fraction: float = 1.0
    """Part of the demand that is admitted; below 1 the rest is shed at the door."""
    accuracy: float = 1.0
    cores: float = 0.0
    shared_cores: float = 0.0
    """Above 0: all lanes of a node share so many cores (a lane runs only while a core is free)."""
    node_cores: Mapping[NodeId, float] = {}
    """Where lanes share cores: the cores of the nodes that have others than `shared_cores`."""
    spare_cores: float = 0.0
    """Where lanes share cores: those that the nodes in use could grant besides, as soon as more work waits than the
    plan is for,"""
    spare_after_s: float = 0.0
    """and how long it takes from the first excess arrival until they are there."""
    mode: Literal["hardware", "accuracy", "overload"] = "hardware"
    feasible: bool = True
    paths: tuple[PathPlan, ...] = ()
    gap: float = 0.0
    """Proven distance to the optimum, relative."""
    solve_s: float = 0.0
    solver: str = ""
    reason: str = ""

    def cores_of(self, node: NodeId) -> float:
        """The cores that the lanes of `node` share; 0 where every lane has cores of its own."""
        return self.node_cores.get(node, self.shared_cores)


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a replica."""

    spec: ReplicaSpec


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a live replica other lanes or threads, in place."""

    replica: ReplicaId
    lanes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Give a live replica other variants in the place of those that it holds."""

    replica: ReplicaId
    variants: tuple[str, ...]
    swap: bool = False
    """The old ones go before the new ones are loaded, because memory does not hold both; else they serve meanwhile."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Give a replica no new work, let it finish, stop it."""

    replica: ReplicaId


Action: TypeAlias = Launch | Resize | Hold | Drain
