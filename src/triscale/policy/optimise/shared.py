"""Plans for nodes whose stages share the cores: every stage has a lane for each core, and a core goes to the earliest
deadline. Lanes cost nothing then; what is limited is the core-seconds that requests need, and how long they wait for
one of the cores of their node.

The wait depends on what the plan makes of the cores, so a few waits are assumed in turn. Each is taken off the SLO at
every stage, the efficient ways within the rest are mixed as well as the cores allow, and the mix slides to a cheaper
one until its own predicted wait is no longer than the one assumed. Without whole lanes a mix of two ways is optimal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from triscale.policy.optimise.compiled import compiled
from triscale.policy.optimise.decision import Mode
from triscale.policy.optimise.greedy import Hull, hulls_of, least_allowed
from triscale.policy.optimise.points import LOADS, Point, WaitTable
from triscale.policy.optimise.problem import Problem
from triscale.policy.waiting import Array, Pool, wait_quantile

__all__ = ["Mixed", "best_shared"]

_WAITS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65)
"""Waits that are assumed, all stages of the longest route together, as parts of the SLO."""
_HALVINGS = 12
_LANES = 16
"""Numbers of lanes that waits are computed for at a time."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Parts of the requests per way, and what the cores of a node make of it."""

    ways: tuple[tuple[tuple[int, ...], float], ...]
    points: dict[tuple[int, int], Point]
    loads: dict[tuple[int, int], float]
    """(stage, variant) -> items/s in all."""
    accuracy: float
    """Of the requests that are served."""
    served: float
    cores: int
    """Of each node."""
    utilisation: float
    wait_s: float
    """Predicted, at each stage."""


def best_shared(problem: Problem) -> tuple[Mixed, Mode] | None:
    """The best plan by the order of the aims; None where not one request would meet the SLO."""
    most = min((int(node.cores) for node in problem.nodes), default=0)
    found: list[tuple[Mixed, Mode]] = []
    for narrow in _by_threads(problem, most):
        best = _all_carried(narrow, most) or _most_served(narrow, most)
        if best is not None:
            found.append(best)
    return max(found, key=lambda pair: (pair[0].served, *_aims(pair[0]), -pair[0].cores), default=None)


def _by_threads(problem: Problem, most: int) -> list[Problem]:
    """The problem with one thread count for all lanes, for each count: a stage's lanes serve all its variants."""
    found = problem.memo.get("by_threads")
    if not isinstance(found, list):
        counts = sorted(
            {p.threads for choices in problem.choices for c in choices for p in c.points if p.threads <= most}
        )
        found = [
            replace(
                problem,
                choices=tuple(
                    tuple(replace(c, points=tuple(p for p in c.points if p.threads == threads)) for c in choices)
                    for choices in problem.choices
                ),
                memo={},
            )
            for threads in counts
        ]
        problem.memo["by_threads"] = found
    return [replace(narrow, demand=problem.demand, nodes=problem.nodes) for narrow in found]


def _assumed(problem: Problem) -> list[Problem]:
    """The problem with each assumed wait reserved at every stage; itself where waits are not predicted."""
    if problem.settings.wait != "queue":
        return [problem]
    found = problem.memo.get("assumed")
    if not isinstance(found, list):
        per_stage = problem.graph.pipeline.slo_s / problem.depth
        found = [replace(problem, reserved_s=part * per_stage, memo={}) for part in _WAITS]
        problem.memo["assumed"] = found
    return [replace(tight, demand=problem.demand, nodes=problem.nodes) for tight in found]


def _all_carried(problem: Problem, most: int) -> tuple[Mixed, Mode] | None:
    """All requests carried, on as few cores as carry them at the highest accuracy there is."""
    best = _best_variants(problem, most)
    if best is None:
        mixed = _most_accurate(problem, most)
        return (mixed, "accuracy") if mixed is not None else None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        fewer = _best_variants(problem, middle)
        if fewer is not None:
            best, high = fewer, middle
        else:
            low = middle
    return best, "hardware"


def _aims(mixed: Mixed) -> tuple[float, float]:
    return (round(mixed.accuracy, 9), -mixed.utilisation)


def _best_variants(problem: Problem, cores: int) -> Mixed | None:
    """All requests on the most accurate variants, on so many cores of each node; None where those do not carry them.

    What `_most_accurate` would find then, without the mixes in between.
    """
    each = _each(problem, cores)
    highest = float(compiled(problem).ways.accuracy.max()) - 1e-9
    for tight in _assumed(problem):
        for hull in hulls_of(tight):
            if hull.value(each) >= highest:
                mixed = _at_cost(tight, hull, cores, min(each, hull.cost[-1]))
                if mixed is not None and mixed.accuracy >= highest:
                    return mixed
    return None


def _each(problem: Problem, cores: int) -> float:
    """Core-seconds that there are for each request."""
    return cores * len(problem.nodes) / problem.demand if problem.demand > 0.0 else math.inf


def _most_accurate(problem: Problem, cores: int) -> Mixed | None:
    """The most accurate mix that carries all requests on so many cores of each node."""
    each = _each(problem, cores)
    candidates = [
        (hull.value(each), i, hull, tight) for i, tight in enumerate(_assumed(problem)) for hull in hulls_of(tight)
    ]
    best: Mixed | None = None
    for value, _, hull, tight in sorted(candidates, key=lambda candidate: (-candidate[0], candidate[1])):
        if value < 0.0 or (best is not None and value <= best.accuracy + 1e-9):
            break
        low, high = hull.cost[0], min(each, hull.cost[-1])
        mixed = _slid(partial(_at_cost, tight, hull, cores), low, high)
        if mixed is None or mixed.accuracy < problem.settings.min_accuracy - 1e-9:
            continue
        best = mixed if best is None else max(best, mixed, key=_aims)
    return best


def _most_served(problem: Problem, cores: int) -> tuple[Mixed, Mode] | None:
    """As many requests as the cheapest allowed mix carries."""
    least = problem.settings.min_accuracy
    best: Mixed | None = None
    for tight in _assumed(problem):
        for hull in hulls_of(tight):
            if hull.accuracy[-1] < least:
                continue
            mixed = _slid(partial(_in_part, tight, hull, cores, least_allowed(hull, least)), 1e-6, 1.0)
            if mixed is not None and (best is None or mixed.served > best.served):
                best = mixed
    return (best, "overload") if best is not None else None


def _slid(attempt: Callable[[float], Mixed | None], low: float, high: float) -> Mixed | None:
    """What succeeds at the highest number up to `high`; None where not even `low` does."""
    found = attempt(high)
    if found is not None or high <= low:
        return found
    found = attempt(low)
    for _ in range(_HALVINGS if found is not None else 0):
        middle = (low + high) / 2.0
        better = attempt(middle)
        low, high = (low, middle) if better is None else (middle, high)
        found = better or found
    return found


def _at_cost(problem: Problem, hull: Hull, cores: int, each: float) -> Mixed | None:
    return _check(problem, hull, hull.mix(each), cores)


def _in_part(problem: Problem, hull: Hull, cores: int, mix: Sequence[tuple[int, float]], served: float) -> Mixed | None:
    return _check(problem, hull, [(row, share * served) for row, share in mix], cores)


def _check(problem: Problem, hull: Hull, mix: Sequence[tuple[int, float]], cores: int) -> Mixed | None:
    """The mix, if the cores carry it, its models fit the memory and its wait is no longer than assumed."""
    known = compiled(problem)
    if not mix or any(known.way(mix[0][0])[s] != known.way(mix[-1][0])[s] for s in known.joined):
        return None
    points: dict[tuple[int, int], Point] = {}
    loads: dict[tuple[int, int], float] = {}
    for row, part in mix:
        for stage, items in enumerate(known.visits(row)):
            key = (stage, known.way(row)[stage])
            point = known.supplies(hull.budgets)[known.kinds_of(key)[0]].point(1)
            if point is None:
                return None
            points[key] = point
            loads[key] = loads.get(key, 0.0) + problem.demand * part * items
    needed = sum(load * points[key].cores_per_item for key, load in loads.items()) / len(problem.nodes)
    threads = next(iter(points.values())).threads
    usable = cores // threads * threads
    if not usable or needed > usable * (1.0 + 1e-9) or not _resident(problem, points):
        return None
    utilisation = needed / usable * problem.settings.utilisation
    waits = _waits(problem, hull, cores // threads)
    wait = max((waits[row].wait_s(cores // threads, utilisation) for row, _ in mix), default=0.0) if waits else 0.0
    if wait > problem.reserved_s:
        return None
    served = sum(part for _, part in mix)
    return Mixed(
        ways=tuple((known.way(row), part) for row, part in mix),
        points=points,
        loads=loads,
        accuracy=sum(part * float(known.ways.accuracy[row]) for row, part in mix) / served,
        served=served,
        cores=usable,
        utilisation=utilisation,
        wait_s=wait,
    )


def _resident(problem: Problem, points: dict[tuple[int, int], Point]) -> bool:
    """Whether each node holds all the variants."""
    memory = sum(problem.choices[stage][variant].memory_bytes for stage, variant in points)
    gpus = sum(problem.choices[stage][variant].gpus for stage, variant in points)
    return all((not node.memory_bytes or memory <= node.memory_bytes) and gpus <= node.gpus for node in problem.nodes)


def _waits(problem: Problem, hull: Hull, lanes: int) -> dict[int, WaitTable]:
    """Per way of the hull, the wait for one of the lanes over their load; empty where waits are not predicted."""
    if problem.settings.wait != "queue":
        return {}
    # Computed for many numbers of lanes at once, which takes hardly longer than for one: the next plan is at hand.
    block = (lanes - 1) // _LANES
    found: dict[int, WaitTable] | None = problem.memo.get(f"waits {hull.budgets} {block}")
    if found is None:
        counts = range(block * _LANES + 1, (block + 1) * _LANES + 1)
        pools = np.array([_pool(problem, hull, row) for row in hull.rows])[:, :, None, None]
        batch, first_s, full_s, burst, scv = (pools[:, column] for column in range(5))
        pool = Pool(np.array(counts, float)[None, :, None], batch, first_s, full_s, burst, 1.0, scv)
        seconds: Array = wait_quantile(pool, np.array(LOADS)[None, None, :], problem.settings.wait_quantile)
        found = {row: WaitTable(counts, seconds[i]) for i, row in enumerate(hull.rows)}
        problem.memo[f"waits {hull.budgets} {block}"] = found
    return found


def _pool(problem: Problem, hull: Hull, row: int) -> tuple[float, float, float, float, float]:
    """(batch, first_s, full_s, burst, service_scv) of the batches of all stages together, on one way."""
    known = compiled(problem)
    batches: list[tuple[float, Point, float]] = []
    for stage, items in enumerate(known.visits(row)):
        point = known.supplies(hull.budgets)[known.kinds_of((stage, known.way(row)[stage]))[0]].point(1)
        if point is not None:
            batches.append((items / point.batch, point, problem.bursts[stage]))
    total = sum(rate for rate, _, _ in batches)
    mean = sum(rate * point.mean_s for rate, point, _ in batches) / total
    second = sum(rate * point.mean_s**2 * (1.0 + point.scv) for rate, point, _ in batches) / total
    return (
        sum(rate * point.batch for rate, point, _ in batches) / total,
        sum(rate * point.first_s for rate, point, _ in batches) / total,
        mean,
        sum(rate * burst for rate, _, burst in batches) / total,
        second / mean**2 - 1.0,
    )
