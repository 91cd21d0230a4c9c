"""A good plan in well under a millisecond, for the fast loop.

With lanes in fractions, the best use of the cores mixes two ways that are neighbours on the upper hull of (cores per
request, accuracy). The hulls do not depend on the demand and are kept. For a demand, the best split's mix is rounded
up to whole lanes; where that is too much, the mix slides towards the cheaper way until it fits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triscale.policy.optimise.compiled import Compiled, compiled
from triscale.policy.optimise.decision import Decision, Pooled
from triscale.policy.optimise.place import fits
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.supply import Supply
from triscale.policy.waiting import Array

__all__ = ["Hull", "best_mix", "hulls_of", "least_allowed", "most_served"]

_MOST_HULLS = 24
_TRIES = 3
"""Splits that are rounded, best first."""
_STEPS = 7
"""Halvings in which a mix slides to what fits."""


@dataclass(frozen=True, slots=True)
class Hull:
    """The efficient ways within one split of the SLO, cheapest first: accuracy rises with the cores per request."""

    budgets: tuple[float, ...]
    """Seconds per stage."""
    rows: tuple[int, ...]
    cost: tuple[float, ...]
    """Core-seconds per request."""
    accuracy: tuple[float, ...]

    def mix(self, cores_per_request: float) -> tuple[tuple[int, float], ...]:
        """(row, part) of the best mix at that cost; empty where even the cheapest way costs more."""
        i = bisect_right(self.cost, cores_per_request)
        if i == 0:
            return ()
        if i == len(self.cost):
            return ((self.rows[-1], 1.0),)
        part = (cores_per_request - self.cost[i - 1]) / (self.cost[i] - self.cost[i - 1])
        return ((self.rows[i - 1], 1.0 - part), (self.rows[i], part)) if part > 0.0 else ((self.rows[i - 1], 1.0),)

    def value(self, cores_per_request: float) -> float:
        """Accuracy of that mix; -1 where there is none."""
        i = bisect_right(self.cost, cores_per_request)
        if i == 0:
            return -1.0
        if i == len(self.cost):
            return self.accuracy[-1]
        part = (cores_per_request - self.cost[i - 1]) / (self.cost[i] - self.cost[i - 1])
        return self.accuracy[i - 1] + part * (self.accuracy[i] - self.accuracy[i - 1])


def best_mix(problem: Problem) -> Decision | None:
    """All requests carried, as accurately as two ways can; None where nothing was found that carries them.

    The demand must be above 0.
    """
    each = problem.cores / problem.demand
    best: Decision | None = None
    for hull in sorted(hulls_of(problem), key=lambda hull: -hull.value(each))[:_TRIES]:
        if best is not None and hull.value(each) <= best.accuracy:
            break
        decision = _round(problem, hull, each)
        if decision is not None and (best is None or decision.accuracy > best.accuracy):
            best = decision
    return best


def most_served(problem: Problem) -> Decision | None:
    """As many requests as the cheapest allowed way carries; None where it carries none."""
    least = problem.settings.min_accuracy
    hulls = [hull for hull in hulls_of(problem) if hull.accuracy[-1] >= least]
    best: Decision | None = None
    for hull in sorted(hulls, key=lambda hull: _cost_of_least(hull, least))[:_TRIES]:
        mix = least_allowed(hull, least)
        low, high = 0.0, 1.0
        for _ in range(_STEPS + 6):
            middle = (low + high) / 2.0
            decision = _lanes(problem, hull.budgets, [(row, part * middle) for row, part in mix])
            low, high = (low, middle) if decision is None else (middle, high)
            if decision is not None and (best is None or decision.served > best.served):
                best = decision
    return best


def _cost_of_least(hull: Hull, least: float) -> float:
    """Core-seconds per request of the cheapest mix of at least that accuracy."""
    return sum(hull.cost[hull.rows.index(row)] * part for row, part in least_allowed(hull, least))


def least_allowed(hull: Hull, least: float) -> tuple[tuple[int, float], ...]:
    """The cheapest mix of at least that accuracy."""
    if hull.accuracy[0] >= least:
        return ((hull.rows[0], 1.0),)
    i = next(i for i, accuracy in enumerate(hull.accuracy) if accuracy >= least)
    part = (least - hull.accuracy[i - 1]) / (hull.accuracy[i] - hull.accuracy[i - 1])
    return ((hull.rows[i - 1], 1.0 - part), (hull.rows[i], part)) if part < 1.0 else ((hull.rows[i], 1.0),)


def _round(problem: Problem, hull: Hull, each: float) -> Decision | None:
    """The most accurate mix whose whole lanes fit."""
    decision = _lanes(problem, hull.budgets, hull.mix(each))
    if decision is not None:
        return _allowed(problem, decision)
    low, high = hull.cost[0], min(each, hull.cost[-1])
    best = _lanes(problem, hull.budgets, hull.mix(low))
    if best is None or high <= low:
        return _allowed(problem, best)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        decision = _lanes(problem, hull.budgets, hull.mix(middle))
        if decision is None:
            high = middle
        else:
            low, best = middle, decision
    return _allowed(problem, best)


def _allowed(problem: Problem, decision: Decision | None) -> Decision | None:
    if decision is None or decision.accuracy < problem.settings.min_accuracy * decision.served - 1e-9:
        return None
    return decision


def _lanes(problem: Problem, budgets: tuple[float, ...], mix: Sequence[tuple[int, float]]) -> Decision | None:
    """Whole lanes for a mix; None where they do not fit the cluster."""
    known = compiled(problem)
    if not mix or (len(mix) > 1 and _differ_where_joined(known, mix)):
        return None
    loads: dict[tuple[int, int], float] = {}
    ways: list[tuple[tuple[int, ...], float]] = []
    accuracy = 0.0
    for row, part in mix:
        way = known.way(row)
        ways.append((way, part))
        accuracy += part * float(known.ways.accuracy[row])
        for stage, items in enumerate(known.visits(row)):
            key = (stage, way[stage])
            loads[key] = loads.get(key, 0.0) + problem.demand * part * items
    supplies = known.supplies(budgets)
    pools: dict[tuple[int, int], Pooled] = {}
    cores = 0
    for key, load in loads.items():
        pool = _pool(known, supplies, key, load)
        if pool is None:
            return None
        pools[key] = pool
        cores += pool.cores
    if cores > problem.cores:
        return None
    decision = Decision(pools, tuple(ways), accuracy).with_least_replicas(problem)
    return decision if fits(problem, decision) else None


def _pool(known: Compiled, supplies: Sequence[Supply], key: tuple[int, int], load: float) -> Pooled | None:
    best: Pooled | None = None
    for i in known.kinds_of(key):
        lanes = supplies[i].lanes(load)
        point = supplies[i].point(lanes) if lanes else None
        if point is not None and lanes is not None and (best is None or lanes * point.threads < best.cores):
            best = Pooled(point, lanes, load)
    return best


def _differ_where_joined(known: Compiled, mix: Sequence[tuple[int, float]]) -> bool:
    first = known.way(mix[0][0])
    return any(known.way(row)[stage] != first[stage] for row, _ in mix[1:] for stage in known.joined)


def hulls_of(problem: Problem) -> list[Hull]:
    """The hulls of the splits that are best for some number of cores per request; computed once."""
    found = problem.memo.get("hulls")
    if isinstance(found, list):
        return found
    known = compiled(problem)
    hulls = [
        hull
        for split in range(len(known.splits))
        if (hull := _hull(known.ways.accuracy, known.cost[split], known.splits[split])).rows
    ]
    if len(hulls) > _MOST_HULLS:
        costs = [cost for hull in hulls for cost in (hull.cost[0], hull.cost[-1])]
        grid = np.geomspace(max(min(costs), 1e-9), max(max(costs), 2e-9), _MOST_HULLS)
        best = {max(range(len(hulls)), key=lambda i: hulls[i].value(each)) for each in grid.tolist()}
        best.add(min(range(len(hulls)), key=lambda i: hulls[i].cost[0]))
        hulls = [hulls[i] for i in sorted(best)]
    problem.memo["hulls"] = hulls
    return hulls


def _hull(accuracy: Array, cost: Array, budgets: Array) -> Hull:
    """The upper concave hull, from the cheapest way up; its accuracy and its cost both rise."""
    order = np.lexsort((-accuracy, cost))
    rows: list[int] = []
    for row in order.tolist():
        if not math.isfinite(cost[row]):
            break
        if rows and accuracy[row] <= accuracy[rows[-1]]:
            continue
        while len(rows) > 1 and _below(accuracy, cost, rows[-2], rows[-1], row):
            rows.pop()
        rows.append(row)
    return Hull(tuple(budgets.tolist()), tuple(rows), tuple(cost[rows].tolist()), tuple(accuracy[rows].tolist()))


def _below(accuracy: Array, cost: Array, a: int, b: int, c: int) -> bool:
    """Whether b lies on or below the line from a to c."""
    return bool((accuracy[b] - accuracy[a]) * (cost[c] - cost[a]) <= (accuracy[c] - accuracy[a]) * (cost[b] - cost[a]))
