"""The exact solver: branch and bound over how the SLO is split and over whole numbers of lanes.

For each split of the SLO (`budgets.py`) every variant has one best way to run, so that what remains is small: shares
of ways, and lanes. Splits, or boxes of many, get a bound from relaxing the cores alone (one price for a core, in
numpy) and are opened best first; inside one, the relaxation of `relax.py` is branched on: lanes of a stage first, then
lanes of a kind. It stops when the gap, the time or the number of subproblems is reached, and returns the best plan
found with the bound that is proven.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from triscale.policy.optimise.bounds import split_bounds
from triscale.policy.optimise.budgets import Box
from triscale.policy.optimise.compiled import Kind, compiled
from triscale.policy.optimise.decision import Decision
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.relax import PER_CORE, Goal, Relaxation, Relaxed, decision_price
from triscale.policy.optimise.rounding import loads_of, mixed_stage, round_up
from triscale.policy.optimise.supply import Supply
from triscale.policy.optimise.ways import Indices
from triscale.policy.waiting import Array

__all__ = ["Found", "search"]

_INTEGRAL = 1e-6


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    decision: Decision | None
    value: float
    """Of the decision: accuracy or share served, less a trifle per core, or minus the cores; -inf without one."""
    bound: float
    """No plan is better."""
    subproblems: int

    @property
    def gap(self) -> float:
        """Proven relative distance to the optimum."""
        if self.decision is None:
            return math.inf
        return max(0.0, (self.bound - self.value) / max(abs(self.bound), 1e-12))


@dataclass(order=True, slots=True)
class _Node:
    """A subproblem: splits of the SLO, or one split with bounds on its integers; and a bound on its value."""

    priority: float
    order: int
    box: Box | None = field(compare=False)
    """Splits that are not told apart yet; None where there is one."""
    budgets: tuple[float, ...] = field(compare=False, default=())
    low: Array | None = field(compare=False, default=None)
    high: Array | None = field(compare=False, default=None)


def search(
    problem: Problem,
    goal: Goal,
    *,
    rows: Indices | None = None,
    served: float = 1.0,
    start: Decision | None = None,
    stop_at: float = math.inf,
    clock: Callable[[], float] | None = None,
) -> Found:
    """The best decision for the goal with these rows of the problem's ways (None: all).

    `start`, where given, is a decision that must be beaten. `clock` tells the time that `stop_at` is measured in.
    The demand must be above 0.
    """
    return _Search(problem, goal, rows, served, start, stop_at, clock).run()


class _Search:
    def __init__(
        self,
        problem: Problem,
        goal: Goal,
        rows: Indices | None,
        served: float,
        start: Decision | None,
        stop_at: float,
        clock: Callable[[], float] | None,
    ) -> None:
        self.problem, self.goal, self.served = problem, goal, served
        self.compiled = compiled(problem)
        self.rows = np.arange(len(self.compiled.ways)) if rows is None else rows
        self.ways = self.compiled.ways.only(self.rows)
        self.kinds = self.compiled.kinds
        self.stop_at, self.clock = stop_at, clock
        self.best, self.value = start, self._worth(start) if start else -math.inf
        self.settled = -math.inf
        """The best bound among subproblems that were left because they could not do much better."""
        self.order = itertools.count()
        self.subproblems = 0

    def run(self) -> Found:
        if not len(self.compiled.splits) or not len(self.ways):
            return Found(self.best, self.value, self.value, 0)
        self.relaxation = Relaxation(self.problem, self.ways, self.kinds, self.goal, self.served)
        heap = self._first()
        heapq.heapify(heap)
        bound = self.value
        while heap:
            node = heapq.heappop(heap)
            bound = -node.priority
            if self._good_enough(bound):
                break
            if self._out_of_time():
                break
            # Dive: the more promising child is worked on at once, the other waits in the heap.
            current: _Node | None = node
            while current is not None and not self._good_enough(-current.priority):
                children = self._branch(current)
                current = None
                for child in sorted(children):
                    if current is None:
                        current = child
                    else:
                        heapq.heappush(heap, child)
                if self._out_of_time() and current is not None:
                    heapq.heappush(heap, current)
                    current = None
        else:
            bound = self.value
        return Found(self.best, self.value, max(bound, self.settled, self.value), self.subproblems)

    def _first(self) -> list[_Node]:
        known = self.compiled
        if not known.complete:
            return self._open([known.splitter.root()])
        bounds = self._bounds(known.cost)
        return [
            _Node(-bound, next(self.order), None, tuple(budgets))
            for bound, budgets in zip(bounds, known.splits.tolist(), strict=True)
            if bound > -math.inf
        ]

    def _open(self, boxes: Sequence[Box]) -> list[_Node]:
        """Subproblems for boxes of splits."""
        budgets = self.compiled.splitter.budgets(boxes)
        bounds = self._bounds(self.compiled.request_costs(budgets))
        return [
            _Node(-bound, next(self.order), None if box.single else box, tuple(row))
            for box, bound, row in zip(boxes, bounds, budgets.tolist(), strict=True)
            if bound > -math.inf
        ]

    def _bounds(self, cost: Array) -> list[float]:
        bounds = split_bounds(self.problem, self.ways.accuracy, cost[:, self.rows], self.goal, self.served)
        return [self._whole(bound) for bound in bounds]

    def _whole(self, bound: float) -> float:
        """A bound, rounded where only whole numbers of cores are possible."""
        if self.goal != "cores" or bound == -math.inf:
            return bound
        return -float(math.ceil(-bound / (1.0 + PER_CORE) - _INTEGRAL))

    def _good_enough(self, bound: float) -> bool:
        """Whether nothing below this bound is worth a search."""
        if self.best is None or bound > self.value + self.problem.settings.gap * abs(self.value) + 1e-9:
            return False
        self.settled = max(self.settled, bound)
        return True

    def _out_of_time(self) -> bool:
        if self.subproblems >= self.problem.settings.node_limit:
            return True
        return self.clock is not None and self.clock() >= self.stop_at

    def _branch(self, node: _Node) -> list[_Node]:
        """Solve a subproblem; its children, none where it is settled."""
        if node.box is not None:
            return self._open(node.box.halves())
        supplies = self.compiled.supplies(node.budgets)
        if node.low is None or node.high is None:
            node.low, node.high = self._root_bounds(supplies)
        if self._too_large(node.low):
            return []
        self.subproblems += 1
        relaxed = self.relaxation.solve(node.low, node.high, supplies)
        bound = self._whole(relaxed.value) if relaxed is not None else -math.inf
        if relaxed is None or self._good_enough(bound):
            return []
        self._try(relaxed, supplies)
        cut = self._cut(node, relaxed, supplies)
        if cut is None:
            return []
        children = []
        for index, low, high in cut:
            lows, highs = node.low.copy(), node.high.copy()
            lows[index], highs[index] = max(lows[index], low), min(highs[index], high)
            if lows[index] <= highs[index]:
                children.append(_Node(-bound, next(self.order), None, node.budgets, lows, highs))
        return children

    def _too_large(self, low: Array) -> bool:
        """Whether the variants that must be used, and the smallest of the other stages, exceed the nodes' memory."""
        nodes = self.problem.nodes
        if not all(node.memory_bytes for node in nodes):
            return False
        choices = self.problem.choices
        used = {(kind.stage, kind.variant) for kind, least in zip(self.kinds, low, strict=False) if least >= 1.0}
        held = sum(choices[stage][variant].memory_bytes for stage, variant in used)
        other = [c for stage, c in enumerate(choices) if not any(s == stage for s, _ in used)]
        held += sum(min(choice.memory_bytes for choice in stage) for stage in other)
        return held > sum(node.memory_bytes for node in nodes)

    def _root_bounds(self, supplies: Sequence[Supply]) -> tuple[Array, Array]:
        stages = len(self.problem.choices)
        least = [self.problem.settings.bounds(name).least for name in self.problem.graph.stages]
        low = np.concatenate([np.zeros(len(supplies)), np.array(least, dtype=float)])
        high = np.array([float(supply.most) for supply in supplies] + [math.inf] * stages)
        return low, high

    def _try(self, relaxed: Relaxed, supplies: Sequence[Supply]) -> None:
        """Round the lanes up to what the shares need: a plan, if it fits the cluster."""
        decision = round_up(self.problem, self.ways, self.kinds, supplies, relaxed.shares, self.compiled.joined)
        if decision is None:
            return
        value = self._worth(decision)
        if value > self.value + 1e-12:
            self.best, self.value = decision, value

    def _worth(self, decision: Decision) -> float:
        """The objective of the relaxation, for a decision."""
        gained = {"cores": 0.0, "accuracy": decision.accuracy, "served": decision.served}[self.goal]
        return gained - decision_price(self.problem, decision, self.goal)

    def _cut(self, node: _Node, relaxed: Relaxed, supplies: Sequence[Supply]) -> list[tuple[int, float, float]] | None:
        """Restrictions (integer, low, high) that share out what is still possible; None where nothing is."""
        assert node.low is not None
        assert node.high is not None
        lanes = relaxed.lanes
        fractional = np.abs(lanes - np.round(lanes))
        totals = range(len(self.kinds), len(lanes))
        index = max(totals, key=lambda i: fractional[i])
        if fractional[index] <= _INTEGRAL:
            index = int(np.argmax(fractional))
        if fractional[index] > _INTEGRAL:
            floor = math.floor(lanes[index])
            return [(index, floor + 1.0, math.inf), (index, 0.0, float(floor))]
        return self._cut_whole(node, relaxed, supplies)

    def _cut_whole(
        self, node: _Node, relaxed: Relaxed, supplies: Sequence[Supply]
    ) -> list[tuple[int, float, float]] | None:
        """All lanes are whole, and yet the shares are no plan: find what they break."""
        assert node.low is not None
        assert node.high is not None
        lanes = np.round(relaxed.lanes).astype(int)
        loads = loads_of(self.ways, relaxed.shares, self.problem.demand)
        used = [i for i in range(len(self.kinds)) if lanes[i] > 0]
        for (stage, variant), load in loads.items():
            mine = [i for i in used if (self.kinds[i].stage, self.kinds[i].variant) == (stage, variant)]
            if len(mine) > 1:
                # One variant runs with one number of threads.
                return [(i, 0.0, 0.0) for i in mine]
            for i in mine:
                # In between its bounds the line of the relaxation promises more than so many lanes carry.
                if node.low[i] < node.high[i] and load > supplies[i].items(int(lanes[i])) * (1.0 + 1e-7):
                    n = float(lanes[i])
                    return [(i, n + 1.0, math.inf), (i, n, n), (i, 0.0, n - 1.0)]
        mixed = mixed_stage(self.ways, relaxed.shares, self.compiled.joined)
        if mixed is not None:
            return [(i, 0.0, 0.0) for i in used if self.kinds[i].stage == mixed]
        # What is left to break is the placement (memory, replicas): do without a kind, the largest first.
        open_kinds = [i for i in used if node.low[i] < 1.0]
        if not open_kinds:
            return None
        i = max(open_kinds, key=lambda i: self._memory(self.kinds[i]))
        return [(i, 0.0, 0.0), (i, 1.0, math.inf)]

    def _memory(self, kind: Kind) -> int:
        return self.problem.choices[kind.stage][kind.variant].memory_bytes
