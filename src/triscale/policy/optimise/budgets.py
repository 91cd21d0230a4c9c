"""How the SLO may be split: a latency budget for each stage, along every route no more than the SLO in sum.

Every variant used at a stage fits the stage's budget, so a plan holds for every combination of the variants it uses:
whatever the dispatcher makes of it by rerouting, by shares that lag behind, or where branches meet. (Loki lets each
way have its own latency; what that adds is below 0.1 points of accuracy on its pipelines.)

Stages with children choose among the latencies at which something changes there; leaves get what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from triscale.policy.optimise.points import TOLERANCE, Point
from triscale.policy.optimise.problem import Problem
from triscale.policy.waiting import Array

__all__ = ["Box", "Splitter", "fastest_path_s", "item_costs"]

_QUEUE_STEPS = 16
"""Budgets per stage that are tried where waits are predicted: latency then changes with every lane."""


def fastest_path_s(problem: Problem) -> float:
    """Least latency through the slowest route, with the fastest variant and point everywhere."""
    rest = _rest(problem)
    return rest[0]


def _least(problem: Problem) -> list[float]:
    return [
        min((point.fixed_s for choice in choices for point in choice.points), default=np.inf)
        for choices in problem.choices
    ]


def _rest(problem: Problem) -> list[float]:
    """Per stage: least latency from its start to the end of the slowest route below it."""
    least = _least(problem)
    rest = list(least)
    for stage in reversed(range(len(rest))):
        rest[stage] += max((rest[child] for child in problem.graph.children[stage]), default=0.0)
    return rest


@dataclass(frozen=True, slots=True)
class Box:
    """Splits in which each stage with children takes a budget between two of its steps (indices, both included)."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether it holds one split only."""
        return self.low == self.high

    def halves(self) -> list[Box]:
        """The box cut in two along every stage that still has a choice."""
        cuts = [
            [(low, high)] if low == high else [(low, (low + high) // 2), ((low + high) // 2 + 1, high)]
            for low, high in zip(self.low, self.high, strict=True)
        ]
        return [Box(tuple(low for low, _ in cut), tuple(high for _, high in cut)) for cut in product(*cuts)]


class Splitter:
    """All splits of a problem's SLO: listed, or as boxes for a search that only opens what is promising."""

    def __init__(self, problem: Problem) -> None:
        graph, self._slo = problem.graph, problem.budget_s * (1.0 + TOLERANCE)
        self._graph = graph
        least, self._rest = _least(problem), _rest(problem)
        self._inner = [stage for stage in range(len(graph.stages)) if graph.children[stage]]
        self._steps: dict[int, list[float]] = {}
        self.possible = self._rest[0] <= self._slo
        """Whether even the fastest path fits."""
        if self.possible:
            for stage in self._inner:
                most = problem.budget_s - (_through(problem, stage, least, self._rest) - least[stage])
                self._steps[stage] = _steps(problem, stage, least[stage], most)

    @property
    def count(self) -> int:
        """How many combinations of steps there are, those without room for the rest included."""
        return math.prod(len(steps) for steps in self._steps.values()) if self.possible else 0

    def root(self) -> Box:
        """Every split."""
        return Box(tuple(0 for _ in self._inner), tuple(len(self._steps[stage]) - 1 for stage in self._inner))

    def budgets(self, boxes: Sequence[Box]) -> Array:
        """(boxes, stages): no split in the box gives any stage more; NaN where the box has no room for the rest.

        For a box with a single split, just its budgets.
        """
        low = {
            stage: np.array([self._steps[stage][box.low[i]] for box in boxes]) for i, stage in enumerate(self._inner)
        }
        high = {
            stage: np.array([self._steps[stage][box.high[i]] for box in boxes]) for i, stage in enumerate(self._inner)
        }
        ends: list[Array] = []
        found: list[Array] = []
        room = np.ones(len(boxes), dtype=bool)
        for stage, parents in enumerate(self._graph.parents):
            start = np.max([ends[parent] for parent in parents], axis=0) if parents else np.zeros(len(boxes))
            if stage in low:
                ends.append(start + low[stage])
                below = max(self._rest[child] for child in self._graph.children[stage])
                room &= ends[-1] + below <= self._slo
                found.append(high[stage])
            else:
                ends.append(np.full(len(boxes), self._slo))
                found.append(self._slo - start)
        return np.where(room[:, None], np.stack(found, axis=1), np.nan)

    def listed(self, most: int) -> Array:
        """(splits, stages): all splits, or about `most` of them, evenly."""
        if not self.possible:
            return np.empty((0, len(self._graph.stages)))
        picked = [list(range(len(self._steps[stage]))) for stage in self._inner]
        while math.prod(len(indices) for indices in picked) > most:
            widest = max(picked, key=len)
            widest[:] = sorted({*widest[::2], widest[-1]})
        boxes = [Box(steps, steps) for steps in product(*picked)]
        budgets = self.budgets(boxes)
        return budgets[~np.isnan(budgets[:, 0])]


def _through(problem: Problem, stage: int, least: list[float], rest: list[float]) -> float:
    """Least latency of the slowest route through a stage."""
    before = [0.0] * len(least)
    for s, parents in enumerate(problem.graph.parents):
        before[s] = max((before[p] + least[p] for p in parents), default=0.0)
    return before[stage] + rest[stage]


def _steps(problem: Problem, stage: int, least: float, most: float) -> list[float]:
    """Budgets worth trying for a stage with children, ascending."""
    points = [point for choice in problem.choices[stage] for point in choice.points]
    if any(point.table is not None for point in points):
        lowest = least * 1.02
        return [least] if most <= lowest else [float(t) for t in np.geomspace(lowest, most, _QUEUE_STEPS)]
    fitting = sorted({point.fixed_s for point in points if point.fixed_s <= most * (1.0 + TOLERANCE)})
    return fitting or [least]


def item_costs(problem: Problem, budgets: Array) -> list[Array]:
    """Per stage (rows of budgets, variants): least core-seconds per item within the budget; inf where nothing fits.

    Where waits are predicted, as if all lanes of the cluster were in one pool: no plan costs less.
    """
    costs: list[Array] = []
    for stage, choices in enumerate(problem.choices):
        mine = budgets[:, stage]
        by_variant = [
            np.min([_cost(problem, point, mine) for point in choice.points], axis=0)
            if choice.points
            else np.full(len(mine), np.inf)
            for choice in choices
        ]
        costs.append(np.stack(by_variant, axis=1))
    return costs


def _cost(problem: Problem, point: Point, budgets: Array) -> Array:
    slack = budgets * (1.0 + TOLERANCE) - point.fixed_s
    if point.table is None:
        return np.where(slack >= 0.0, point.cores_per_item, np.inf)
    load = point.table.loads_for(max(1, problem.lane_room(point.threads)), slack)
    usable = np.minimum(1.0, load / point.utilisation)
    with np.errstate(divide="ignore"):
        return np.where((slack >= 0.0) & (usable > 0.0), point.cores_per_item / usable, np.inf)
