"""Loki's load balancer: MostAccurateFirst over the replicas that are ready, more often than plans are made.

The shares of a plan hold for the demand and the replicas that it was made for. Between plans both are others: where
the most accurate replicas have room, all items go to them, and while replicas are being replaced, those that are still
there take their part. A plan with other shares runs the same; only the routing follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.snapshot import Phase, Snapshot
from triscale.policy.optimise.assemble import paths_of
from triscale.policy.optimise.problem import Problem
from triscale.policy.routing import Routes, Tier, route

__all__ = ["LoadBalancer"]

_SAME = 0.02
"""Shares that differ by less are the same, unless one of them is 0."""


class LoadBalancer:
    """Gives plans the shares that fit the moment. `headroom`: the part of a tier that fills before the next is used."""

    def __init__(self, headroom: float) -> None:
        self._headroom = headroom
        self._known: dict[tuple[str, str], VariantPlan] = {}
        """(stage, variant) -> how it was last planned: replicas outlive the plan that launched them."""

    def balanced(self, plan: Plan, demand: float, snapshot: Snapshot, problem: Problem) -> Plan:
        """The plan with the shares for `demand` requests/s on what is ready; `snapshot.plan` if it has them."""
        for stage, planned in (*snapshot.plan.stages.items(), *plan.stages.items()):
            self._known.update({(stage, name): mine for name, mine in planned.variants.items()})
        if not all(planned.variants for planned in plan.stages.values()):
            return plan
        lanes = {name: self._lanes(plan, snapshot, name) for name in plan.stages}
        graph = problem.graph
        tiers = [
            [self._tier(name, graph.variant(s, variant), variant, count) for variant, count in lanes[name].items()]
            for s, name in enumerate(graph.stages)
        ]
        fan_out = [[choice.fan_out for choice in choices] for choices in problem.choices]
        routes = route(graph, tiers, demand, fan_out, self._headroom)
        stages = {
            name: self._stage(name, plan.stages[name], routes, s, lanes[name]) for s, name in enumerate(graph.stages)
        }
        new = _with_stages(plan, stages, problem)
        return snapshot.plan if _alike(new, snapshot.plan) else new

    def _lanes(self, plan: Plan, snapshot: Snapshot, stage: str) -> dict[str, int]:
        """Lanes per variant that are ready; while there are none, those that are planned."""
        ready: dict[str, int] = {}
        for view in snapshot.of_stage(stage, Phase.READY):
            for variant in view.spec.variants:
                if (stage, variant) in self._known:
                    ready[variant] = ready.get(variant, 0) + view.spec.lanes
        return ready or {variant: mine.lanes for variant, mine in plan.stages[stage].variants.items()}

    def _tier(self, stage: str, index: int, variant: str, lanes: int) -> Tier:
        known = self._known[stage, variant]
        return Tier(index, lanes * known.batch / known.latency_s, known.latency_s + known.wait_s)

    def _stage(self, name: str, planned: StagePlan, routes: Routes, stage: int, lanes: Mapping[str, int]) -> StagePlan:
        names = routes.graph.variants[stage]
        shares = {names[v]: share for v, share in routes.overall(stage).items()}
        variants = {
            variant: msgspec.structs.replace(mine, share=shares.pop(variant, 0.0))
            for variant, mine in planned.variants.items()
        }
        for variant, share in shares.items():
            if share > 0.0:
                # Not planned any more, but still there.
                count = lanes[variant]
                known = self._known[name, variant]
                variants[variant] = msgspec.structs.replace(known, share=share, lanes=count, replicas=count)
        parents = routes.graph.parents[stage]
        above = routes.graph.variants[parents[0]] if parents else ()
        rows = {
            above[parent]: {names[v]: share for v, share in row.items()}
            for parent, row in routes.by_parent(stage).items()
        }
        return msgspec.structs.replace(
            planned, variants=variants, by_parent={} if _all_same(list(rows.values())) else rows
        )


def _with_stages(plan: Plan, stages: Mapping[str, StagePlan], problem: Problem) -> Plan:
    graph = problem.graph
    latency = {
        (s, graph.variant(s, variant)): mine.latency_s + mine.wait_s
        for s, name in enumerate(graph.stages)
        for variant, mine in stages[name].variants.items()
    }
    paths = paths_of(problem, stages, latency)
    accuracy = sum(path.share * path.accuracy for path in paths)
    return msgspec.structs.replace(plan, stages=stages, paths=paths, accuracy=accuracy)


def _alike(a: Plan, b: Plan) -> bool:
    """Whether two plans want the same replicas, with the same shares but for noise."""
    if (a.demand, a.mode, a.served_fraction) != (b.demand, b.mode, b.served_fraction):
        return False
    for name, mine in a.stages.items():
        other = b.stages[name]
        if mine.groups != other.groups or mine.by_parent.keys() != other.by_parent.keys():
            return False
        if any(other.variants.get(v, each).batch != each.batch for v, each in mine.variants.items()):
            return False
        rows = [(row, other.by_parent[above]) for above, row in mine.by_parent.items()]
        if not all(_same(row, theirs) for row, theirs in [(_shares(mine), _shares(other)), *rows]):
            return False
    return True


def _shares(stage: StagePlan) -> dict[str, float]:
    return {variant: mine.share for variant, mine in stage.variants.items()}


def _all_same(rows: Sequence[Mapping[str, float]]) -> bool:
    return all(_same(rows[0], row) for row in rows[1:])


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    for variant in {*a, *b}:
        mine, other = a.get(variant, 0.0), b.get(variant, 0.0)
        if abs(mine - other) > _SAME or (mine > 0.0) != (other > 0.0):
            return False
    return True
