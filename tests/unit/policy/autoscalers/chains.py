"""The paper's video pipeline, snapshots of it, and what every plan for it must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.core.snapshot import Snapshot, StageView
from triscale.policy.autoscalers.interface import Autoscaler, Setting
from triscale.testing.builders import stage, variant

VIDEO = {
    "detect": (148.8171, 37.4937, 5.43291, -15.47594),
    "classify": (34.69334, 2.05812, 19.47879, 14.25944),
}
"""alpha, beta, gamma, zeta in milliseconds: github.com/mehransi/Themis at b01017f."""


def measured(coefficients: tuple[float, float, float, float], most_batch: int = 8) -> VariantProfile:
    """A profile that is the formula, to the bit."""
    alpha, beta, gamma, zeta = coefficients
    points = []
    for batch in range(1, most_batch + 1):
        for threads in range(1, 9):
            seconds = (alpha * batch / threads + beta * batch + gamma / threads + zeta) / 1000.0
            points.append(LatencyPoint(batch=batch, threads=threads, p50_s=seconds, p95_s=seconds, p99_s=seconds))
    return VariantProfile(latency=tuple(points))


def chain(
    options: Mapping[str, Any] | None = None,
    *,
    slo_ms: float = 780.0,
    nodes: Sequence[int] = (32,),
    models: Mapping[str, tuple[float, float, float, float]] = VIDEO,
) -> Setting:
    """A chain of stages with one variant each."""
    names = list(models)
    stages = {
        name: stage(variant("only", 1.0, max_batch=8), after=(names[i - 1],) if i else ())
        for i, name in enumerate(names)
    }
    pipeline = Pipeline(name="test", slo_ms=slo_ms, stages=stages)
    return Setting(
        graph=Graph.of(pipeline),
        profile=Profile(pipeline="test", stages={name: {"only": measured(models[name])} for name in names}),
        nodes=machines(nodes),
        options=options or {},
    )


def machines(cores: Sequence[int]) -> list[Node]:
    """Nodes of so many cores."""
    return [Node(id=NodeId(f"n{i}"), cores=each) for i, each in enumerate(cores)]


def seen(
    plan: Plan,
    per_second: Sequence[int],
    *,
    nodes: Sequence[Node] = (),
    now: float | None = None,
    ongoing: Mapping[str, int] | None = None,
) -> Snapshot:
    """What an autoscaler sees when the arrivals of each second were spread evenly over it."""
    return Snapshot(
        now=float(len(per_second)) if now is None else now,
        plan=plan,
        nodes=nodes or machines((32,)),
        replicas=(),
        per_second=per_second,
        recent=(),
        stages={name: StageView(queued=items) for name, items in (ongoing or {}).items()},
    )


def drive(autoscaler: Autoscaler, plan: Plan, arrivals: Sequence[int], cores: Sequence[int] = (32,)) -> list[Plan]:
    """The plan in force after each second, decided at the end of every one."""
    plans = []
    for second in range(1, len(arrivals) + 1):
        known = arrivals[max(0, second - 120) : second]
        plan = autoscaler.decide(seen(plan, known, nodes=machines(cores), now=float(second)))
        plans.append(plan)
    return plans


def shape(plan: Plan) -> list[tuple[int, int]]:
    """(replicas, cores of each) per stage."""
    return [(group.replicas, group.lanes * group.threads) for each in plan.stages.values() for group in each.groups]


def broken(plan: Plan, setting: Setting, cores: Sequence[int] = (32,)) -> list[str]:
    """What is wrong with a plan of replicas that are alike."""
    found = []
    if set(plan.stages) != set(setting.graph.stages):
        found.append(f"stages {sorted(plan.stages)}")
    for name, planned in plan.stages.items():
        total = sum(mine.share for mine in planned.variants.values())
        if abs(total - 1.0) > 1e-9:
            found.append(f"{name}: shares sum to {total}")
        for group in planned.groups:
            if group.replicas < 1 or group.lanes != 1 or group.threads < 1:
                found.append(f"{name}: {group}")
            if not set(planned.variants) <= set(group.variants):
                found.append(f"{name}: plans what is not resident")
        for mine in planned.variants.values():
            if not 1 <= mine.batch <= 8:
                found.append(f"{name}: batches of {mine.batch}")
    if plan.cores != sum(count * each for count, each in shape(plan)):
        found.append(f"{plan.cores} cores are not those of the replicas")
    if plan.cores > sum(cores):
        found.append(f"{plan.cores} of {sum(cores)} cores")
    if any(each > max(cores) for _, each in shape(plan)):
        found.append("a replica that is wider than every node")
    return found
