"""What the solvers share and what no demand changes: ways, splits of the SLO, kinds of lanes, and what a request costs.

It is computed when a solver first asks, and kept in the problem's memo for the next demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triscale.policy.optimise.budgets import Splitter, item_costs
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.supply import Supply
from triscale.policy.optimise.ways import Ways, joined, ways_of
from triscale.policy.waiting import Array

__all__ = ["Compiled", "Kind", "compiled"]

_MOST_CELLS = 300_000
"""Splits times ways that are listed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Lanes that are alike: of one variant, with so many threads each."""

    stage: int
    variant: int
    threads: int
    gpus: int


class Compiled:
    """The demand-free part of a problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.ways: Ways = ways_of(problem)
        self.splitter = Splitter(problem)
        listed = max(64, _MOST_CELLS // max(1, len(self.ways)))
        self.splits: Array = self.splitter.listed(listed)
        """(splits, stages) in seconds: all of them, or an even selection."""
        self.complete = self.splitter.count <= listed
        """Whether it is all of them."""
        self.kinds: tuple[Kind, ...] = tuple(
            Kind(stage, variant, threads, choice.gpus)
            for stage, choices in enumerate(problem.choices)
            for variant, choice in enumerate(choices)
            for threads in sorted({point.threads for point in choice.points})
        )
        self.cost: Array = self.request_costs(self.splits)
        """(splits, ways): least core-seconds per request; inf where a variant does not fit its budget."""
        self.least_cost: Array = _least_costs(problem, self.ways)
        """(ways,): core-seconds per request at the very least, whatever the SLO."""
        self.joined = joined(problem.graph)
        self._supplies: dict[tuple[float, ...], tuple[Supply, ...]] = {}
        self._ways: list[tuple[int, ...]] = [tuple(way) for way in self.ways.variants.tolist()]
        self._visits: list[list[float]] = self.ways.visits.tolist()
        self._kinds_of: dict[tuple[int, int], list[int]] = {}
        for i, kind in enumerate(self.kinds):
            self._kinds_of.setdefault((kind.stage, kind.variant), []).append(i)

    def way(self, row: int) -> tuple[int, ...]:
        """A way as its variant per stage."""
        return self._ways[row]

    def visits(self, row: int) -> list[float]:
        """Items per request at each stage, on a way."""
        return self._visits[row]

    def kinds_of(self, key: tuple[int, int]) -> list[int]:
        """Indices of the kinds of a (stage, variant)."""
        return self._kinds_of.get(key, [])

    def supplies(self, budgets: tuple[float, ...]) -> tuple[Supply, ...]:
        """Per kind, what its lanes carry within the stages' budgets."""
        found = self._supplies.get(budgets)
        if found is None:
            supplies = [self._supply(kind, budgets[kind.stage]) for kind in self.kinds]
            _drop_outdone(self.kinds, supplies)
            found = self._supplies[budgets] = tuple(supplies)
        return found

    def request_costs(self, budgets: Array) -> Array:
        """(rows of budgets, ways): least core-seconds per request; inf where a variant does not fit its budget."""
        cost = np.zeros((len(budgets), len(self.ways)))
        for stage, costs in enumerate(item_costs(self._problem, budgets)):
            cost += self.ways.visits[:, stage] * costs[:, self.ways.variants[:, stage]]
        return cost

    def _supply(self, kind: Kind, budget_s: float) -> Supply:
        points = self._problem.choices[kind.stage][kind.variant].points
        room = self._problem.lane_room(kind.threads)
        if kind.gpus:
            room = min(room, self._problem.gpus // kind.gpus)
        return Supply([point for point in points if point.threads == kind.threads], budget_s, room)


def compiled(problem: Problem) -> Compiled:
    """The compiled form of a problem, from its memo if it is there."""
    found = problem.memo.get("compiled")
    if not isinstance(found, Compiled):
        found = problem.memo["compiled"] = Compiled(problem)
    return found


def _least_costs(problem: Problem, ways: Ways) -> Array:
    cost = np.zeros(len(ways))
    for stage, choices in enumerate(problem.choices):
        least = [min((point.cores_per_item for point in choice.points), default=np.inf) for choice in choices]
        cost += ways.visits[:, stage] * np.array(least)[ways.variants[:, stage]]
    return cost


def _drop_outdone(kinds: Sequence[Kind], supplies: list[Supply]) -> None:
    """Leave out wider lanes where the same cores in narrower ones carry no less: they also pack better."""
    for i, wide in enumerate(kinds):
        for j, narrow in enumerate(kinds):
            same = (wide.stage, wide.variant) == (narrow.stage, narrow.variant) and not wide.gpus
            if not same or narrow.threads >= wide.threads or wide.threads % narrow.threads:
                continue
            more, most = wide.threads // narrow.threads, supplies[i].most
            probes = sorted({1, 2, 4, most // 2, most} - {0})
            if most and all(supplies[j].items(n * more) >= supplies[i].items(n) for n in probes):
                supplies[i].most = 0
