"""A decision: which variants run where, with what share of the load. Never edited, only replaced and compared.

`actions(running, plan)` turns the difference into steps, in the order that never takes capacity away before its
replacement is there: grow and launch first, then change the mix, then shrink and drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec import Struct

from triscale.core.cluster import Replica, ReplicaId, ReplicaSpec

__all__ = [
    "Action",
    "Drain",
    "Launch",
    "PathPlan",
    "Plan",
    "ReplicaGroup",
    "Resize",
    "Route",
    "StagePlan",
    "VariantPlan",
    "actions",
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
    mode: Literal["hardware", "accuracy", "overload"] = "hardware"
    feasible: bool = True
    paths: tuple[PathPlan, ...] = ()
    gap: float = 0.0
    """Proven distance to the optimum, relative."""
    solve_s: float = 0.0
    solver: str = ""
    reason: str = ""


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
class Route:
    """Use this plan's shares, batches and admission from now on."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Drain:
    """Give a replica no new work, let it finish, stop it."""

    replica: ReplicaId


Action: TypeAlias = Launch | Resize | Route | Drain


def actions(running: Iterable[Replica], plan: Plan, ids: Iterator[int]) -> tuple[Action, ...]:
    """The steps from what runs to `plan`. Capacity comes before it goes: grow, launch, route, shrink, drain.

    A live replica serves a group when it holds just the group's variants; it is resized to fit. `ids` numbers new
    replicas.
    """
    spare: dict[tuple[str, tuple[str, ...]], list[Replica]] = {}
    for replica in running:
        spare.setdefault((replica.spec.stage, replica.spec.variants), []).append(replica)
    grow: list[Action] = []
    launch: list[Action] = []
    shrink: list[Action] = []
    for stage, stage_plan in plan.stages.items():
        for group in stage_plan.groups:
            alike = spare.get((stage, group.variants), [])
            # Largest first: what is kept is what needs the least change.
            alike.sort(key=lambda r: (-r.spec.cores, r.spec.id))
            for _ in range(group.replicas):
                if not alike:
                    launch.append(Launch(_spec(stage, group, next(ids))))
                    continue
                kept = alike.pop(0)
                if (kept.spec.lanes, kept.spec.threads) != (group.lanes, group.threads):
                    step = Resize(kept.spec.id, group.lanes, group.threads)
                    (grow if group.lanes * group.threads >= kept.spec.cores else shrink).append(step)
    drain = [Drain(replica.spec.id) for replicas in spare.values() for replica in replicas]
    return (*grow, *launch, Route(plan), *shrink, *drain)


def _spec(stage: str, group: ReplicaGroup, number: int) -> ReplicaSpec:
    return ReplicaSpec(
        id=ReplicaId(f"{stage}-{number}"),
        stage=stage,
        variants=group.variants,
        lanes=group.lanes,
        threads=group.threads,
    )
