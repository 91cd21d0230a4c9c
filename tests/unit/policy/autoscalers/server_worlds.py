"""Loki's traffic analysis as a world of one-core servers, and snapshots of it with a plan's replicas in place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Phase, ReplicaView, Snapshot, StageView
from triscale.core.spec import load_pipeline
from triscale.policy.autoscalers.interface import Setting

_EXAMPLES = Path(__file__).parents[4] / "examples" / "traffic_analysis"


@cache
def car_branch() -> Pipeline:
    """Detector and vehicle classifier."""
    return load_pipeline(_EXAMPLES / "car_branch.yaml")


@cache
def both_branches() -> Pipeline:
    """Detector, and behind it vehicles and people."""
    return load_pipeline(_EXAMPLES / "pipeline.yaml")


def servers(count: int) -> tuple[Node, ...]:
    """So many nodes of one core."""
    return tuple(Node(id=NodeId(f"server-{i}"), cores=1) for i in range(count))


def setting(
    pipeline: Pipeline,
    count: int = 18,
    *,
    nodes: Sequence[Node] | None = None,
    min_accuracy: float = 0.0,
    future: Callable[[float], float] | None = None,
    **options: Any,
) -> Setting:
    """The pipeline on so many servers, by the profile in its file."""
    profile = inline_profile(pipeline)
    assert profile is not None
    return Setting(
        graph=Graph.of(pipeline),
        profile=profile,
        nodes=servers(count) if nodes is None else nodes,
        min_accuracy=min_accuracy,
        options=options,
        future=future,
    )


def replicas(plan: Plan, phase: Phase = Phase.READY) -> list[ReplicaView]:
    """What the plan asks for, as it would run."""
    ids = itertools.count()
    return [
        ReplicaView(
            spec=ReplicaSpec(
                id=ReplicaId(f"{name}-{next(ids)}"),
                stage=name,
                variants=group.variants,
                lanes=group.lanes,
                threads=group.threads,
            ),
            node=group.node or NodeId("server-0"),
            phase=phase,
            cores=group.lanes * group.threads,
        )
        for name, stage in plan.stages.items()
        for group in stage.groups
        for _ in range(group.replicas)
    ]


def snapshot(
    now: float,
    plan: Plan,
    per_second: Sequence[int],
    *,
    nodes: Sequence[Node] | None = None,
    running: Sequence[ReplicaView] | None = None,
    entered: Mapping[str, int] | None = None,
    fan_out: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> Snapshot:
    """The world at `now`: the plan in force, its replicas ready unless others are given."""
    return Snapshot(
        now=now,
        plan=plan,
        nodes=servers(18) if nodes is None else nodes,
        replicas=replicas(plan) if running is None else running,
        per_second=per_second,
        recent=[],
        stages={name: StageView(entered=count) for name, count in (entered or {}).items()},
        fan_out=fan_out or {},
    )


def used(plan: Plan, stage: str) -> set[str]:
    """The variants of a stage that get a share."""
    return {name for name, mine in plan.stages[stage].variants.items() if mine.share > 0.0}
