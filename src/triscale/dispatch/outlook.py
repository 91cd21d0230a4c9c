"""What lies ahead of an item: how long the rest of its path takes, at which accuracy, and how much work waits.

Recomputed a few times a second from the plan, the lanes that exist and the measured latencies, so that the hot
path only looks numbers up. All times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import mul

from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Cores

__all__ = ["Outlook", "frontier"]

_MOST_OPTIONS = 12
_LIKELY = 0.5
"""Mean fan-out below which an item more likely than not emits nothing: it is not given up for a branch that it will
probably not take."""


class Outlook:
    """Per stage, the way on from it.

    - `planned[s]`: time from the end of stage s to the answer, with the planned variants;
    - `options[s]`: the trade-offs between that time and accuracy that rescue may choose from, fastest first;
    - `least[s]`: shortest time from the start of service at s to the answer: less slack than this is hopeless;
    - `lanes[s]`: batches that can run at once at s;
    - `path`: time of a whole request on the fastest variants, alone;
    - `door_path(...)`: the same for a request that arrives now;
    - `door_wait(...)`: predicted wait of a request that arrives now, behind everything admitted.
    """

    __slots__ = (
        "_filled_by",
        "_full_path",
        "_grown_after_s",
        "_growth",
        "_stages",
        "_work",
        "lanes",
        "least",
        "options",
        "path",
        "planned",
    )

    def __init__(
        self,
        stages: Sequence[StageState],
        cores: Iterable[Cores],
        *,
        rescue: bool,
        spare_cores: float = 0.0,
        spare_after_s: float = 0.0,
    ) -> None:
        """`cores`: of each node whose lanes share them. `spare_cores`, `spare_after_s`: see `core.plan.Plan`."""
        count = len(stages)
        total = sum(shared.total for shared in cores)
        self._growth = (total + spare_cores) / total if total > 0.0 else 1.0
        self._grown_after_s = spare_after_s
        usable = [_usable(stage, rescue=rescue) for stage in stages]
        threads = [max((group.threads for group in stage.groups), default=1) for stage in stages]
        self._stages = stages
        self.lanes = [
            max(1.0, min(s.lanes, total / t) if total else s.lanes) for s, t in zip(stages, threads, strict=True)
        ]
        self.planned = [0.0] * count
        self.options: list[list[tuple[float, float]]] = [[(0.0, 1.0)] for _ in stages]
        self.least = [0.0] * count
        full = [0.0] * count
        for stage in reversed(stages):
            s = stage.index
            likely = 0
            for child, fan_out in zip(stage.children, _mean_fan_out(stage), strict=True):
                items = 1.0 if stages[child].is_join else fan_out
                if items > 0.0:
                    self.planned[s] = max(self.planned[s], self._by_plan(stages[child], items) + self.planned[child])
                if items >= _LIKELY:
                    self._add_branch(s, stages[child], items, usable[child], likely)
                    full[s] = max(full[s], full[child])
                    likely += 1
            models = stage.models
            self.least[s] = self.options[s][0][0] + min(models[v].predict(1) for v in usable[s])
            full[s] += min(models[v].predict(stage.batch[v]) for v in usable[s])
        self.path = self.least[0]
        self._full_path = max(self.path, full[0])
        self._filled_by = self.lanes[0] * max(stages[0].batch[v] for v in usable[0])
        """Items waiting at the root that fill the next batch of each of its lanes."""
        self._work = _work(stages, usable, threads, self.lanes, total)

    def door_wait(self, rows: int = 1) -> float:
        """Seconds until the work already admitted is done: the tightest of each stage's lanes and the cores.

        A request of several `rows` waits for all but one of them, too. Cores that are to be had count from when they
        would be there.
        """
        # What runs is half done on average.
        lives = [stage.live - 0.5 * stage.running for stage in self._stages]
        lives[0] += rows - 1
        longest = 0.0
        for row in self._work:
            wait: float = sum(map(mul, lives, row))
            if wait > longest:
                longest = wait
        if longest > self._grown_after_s:
            return self._grown_after_s + (longest - self._grown_after_s) / self._growth
        return longest

    def door_path(self, rows: int = 1) -> float:
        """Seconds from the end of its wait to the answer: the more requests wait, the fuller are its batches."""
        root = self._stages[0]
        fullness = min(1.0, (root.live - root.running + rows - 1) / self._filled_by)
        return self.path + fullness * (self._full_path - self.path)

    def _by_plan(self, child: StageState, items: float) -> float:
        """Time that one request's items, emitted at one instant, take at `child` by the plan, nothing else waiting."""
        routes = child.routes[0]
        lanes = self.lanes[child.index]
        total = 0.0
        for v in routes.variants:
            batch = child.batch[v]
            rounds = max(1.0, items / (batch * lanes))
            total += routes.shares[v] * rounds * child.models[v].predict(min(batch, math.ceil(items)))
        return total

    def _add_branch(self, s: int, child: StageState, items: float, usable: Sequence[int], before: int) -> None:
        """Combine the options of stage s, over `before` branches so far, with those through one more child."""
        c = child.index
        times = {v: _fastest(child, v, items, self.lanes[c]) for v in usable}
        onward = frontier([(times[v] + t, child.accuracy[v] * a) for v in usable for t, a in self.options[c]])
        if not before:
            self.options[s] = onward
            return
        # Branches run side by side: the slower one counts, and the answer is as good as their mean.
        self.options[s] = frontier(
            [(max(t, u), (a * before + b) / (before + 1)) for t, a in self.options[s] for u, b in onward]
        )


def frontier(pairs: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (time, accuracy) pairs that no other beats on both, fastest first; thinned to a dozen."""
    best: list[tuple[float, float]] = []
    for time, accuracy in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not best or accuracy > best[-1][1] + 1e-12:
            best.append((time, accuracy))
    if len(best) <= _MOST_OPTIONS:
        return best
    step = (len(best) - 1) / (_MOST_OPTIONS - 1)
    return [best[round(i * step)] for i in range(_MOST_OPTIONS)]


def _usable(stage: StageState, *, rescue: bool) -> tuple[int, ...]:
    """The variants that an item may be run on: with rescue all that are resident, else those that the plan uses."""
    if rescue and stage.resident:
        return stage.resident
    return tuple(dict.fromkeys(v for routes in stage.routes for v in routes.variants))


def _mean_fan_out(stage: StageState) -> list[float]:
    weights = stage.shares if sum(stage.shares) > 0.0 else [1.0] * len(stage.models)
    total = sum(weights)
    return [
        sum(w * stage.fan_out[v][position] for v, w in enumerate(weights)) / total
        for position in range(len(stage.children))
    ]


def _fastest(stage: StageState, variant: int, items: float, lanes: float) -> float:
    """The same as `_by_plan` on one variant, with batches as small as the lanes allow."""
    batch = stage.batch[variant]
    model = stage.models[variant]
    per_lane = items / lanes
    if per_lane <= batch:
        return model.predict(max(1, math.ceil(per_lane)))
    return model.predict(batch) * (per_lane / batch)


def _work(
    stages: Sequence[StageState],
    usable: Sequence[Sequence[int]],
    threads: Sequence[int],
    lanes: Sequence[float],
    cores: float,
) -> list[list[float]]:
    """Rows of seconds per live item at each stage: what it adds to each stage's work, and to that of shared cores."""
    visits = _visits(stages)
    cost = [min(s.models[v].typical(s.batch[v]) / s.batch[v] for v in usable[s.index]) for s in stages]
    everywhere = range(len(stages))
    rows = [[visits[s][t] * cost[t] / lanes[t] for s in everywhere] for t in everywhere]
    if cores > 0.0:
        rows.append([sum(visits[s][t] * cost[t] * threads[t] for t in everywhere) / cores for s in everywhere])
    return rows


def _visits(stages: Sequence[StageState]) -> list[list[float]]:
    """[s][t]: items at stage t still to come of one live item at stage s, itself included."""
    fan_out = [_mean_fan_out(stage) for stage in stages]
    visits: list[list[float]] = []
    for s in range(len(stages)):
        mine = [0.0] * len(stages)
        mine[s] = 1.0
        for stage in stages[s:]:
            reach = mine[stage.index]
            for child, items in zip(stage.children, fan_out[stage.index], strict=True):
                if not stages[child].is_join:
                    mine[child] += reach * items
                elif not s:
                    mine[child] = 1.0  # one item per request, however much is gathered
                elif visits[0][stage.index] > 0.0:
                    # It stands for its part of all that a request brings to the join's parents.
                    parents = sum(child in other.children for other in stages)
                    mine[child] += reach / max(1.0, visits[0][stage.index]) / parents
        visits.append(mine)
    return visits
