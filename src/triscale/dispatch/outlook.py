"""What lies ahead of an item: how long the rest of its path takes, at which accuracy, and how much work waits.

Recomputed a few times a second from the plan, the lanes that exist and the measured latencies, so that the hot
path only looks numbers up. All times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from triscale.dispatch.stage import StageState

__all__ = ["Outlook", "frontier"]

_MOST_OPTIONS = 12


class Outlook:
    """Per stage, the way on from it.

    - `planned[s]`: time from the end of stage s to the answer, with the planned variants;
    - `options[s]`: the trade-offs between that time and accuracy that rescue may choose from, fastest first;
    - `least[s]`: shortest time from the start of service at s to the answer: less slack than this is hopeless;
    - `door_wait(...)`: predicted wait of a request that arrives now, behind everything admitted;
    - `path`: time of a whole request through an idle pipeline on its fastest variants.
    """

    __slots__ = ("_core_work", "_lane_work", "_stages", "least", "options", "path", "planned")

    def __init__(self, stages: Sequence[StageState], cores: float, *, rescue: bool) -> None:
        count = len(stages)
        usable = [_usable(stage, rescue=rescue) for stage in stages]
        self._stages = stages
        self.planned = [0.0] * count
        self.options: list[list[tuple[float, float]]] = [[(0.0, 1.0)] for _ in stages]
        self.least = [0.0] * count
        for stage in reversed(stages):
            s = stage.index
            for child, fan_out in zip(stage.children, _mean_fan_out(stage), strict=True):
                if fan_out > 0.0:
                    self._add_branch(s, stages[child], fan_out, usable[child])
            fastest = min((stage.models[v].predict(1) for v in usable[s]), default=0.0)
            self.least[s] = fastest + self.options[s][0][0]
        self.path = self.least[0]
        self._lane_work, self._core_work = _work(stages, usable, cores)

    def _add_branch(self, s: int, child: StageState, fan_out: float, usable: Sequence[int]) -> None:
        c = child.index
        burst = 1.0 if child.is_join else fan_out
        times = {v: _spread(child, v, burst) for v in {*usable, *child.planned}}
        planned = child.planned or tuple(usable)
        weights = [max(child.shares[0][v], 1e-9) for v in planned]
        mean = sum(times[v] * w for v, w in zip(planned, weights, strict=True)) / sum(weights)
        self.planned[s] = max(self.planned[s], mean + self.planned[c])
        onward = frontier([(times[v] + t, child.accuracy[v] * a) for v in usable for t, a in self.options[c]])
        mine = self.options[s]
        if mine == [(0.0, 1.0)]:
            self.options[s] = onward
        else:
            # Branches run side by side: the slower one counts, and the answer is as good as their mean.
            self.options[s] = frontier([(max(t, u), (a + b) / 2.0) for t, a in mine for u, b in onward])

    def door_wait(self) -> float:
        """Seconds until the work already admitted is done: the tightest of each stage's lanes and the cores."""
        stages = self._stages
        lives = [max(0.0, stage.live - 0.5 * stage.running) for stage in stages]
        wait = 0.0
        for row in self._lane_work:
            total = 0.0
            for live, work in zip(lives, row, strict=True):
                total += live * work
            wait = max(wait, total)
        if self._core_work is not None:
            total = 0.0
            for live, work in zip(lives, self._core_work, strict=True):
                total += live * work
            wait = max(wait, total)
        return max(wait, 0.0)


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
    if stage.resident:
        return stage.resident if rescue else tuple(v for v in stage.planned if v in stage.resident) or stage.resident
    return stage.planned or tuple(range(len(stage.models)))


def _mean_fan_out(stage: StageState) -> list[float]:
    weights = stage.shares[0] if sum(stage.shares[0]) > 0 else [1.0] * len(stage.models)
    total = sum(weights)
    return [
        sum(w * stage.fan_out[v][position] for v, w in enumerate(weights)) / total
        for position in range(len(stage.children))
    ]


def _spread(stage: StageState, variant: int, items: float) -> float:
    """Time to run one request's `items` (emitted at one instant) on this stage's lanes, nothing else waiting."""
    batch = stage.batch[variant]
    model = stage.models[variant]
    lanes = max(1, stage.lanes)
    per_lane = items / lanes
    if per_lane <= batch:
        return model.predict(max(1, math.ceil(per_lane)))
    return model.predict(batch) * (per_lane / batch)


def _work(
    stages: Sequence[StageState], usable: Sequence[Sequence[int]], cores: float
) -> tuple[list[list[float]], list[float] | None]:
    """Per live item at stage s: lane-seconds it still needs at each stage t, per lane of t; core-seconds in all."""
    count = len(stages)
    visits = [[0.0] * count for _ in range(count)]
    for s in range(count):
        visits[s][s] = 1.0
        for stage in stages[s:]:
            reach = visits[s][stage.index]
            if reach <= 0.0:
                continue
            for child, fan_out in zip(stage.children, _mean_fan_out(stage), strict=True):
                if stages[child].is_join:
                    # One item per request however much is gathered: counted with the root's item, which is one too.
                    visits[s][child] = 1.0 if s == 0 else 0.0
                else:
                    visits[s][child] += reach * fan_out
    cost = [min((_per_item(stage, v) for v in usable[stage.index]), default=0.0) for stage in stages]
    threads = [max((g.threads for g in stage.groups.values()), default=1) for stage in stages]
    lane_work = [[visits[s][t] * cost[t] / max(1, stages[t].lanes) for s in range(count)] for t in range(count)]
    core_work = None
    if cores > 0.0:
        core_work = [sum(visits[s][t] * cost[t] * threads[t] for t in range(count)) / cores for s in range(count)]
    return lane_work, core_work


def _per_item(stage: StageState, variant: int) -> float:
    batch = stage.batch[variant]
    return stage.models[variant].typical(batch) / batch
