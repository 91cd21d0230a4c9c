"""The exact dynamic program: fewest cores that carry the demand within the SLO, with one given variant per stage.

For each stage the trade-off between latency and cores is a short list: every (batch, threads) with the fewest lanes
that carry the stage's load, and, where waits shrink with lanes, a few more lanes. On a tree these lists combine from
the leaves up: a subtree takes its own latency plus the slowest child's, and costs its own cores plus all children's;
of two entries the one that is neither faster nor cheaper goes. The list of the root answers every SLO at once.

Where branches meet the lists of subtrees are not independent. There the choices are enumerated, cheapest first, with
the cost of what is still open as a bound.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from triscale.core.graph import Graph
from triscale.policy.optimise.decision import Decision, Pooled
from triscale.policy.optimise.points import TOLERANCE, Point
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.ways import joined, visits_of, way_accuracy

__all__ = ["fewest_cores"]

_MOST_STEPS = 48
"""Lane counts tried above the fewest, per point."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to run a stage."""

    latency_s: float
    cores: int
    point: Point
    lanes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stage's option, with the latency and the cores of the whole subtree below it."""

    latency_s: float
    cores: int
    option: _Option


def fewest_cores(problem: Problem, way: tuple[int, ...]) -> Decision | None:
    """The cheapest pools for all requests going this way, the fastest among equals; None where the SLO cannot be met.

    Cores are counted together: whether the lanes also fit the nodes is for the caller to check.
    """
    visits = visits_of(problem, way)
    loads = [problem.demand * items for items in visits]
    options = [_options(problem, stage, variant, loads[stage]) for stage, variant in enumerate(way)]
    if not all(options):
        return None
    budget = problem.budget_s * (1.0 + TOLERANCE)
    choose = _enumerate if joined(problem.graph) else _combine
    chosen = choose(problem.graph, options, budget)
    if chosen is None:
        return None
    pools = {
        (stage, variant): Pooled(option.point, option.lanes, loads[stage])
        for stage, (variant, option) in enumerate(zip(way, chosen, strict=True))
    }
    return Decision(pools, ((way, 1.0),), way_accuracy(problem, way))


def _options(problem: Problem, stage: int, variant: int, load: float) -> list[_Option]:
    """The stage's trade-off between latency and cores, fastest first."""
    choice = problem.choices[stage][variant]
    least = max(1, problem.settings.bounds(problem.graph.stages[stage]).least)
    found: list[_Option] = []
    for point in choice.points:
        most = problem.lane_room(point.threads)
        if choice.gpus:
            most = min(most, problem.gpus // choice.gpus)
        fewest = max(least, math.ceil(load / point.rate - TOLERANCE))
        found += [
            _Option(point.latency_s(lanes, load), lanes * point.threads, point, lanes)
            for lanes in _lane_counts(point, fewest, most, load)
        ]
    return _undominated(found)


def _lane_counts(point: Point, fewest: int, most: int, load: float) -> Sequence[int]:
    """Lane counts worth a look: the fewest, and where waits are predicted more, until nothing waits any longer."""
    # Beyond the room there is still an answer to what the demand would cost.
    if point.table is None or fewest >= most:
        return (fewest,)
    enough = fewest
    while enough < most and point.wait_s(enough, load) > 1e-3 * point.service_s:
        enough = min(most, max(enough + 1, enough * 9 // 8))
    step = max(1, math.ceil((enough - fewest) / _MOST_STEPS))
    return (*range(fewest, enough, step), enough)


def _undominated(options: list[_Option]) -> list[_Option]:
    kept: list[_Option] = []
    for option in sorted(options, key=lambda o: (o.latency_s, o.cores, o.point.batch)):
        if option.latency_s < math.inf and (not kept or option.cores < kept[-1].cores):
            kept.append(option)
    return kept


def _combine(graph: Graph, options: Sequence[Sequence[_Option]], budget: float) -> list[_Option] | None:
    """Trees: from the leaves up, then the choices from the root down."""
    tables: list[list[_Entry]] = [[] for _ in options]
    for stage in reversed(range(len(options))):
        below = _together([tables[child] for child in graph.children[stage]], budget)
        entries = [
            _Entry(option.latency_s + latency, option.cores + cores, option)
            for option in options[stage]
            for latency, cores in below
            if option.latency_s + latency <= budget
        ]
        kept: list[_Entry] = []
        for entry in sorted(entries, key=lambda e: (e.latency_s, e.cores)):
            if not kept or entry.cores < kept[-1].cores:
                kept.append(entry)
        if not kept:
            return None
        tables[stage] = kept
    chosen: list[_Option | None] = [None] * len(options)
    left = [budget] * len(options)
    for stage, table in enumerate(tables):
        entry = table[bisect_right(table, left[stage], key=lambda e: e.latency_s) - 1]
        chosen[stage] = entry.option
        for child in graph.children[stage]:
            left[child] = (entry.latency_s - entry.option.latency_s) * (1.0 + TOLERANCE)
    return [option for option in chosen if option is not None]


def _together(tables: Sequence[Sequence[_Entry]], budget: float) -> list[tuple[float, int]]:
    """What side-by-side subtrees cost in all, for each latency at which that changes."""
    if not tables:
        return [(0.0, 0)]
    found: list[tuple[float, int]] = []
    for latency in sorted({entry.latency_s for table in tables for entry in table}):
        last = [bisect_right(table, latency, key=lambda e: e.latency_s) - 1 for table in tables]
        if min(last) >= 0 and latency <= budget:
            found.append((latency, sum(table[i].cores for table, i in zip(tables, last, strict=True))))
    return found


def _enumerate(graph: Graph, options: Sequence[Sequence[_Option]], budget: float) -> list[_Option] | None:
    """Any acyclic graph: depth first over the stages in topological order, cheapest options first."""
    count = len(options)
    least_after = [0.0] * count
    for stage in reversed(range(count)):
        least_after[stage] = max(
            (options[child][0].latency_s + least_after[child] for child in graph.children[stage]), default=0.0
        )
    open_cost = [0] * (count + 1)
    for stage in reversed(range(count)):
        open_cost[stage] = open_cost[stage + 1] + options[stage][-1].cores
    best: list[_Option] | None = None
    best_cost: float = math.inf

    def descend(stage: int, ends: list[float], chosen: list[_Option], cost: int) -> None:
        nonlocal best, best_cost
        if cost + open_cost[stage] >= best_cost:
            return
        if stage == count:
            best, best_cost = list(chosen), cost
            return
        start = max((ends[parent] for parent in graph.parents[stage]), default=0.0)
        for option in reversed(options[stage]):
            end = start + option.latency_s
            if end + least_after[stage] <= budget:
                descend(stage + 1, [*ends, end], [*chosen, option], cost + option.cores)

    descend(0, [], [], 0)
    return best
