"""From a decision to a `Plan`: shares, replica groups, predicted latencies per path, capacity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from triscale.core.graph import Graph
from triscale.core.plan import PathPlan, Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.policy.optimise.decision import Decision, Mode, Pooled
from triscale.policy.optimise.place import Placement, place
from triscale.policy.optimise.points import TOLERANCE
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.shared import Mixed
from triscale.policy.optimise.ways import joined, way_accuracy

__all__ = ["assemble", "assemble_shared", "critical_path_s", "paths_of"]

_SAME = 1e-6
"""Difference of shares below which they do not depend on the path."""
_MOST_PATHS = 256
_HALVINGS = 16


def assemble(
    problem: Problem, decision: Decision, mode: Mode, *, solver: str, gap: float, reason: str, demand: float
) -> Plan:
    """The plan of a dedicated decision. Whatever does not fit the nodes must have been kept out before."""
    placement = place(problem, decision)
    assert placement is not None
    stages = {name: _stage(problem, decision, placement, stage) for stage, name in enumerate(problem.graph.stages)}
    paths = paths_of(problem, stages, {key: _latency(pool, 1.0) for key, pool in decision.pools.items()})
    served = min(1.0, decision.served)
    return Plan(
        stages=stages,
        demand=demand,
        capacity=_capacity(problem, decision),
        served_fraction=1.0 if served > 1.0 - 1e-9 else served,
        accuracy=sum(path.share * path.accuracy for path in paths),
        cores=float(decision.cores),
        mode=mode,
        feasible=mode != "overload",
        paths=paths,
        gap=gap,
        solver=solver,
        reason=reason,
    )


def assemble_shared(problem: Problem, mixed: Mixed, mode: Mode, *, solver: str, reason: str, demand: float) -> Plan:
    """The plan of nodes whose stages share their cores: one replica of each stage on each node."""
    waits = {key: point.wait_s(1, 1.0) + mixed.wait_s for key, point in mixed.points.items()}
    stages = {name: _shared_stage(problem, mixed, stage, waits) for stage, name in enumerate(problem.graph.stages)}
    latency = {key: point.service_s + waits[key] for key, point in mixed.points.items()}
    paths = paths_of(problem, stages, latency)
    return Plan(
        stages=stages,
        demand=demand,
        capacity=problem.demand * mixed.served * problem.settings.utilisation / mixed.utilisation
        if mixed.utilisation > 0.0
        else 0.0,
        served_fraction=1.0 if mixed.served > 1.0 - 1e-9 else mixed.served,
        accuracy=sum(path.share * path.accuracy for path in paths),
        cores=float(mixed.cores * len(problem.nodes)),
        shared_cores=float(mixed.cores),
        mode=mode,
        feasible=mode != "overload",
        paths=paths,
        solver=solver,
        reason=reason,
    )


def _shared_stage(problem: Problem, mixed: Mixed, stage: int, waits: Mapping[tuple[int, int], float]) -> StagePlan:
    mine = {variant: point for (s, variant), point in sorted(mixed.points.items()) if s == stage}
    total = sum(mixed.loads[stage, variant] for variant in mine)
    threads = next(iter(mine.values())).threads
    lanes = mixed.cores // threads
    variants = {
        problem.choices[stage][variant].name: VariantPlan(
            share=mixed.loads[stage, variant] / total if total > 0.0 else 1.0 / len(mine),
            batch=point.batch,
            threads=threads,
            lanes=lanes,
            replicas=len(problem.nodes),
            utilisation=mixed.loads[stage, variant] * point.mean_s / point.batch / (lanes * len(problem.nodes)),
            latency_s=point.service_s,
            wait_s=waits[stage, variant],
        )
        for variant, point in mine.items()
    }
    spec = problem.graph.pipeline.stages[problem.graph.stages[stage]]
    group = ReplicaGroup(variants=tuple(variants), replicas=len(problem.nodes), lanes=lanes, threads=threads)
    return StagePlan(
        variants=variants,
        groups=(group,),
        by_parent=_by_parent(problem, mixed.ways, stage),
        linger_s=spec.linger_ms / 1000.0,
    )


def _stage(problem: Problem, decision: Decision, placement: Placement, stage: int) -> StagePlan:
    choices = problem.choices[stage]
    mine = {variant: pool for (s, variant), pool in sorted(decision.pools.items()) if s == stage}
    total = sum(pool.items_per_s for pool in mine.values())
    idle = 1.0 / len(mine) if mine else 0.0
    variants = {
        choices[variant].name: VariantPlan(
            share=pool.items_per_s / total if total > 0.0 else idle,
            batch=pool.point.batch,
            threads=pool.point.threads,
            lanes=pool.lanes,
            replicas=len(placement[stage, variant]),
            utilisation=pool.items_per_s / (pool.lanes * pool.point.rate) * pool.point.utilisation,
            latency_s=pool.point.service_s,
            wait_s=pool.point.wait_s(pool.lanes, pool.items_per_s),
        )
        for variant, pool in mine.items()
    }
    groups = tuple(
        ReplicaGroup(variants=(choices[variant].name,), replicas=count, lanes=lanes, threads=pool.point.threads)
        for variant, pool in mine.items()
        for lanes, count in sorted(Counter(lanes for _, lanes in placement[stage, variant]).items(), reverse=True)
    )
    spec = problem.graph.pipeline.stages[problem.graph.stages[stage]]
    return StagePlan(
        variants=variants,
        groups=groups,
        by_parent=_by_parent(problem, decision.ways, stage),
        linger_s=spec.linger_ms / 1000.0,
    )


def _by_parent(
    problem: Problem, ways: Sequence[tuple[tuple[int, ...], float]], stage: int
) -> dict[str, dict[str, float]]:
    """Shares per variant of the only parent; empty where they do not depend on it."""
    parents = problem.graph.parents[stage]
    if len(parents) != 1 or stage in joined(problem.graph):
        return {}
    (parent,) = parents
    together: dict[int, dict[int, float]] = {}
    for way, part in ways:
        row = together.setdefault(way[parent], {})
        row[way[stage]] = row.get(way[stage], 0.0) + part
    rows = {above: {v: part / sum(row.values()) for v, part in row.items()} for above, row in together.items()}
    first, *others = rows.values()
    used = {v for row in rows.values() for v in row}
    if all(abs(first.get(v, 0.0) - row.get(v, 0.0)) <= _SAME for row in others for v in used):
        return {}
    return {
        problem.choices[parent][above].name: {problem.choices[stage][v].name: part for v, part in sorted(row.items())}
        for above, row in sorted(rows.items())
    }


def _latency(pool: Pooled, load_factor: float) -> float:
    return pool.point.latency_s(pool.lanes, pool.items_per_s * load_factor)


def critical_path_s(graph: Graph, latency: Mapping[int, float], hop_s: float) -> float:
    """Through the slowest route, given each stage's latency."""
    ends: list[float] = []
    for stage, parents in enumerate(graph.parents):
        ends.append(max((ends[parent] for parent in parents), default=0.0) + hop_s + latency.get(stage, 0.0))
    return max(ends)


def paths_of(
    problem: Problem, stages: Mapping[str, StagePlan], latency: Mapping[tuple[int, int], float]
) -> tuple[PathPlan, ...]:
    """Every combination of variants that the shares lead to, the most frequent first.

    The dispatcher chooses a variant by the one before it, so that is what the shares are multiplied along.
    """
    graph = problem.graph
    ways: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    for stage, name in enumerate(graph.stages):
        plan = stages[name]
        longer: list[tuple[tuple[int, ...], float]] = []
        for way, part in ways:
            row: Mapping[str, float] = {v: variant.share for v, variant in plan.variants.items()}
            if plan.by_parent:
                (parent,) = graph.parents[stage]
                row = plan.by_parent.get(graph.variants[parent][way[parent]], row)
            longer += [((*way, graph.variant(stage, v)), part * share) for v, share in row.items() if share > 0.0]
        ways = sorted(longer, key=lambda item: -item[1])[:_MOST_PATHS]
    total = sum(part for _, part in ways)
    return tuple(
        PathPlan(
            variants={name: graph.variants[s][way[s]] for s, name in enumerate(graph.stages)},
            share=part / total,
            latency_s=critical_path_s(graph, {s: latency[s, v] for s, v in enumerate(way)}, problem.settings.hop_s),
            accuracy=way_accuracy(problem, way),
        )
        for way, part in ways
    )


def _capacity(problem: Problem, decision: Decision) -> float:
    """Requests/s that the same lanes with the same shares carry within the SLO."""
    busiest = max((pool.items_per_s / (pool.lanes * pool.point.rate) for pool in decision.pools.values()), default=0.0)
    if busiest <= 0.0:
        return 0.0
    carried = problem.demand * decision.served
    most = 1.0 / busiest
    if all(pool.point.table is None for pool in decision.pools.values()):
        return carried * most

    def within(factor: float) -> bool:
        slowest = {
            stage: max(_latency(pool, factor) for (s, _), pool in decision.pools.items() if s == stage)
            for stage in range(len(problem.choices))
        }
        limit = problem.graph.pipeline.slo_s * (1.0 + TOLERANCE)
        return critical_path_s(problem.graph, slowest, problem.settings.hop_s) <= limit

    low, high = min(1.0, most), most
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if within(middle) else (low, middle)
    return carried * low
