"""How requests may go through the pipeline: every choice of one variant per stage, with what it costs and yields.

A request visits every child of every stage on its way, so a *way* names a variant for each stage of the graph, and
the solvers decide which part of the requests goes which way. Shares of ways make every stage's load count once,
agree on what branches have in common, and sum to one, by construction. Where branches meet, and behind, an item has
more than one past, so its variant cannot depend on one: such stages run a single variant at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from triscale.core.graph import Graph
from triscale.policy.optimise.points import TOLERANCE
from triscale.policy.optimise.problem import Choice, Problem
from triscale.policy.waiting import Array

__all__ = ["MOST_WAYS", "RARELY", "Indices", "Ways", "joined", "routes", "visits_of", "way_accuracy", "ways_of"]

MOST_WAYS = 20_000
"""Beyond this many, variants that others outdo are left out until the rest is fewer."""

RARELY = 1e-3
"""Items per request at a stage that is never reached: it must be there all the same."""

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways, as arrays with one row each."""

    variants: Indices
    """(ways, stages)."""
    accuracy: Array
    """(ways,): end to end; the mean over the routes from the root to the leaves."""
    visits: Array
    """(ways, stages): items at that stage per request."""

    def __len__(self) -> int:
        return len(self.accuracy)

    def only(self, rows: Indices) -> Ways:
        """Some of the ways."""
        return Ways(self.variants[rows], self.accuracy[rows], self.visits[rows])


@lru_cache(maxsize=256)
def _descend(children: tuple[tuple[int, ...], ...], prefix: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    below = children[prefix[-1]]
    if not below:
        return (prefix,)
    return tuple(route for child in below for route in _descend(children, (*prefix, child)))


def routes(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Every sequence of stages from the root to a leaf."""
    return _descend(graph.children, (0,))


def joined(graph: Graph) -> frozenset[int]:
    """Stages where branches meet, and those behind them."""
    found: set[int] = set()
    for stage, above in enumerate(graph.parents):
        if len(above) > 1 or any(parent in found for parent in above):
            found.add(stage)
    return frozenset(found)


def ways_of(problem: Problem) -> Ways:
    """Every way that an idle pipeline takes within the SLO, or so many that there are at most `MOST_WAYS`."""
    graph = problem.graph
    allowed = _allowed(problem)
    variants = np.array(list(product(*allowed)), dtype=np.intp).reshape(-1, len(allowed))
    variants = variants[_fast_enough(problem, variants)]
    visits = np.ones(variants.shape)
    for stage, parents in enumerate(graph.parents):
        if stage == 0 or graph.joins[stage]:
            continue
        visits[:, stage] = 0.0
        for parent in parents:
            child = graph.children[parent].index(stage)
            fan_out = np.array([choice.fan_out[child] for choice in problem.choices[parent]])
            visits[:, stage] += visits[:, parent] * fan_out[variants[:, parent]]
        visits[:, stage] = np.maximum(visits[:, stage], RARELY)
    return Ways(variants, _accuracy(problem, variants), visits)


def _fast_enough(problem: Problem, variants: Indices) -> npt.NDArray[np.bool_]:
    ends: list[Array] = []
    for stage, parents in enumerate(problem.graph.parents):
        least = [min((point.fixed_s for point in choice.points), default=np.inf) for choice in problem.choices[stage]]
        start = np.max([ends[parent] for parent in parents], axis=0) if parents else np.zeros(len(variants))
        ends.append(start + np.array(least)[variants[:, stage]])
    return np.asarray(np.max(ends, axis=0) <= problem.budget_s * (1.0 + TOLERANCE))


def visits_of(problem: Problem, way: tuple[int, ...]) -> list[float]:
    """Items at each stage per request that goes this way."""
    graph = problem.graph
    visits = [1.0] * len(way)
    for stage, parents in enumerate(graph.parents):
        if stage and not graph.joins[stage]:
            items = sum(
                visits[parent] * problem.choices[parent][way[parent]].fan_out[graph.children[parent].index(stage)]
                for parent in parents
            )
            visits[stage] = max(items, RARELY)
    return visits


def way_accuracy(problem: Problem, way: tuple[int, ...]) -> float:
    """End-to-end accuracy of one way: measured, or the mean over the routes of the product over the stages."""
    for path, measured in problem.measured_paths:
        if tuple(path.get(stage, -1) for stage in range(len(way))) == way:
            return measured
    every = routes(problem.graph)
    return sum(math.prod(problem.choices[s][way[s]].accuracy for s in route) for route in every) / len(every)


def _accuracy(problem: Problem, variants: Indices) -> Array:
    by_stage = [np.array([choice.accuracy for choice in choices]) for choices in problem.choices]
    per_route = [
        np.prod([by_stage[stage][variants[:, stage]] for stage in route], axis=0) for route in routes(problem.graph)
    ]
    accuracy = np.mean(per_route, axis=0)
    measured = {
        tuple(path[s] for s in range(len(problem.choices))): value
        for path, value in problem.measured_paths
        if len(path) == len(problem.choices)
    }
    if measured:
        for row, way in enumerate(variants.tolist()):
            accuracy[row] = measured.get(tuple(way), accuracy[row])
    return np.asarray(accuracy)


def _allowed(problem: Problem) -> list[list[int]]:
    allowed = [[v for v, choice in enumerate(choices) if choice.points] for choices in problem.choices]
    while math.prod(len(variants) for variants in allowed) > MOST_WAYS:
        stage = max(range(len(allowed)), key=lambda s: len(allowed[s]))
        allowed[stage].remove(_least_useful(problem.choices[stage], allowed[stage]))
    return allowed


def _least_useful(choices: tuple[Choice, ...], variants: list[int]) -> int:
    """One that another outdoes in accuracy and cost; else the one whose neighbours in cost are closest in accuracy."""
    cost = {v: min(point.cores_per_item for point in choices[v].points) for v in variants}
    ordered = sorted(variants, key=lambda v: (cost[v], -choices[v].accuracy))
    best = -1.0
    for v in ordered:
        if choices[v].accuracy <= best:
            return v
        best = choices[v].accuracy
    inner = range(1, len(ordered) - 1)
    gaps = {ordered[i]: choices[ordered[i + 1]].accuracy - choices[ordered[i - 1]].accuracy for i in inner}
    return min(gaps, key=lambda v: gaps[v]) if gaps else ordered[0]
