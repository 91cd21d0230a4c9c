"""How the SLO may be split: a latency budget for each stage, along every route no more than the SLO in sum.

Every variant used at a stage fits the stage's budget, so a plan holds for every combination of the variants it uses:
whatever the dispatcher makes of it by rerouting, by shares that lag behind, or where branches meet. (Loki lets each
way have its own latency; what that adds is below 0.1 points of accuracy on its pipelines.)

Stages with children choose among the latencies at which something changes there; leaves get what is left.
"""

from __future__ import annotations

import numpy as np

from triscale.policy.optimise.points import TOLERANCE, Point
from triscale.policy.optimise.problem import Problem
from triscale.policy.waiting import Array

__all__ = ["budget_splits", "fastest_path_s", "item_costs"]

MOST_SPLITS = 20_000
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


def budget_splits(problem: Problem, most: int = MOST_SPLITS) -> Array:
    """(splits, stages) in seconds; empty where not even the fastest path fits the SLO."""
    graph, budget = problem.graph, problem.budget_s
    least, rest = _least(problem), _rest(problem)
    stages = range(len(graph.stages))
    if not rest[0] <= budget * (1.0 + TOLERANCE):
        return np.empty((0, len(stages)))
    inner = [stage for stage in stages if graph.children[stage]]
    steps = {s: _steps(problem, s, least[s], budget - (_through(problem, s, least, rest) - least[s])) for s in inner}
    while np.prod([len(steps[s]) for s in inner], dtype=float) > most:
        widest = max(inner, key=lambda s: len(steps[s]))
        steps[widest] = _thinned(steps[widest])
    # Each row of `ends` holds when the stages so far end; rows that leave no room for the rest go at once.
    ends = np.zeros((1, 0))
    for stage in stages:
        start = ends[:, list(graph.parents[stage])].max(axis=1) if graph.parents[stage] else np.zeros(len(ends))
        if graph.children[stage]:
            options = np.array(steps[stage])
            end = (start[:, None] + options[None, :]).ravel()
            ends = np.hstack([np.repeat(ends, len(options), axis=0), end[:, None]])
            below = max(rest[child] for child in graph.children[stage])
            ends = ends[end + below <= budget * (1.0 + TOLERANCE)]
        else:
            ends = np.hstack([ends, np.full((len(ends), 1), budget)])
    starts = [ends[:, list(parents)].max(axis=1) if parents else np.zeros(len(ends)) for parents in graph.parents]
    return np.asarray(ends - np.stack(starts, axis=1))


def _through(problem: Problem, stage: int, least: list[float], rest: list[float]) -> float:
    """Least latency of the slowest route through a stage."""
    before = [0.0] * len(least)
    for s, parents in enumerate(problem.graph.parents):
        before[s] = max((before[p] + least[p] for p in parents), default=0.0)
    return before[stage] + rest[stage]


def _steps(problem: Problem, stage: int, least: float, most: float) -> list[float]:
    """Budgets worth trying for a stage with children, ascending."""
    points = [point for choice in problem.choices[stage] for point in choice.points]
    if problem.settings.wait == "queue":
        lowest = least * 1.02
        return [least] if most <= lowest else [float(t) for t in np.geomspace(lowest, most, _QUEUE_STEPS)]
    fitting = sorted({point.fixed_s for point in points if point.fixed_s <= most * (1.0 + TOLERANCE)})
    return fitting or [least]


def _thinned(steps: list[float]) -> list[float]:
    """Without every second one, the smallest and the largest kept."""
    return sorted({*steps[::2], steps[0], steps[-1]})


def item_costs(problem: Problem, splits: Array) -> list[Array]:
    """Per stage (splits, variants): least core-seconds per item within the budget; inf where nothing fits.

    Where waits are predicted, as if all lanes of the cluster were in one pool: no plan costs less.
    """
    costs: list[Array] = []
    for stage, choices in enumerate(problem.choices):
        budgets = splits[:, stage]
        by_variant = [
            np.min([_cost(problem, point, budgets) for point in choice.points], axis=0)
            if choice.points
            else np.full(len(budgets), np.inf)
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
