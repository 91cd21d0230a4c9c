"""Proteus as Loki's evaluation models it: accuracy scaling that does not know the pipeline (Ahmad et al., ASPLOS 2024).

Each stage is an independent model family with a demand of its own, the items that entered it, and a share of the SLO:
SLO / depth, half of it for waiting. The whole cluster is always in use. One integer program decides how many servers
run which variant, for the highest accuracy weighted by items, with as much throughput for every family as its demand
times `beta`; where that is too much, `beta` gives way as far as it must. That a cheaper detector emits fewer items,
that time left over at one stage could be used at another, and that items weigh as much as the request they belong to:
of this it knows nothing. No admission, no rerouting, no accuracy floor; what would be late is dropped at every stage.

Kept as published: all of the above. Mended against the modelling in Loki's simulator (arXiv 2407.03583,
github.com/UMass-LIDS/Loki at e6bb80c): the program is solved to its optimum instead of a gap of one half, spare
servers go where they widen the narrowest family, batches do not wait to fill, and a stage with no variant that fits
half of its share runs the quickest one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import product
from typing import Annotated

from msgspec import Meta, Struct

from triscale.core.figures import count
from triscale.core.plan import Plan, StagePlan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.families import Family, Member, Share, allocate
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, read_options
from triscale.policy.autoscalers.servers import Com, demand_at, server_problem, step_of
from triscale.policy.forecast import Ewma
from triscale.policy.optimise.assemble import assemble
from triscale.policy.optimise.compiled import compiled
from triscale.policy.optimise.decision import Decision, Mode, Pooled
from triscale.policy.optimise.place import fits
from triscale.policy.optimise.points import TOLERANCE, Point
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.ways import visits_of, way_accuracy

__all__ = ["Proteus", "ProteusOptions"]

_SMOOTHED_S = 20
"""Seconds of each stage's history that are looked at."""


class ProteusOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `proteus`."""

    interval_s: Above0 = 10.0
    """Time between two plans: 10 s in Loki's simulator. Every second is better where models load in no time, and far
    worse where they take a second: each change of a detector changes what enters the stages behind it."""
    com: Com = 1.6
    """Centre of mass of the smoothing of the last 20 seconds' demand: the newest second weighs 1 / (1 + com)."""
    beta: Annotated[float, Meta(gt=0.0, description="a factor above 0")] = 1.05
    """Throughput that every stage must have, in parts of its demand. More of it takes accuracy and does not help."""


class Proteus:
    """See the module. `options` are `ProteusOptions`."""

    name = "proteus"
    tick_s = 1.0
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self.options = read_options(self.name, ProteusOptions, setting.options)
        self._problem = server_problem(self.name, setting, {})
        self._points = [_points(self._problem, s) for s in range(len(setting.graph.stages))]
        """Per stage: variant, most accurate first -> how its servers run it."""
        self._entered: tuple[float, list[int]] | None = None
        """When items were last counted, and how many had entered each stage."""
        self._rates: list[deque[float]] = [deque(maxlen=_SMOOTHED_S) for _ in self._points]
        self._planned_at = 0.0
        self._planned_for: tuple[float, ...] = ()

    def first(self, demand: float) -> Plan:
        """For the expected demand, and behind the root what the most accurate variants would make of it."""
        way = tuple(next(iter(points)) for points in self._points)
        return self._plan([_rounded(demand * items) for items in visits_of(self._problem, way)])

    def decide(self, snapshot: Snapshot) -> Plan:
        """Servers for what entered each stage lately, whenever a plan is due."""
        self._observe(snapshot)
        if snapshot.now < self._planned_at + self.options.interval_s - 0.5 * self.tick_s or not self._rates[0]:
            return snapshot.plan
        self._planned_at = snapshot.now
        demands = tuple(_rounded(self._smoothed(rates)) for rates in self._rates)
        nodes = tuple(node for node in snapshot.nodes if node.ready)
        if demands == self._planned_for and nodes == self._problem.nodes:
            return snapshot.plan
        self._planned_for = demands
        self._problem = self._problem.at(demands[0], nodes)
        plan = self._plan(demands)
        return snapshot.plan if plan == snapshot.plan else plan

    def _smoothed(self, rates: Sequence[float]) -> float:
        mean = Ewma(self.options.com)
        mean.update(tuple(rates))
        return mean.forecast(1.0)

    def _observe(self, snapshot: Snapshot) -> None:
        """Count what entered each stage since the last tick."""
        names = self._problem.graph.stages
        if not all(name in snapshot.stages for name in names):
            return
        counts = [snapshot.stages[name].entered for name in names]
        if self._entered is not None and snapshot.now > self._entered[0]:
            since, before = self._entered
            for rates, count, earlier in zip(self._rates, counts, before, strict=True):
                rates.append(max(0, count - earlier) / (snapshot.now - since))
        self._entered = snapshot.now, counts

    def _plan(self, demands: Sequence[float]) -> Plan:
        problem = self._problem.at(demands[0])
        names = problem.graph.stages
        families = [
            Family(
                demand=demands[s],
                members=[Member(problem.choices[s][v].accuracy, point.rate) for v, point in points.items()],
                least=max(1, problem.settings.bounds(names[s]).least),
                most=problem.settings.bounds(names[s]).most,
            )
            for s, points in enumerate(self._points)
        ]
        found = allocate(families, problem.cores, self.options.beta)
        decision = self._decision(problem, found, demands) if found is not None else None
        if decision is None or not fits(problem, decision):
            return Plan(
                stages={name: StagePlan(variants={}) for name in names},
                demand=demands[0],
                served_fraction=0.0,
                accuracy=0.0,
                mode="overload",
                feasible=False,
                solver=self.name,
                reason=f"{problem.cores} servers cannot hold a variant of each of {len(names)} stages",
            )
        told = ", ".join(f"{name} {count(demand)}" for name, demand in zip(names, demands, strict=True))
        best = float(compiled(problem).ways.accuracy.max(initial=0.0))
        mode: Mode = "hardware" if decision.accuracy >= best - 1e-9 else "accuracy"
        return assemble(
            problem,
            decision,
            mode if decision.served >= 1.0 - TOLERANCE else "overload",
            solver=self.name,
            gap=0.0,
            reason=f"all {decision.cores} servers, each stage by itself, for items/s of {told}",
            demand=demands[0],
        )

    def _decision(self, problem: Problem, found: Sequence[Sequence[Share]], demands: Sequence[float]) -> Decision:
        pools: dict[tuple[int, int], Pooled] = {}
        rows: list[list[tuple[int, float]]] = []
        served = 1.0
        for (s, points), shares in zip(enumerate(self._points), found, strict=True):
            row: list[tuple[int, float]] = []
            carried = sum(share.items_per_s for share in shares)
            for (v, point), share in zip(points.items(), shares, strict=True):
                if share.servers:
                    pools[s, v] = Pooled(point, share.servers, share.items_per_s)
                    if carried > 0.0 and share.items_per_s > 0.0:
                        row.append((v, share.items_per_s / carried))
            # Where nothing is carried, the most accurate of those that are there would.
            rows.append(row or [(next(v for v in points if (s, v) in pools), 1.0)])
            served = min(served, carried / demands[s]) if demands[s] > 0.0 else served
        ways = tuple((tuple(v for v, _ in way), served * math.prod(part for _, part in way)) for way in product(*rows))
        return Decision(pools, ways, sum(part * way_accuracy(problem, way) for way, part in ways))


def _points(problem: Problem, stage: int) -> dict[int, Point]:
    """Variant, most accurate first -> its largest batch within half of the stage's share of the SLO."""
    limit = problem.graph.pipeline.slo_s / problem.depth / 2.0 * (1.0 + TOLERANCE)
    choices = problem.choices[stage]
    found = {
        v: max((p for p in choices[v].points if p.service_s <= limit), key=lambda p: p.rate)
        for v in sorted(range(len(choices)), key=lambda v: -choices[v].accuracy)
        if any(p.service_s <= limit for p in choices[v].points)
    }
    if found:
        return found
    quickest = min((p.service_s, v) for v, choice in enumerate(choices) for p in choice.points)[1]
    return {quickest: min(choices[quickest].points, key=lambda p: p.service_s)}


def _rounded(demand: float) -> float:
    """To a step, so that noise does not make every plan a new one."""
    return demand_at(step_of(demand))
