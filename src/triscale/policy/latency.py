"""How long a batch takes: what the dispatcher and the planner believe about a variant's service latency.

Two views of one profile. `LatencyModel` answers for any (batch, threads, lanes): the measured table wins where there
is one, and the four-parameter fit (`policy/fit.py`) extends it. `ServiceTimes` is the dispatcher's: a list indexed by
batch size for one lane shape, corrected online by what batches really take.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeAlias

from triscale.core.profile import LatencyPoint, VariantProfile
from triscale.policy.fit import Fit, Surface

__all__ = ["Curve", "LatencyModel", "Quantile", "ServiceTimes"]

Quantile: TypeAlias = Literal["p50", "p95", "p99"]

_ENOUGH = 3
"""Points below which no surface is fitted: the table alone, flat below and proportional above it."""


class Curve:
    """Seconds over batch size at a fixed number of threads: measured points, never falling, linear in between.

    Below the smallest measured batch it is flat. Above the largest it goes on with the steeper of the last slope
    and the mean slope, so that a flat last step does not promise free batching.
    """

    __slots__ = ("_batches", "_seconds", "_slope")

    def __init__(self, points: Iterable[tuple[int, float]]) -> None:
        ordered = sorted(points)
        self._batches = [batch for batch, _ in ordered]
        self._seconds: list[float] = []
        highest = 0.0
        for _, seconds in ordered:
            highest = max(highest, seconds)
            self._seconds.append(highest)
        if len(ordered) > 1:
            slopes = [
                (later - earlier) / (b2 - b1)
                for (b1, earlier), (b2, later) in pairwise(zip(self._batches, self._seconds, strict=True))
            ]
            mean = (self._seconds[-1] - self._seconds[0]) / (self._batches[-1] - self._batches[0])
            self._slope = max(slopes[-1], mean)
        else:
            # One point: nothing shows that batching helps, so every item costs its share of it.
            self._slope = self._seconds[0] / self._batches[0]

    def __call__(self, batch: int) -> float:
        """Seconds for so many items."""
        batches, seconds = self._batches, self._seconds
        if batch <= batches[0]:
            return seconds[0]
        if batch >= batches[-1]:
            return seconds[-1] + self._slope * (batch - batches[-1])
        i = bisect_right(batches, batch)
        part = (batch - batches[i - 1]) / (batches[i] - batches[i - 1])
        return seconds[i - 1] + part * (seconds[i] - seconds[i - 1])


class LatencyModel:
    """Service latency of one variant in seconds, at one quantile, over batch, threads and lanes."""

    def __init__(self, profile: VariantProfile, quantile: Quantile = "p95") -> None:
        if not profile.latency:
            raise ValueError("the profile has no latency points; measure the variant with `triscale profile`")
        self.quantile = quantile
        self._table = _alone(profile.latency, quantile)
        self._curves: dict[int, Curve] = {}
        self._contention = _contention(profile.latency, quantile)

    @property
    def threads(self) -> tuple[int, ...]:
        """Thread counts that were measured, ascending."""
        return tuple(sorted({threads for _, threads in self._table}))

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes that were measured at any thread count, ascending."""
        return tuple(sorted({batch for batch, _ in self._table}))

    @property
    def most_lanes(self) -> int:
        """The most busy lanes that were measured; beyond them nothing is known to be slower."""
        return self._contention[-1][0]

    @property
    def fit(self) -> Fit | None:
        """The four parameters; None where the points are too few to fit."""
        return self._surface.fit if self._surface is not None else None

    @cached_property
    def _surface(self) -> Surface | None:
        usable = [(batch, threads, s) for (batch, threads), s in self._table.items() if s > 0.0]
        return Surface(usable) if len(usable) >= _ENOUGH else None

    def __call__(self, batch: int, threads: int = 1, lanes: int = 1) -> float:
        """Seconds for `batch` items on `threads` threads while `lanes` lanes of the replica are busy."""
        curve = self._curves.get(threads)
        if curve is None:
            curve = self._curves[threads] = self._curve(threads)
        return curve(batch) * self.contention(lanes)

    def contention(self, lanes: int) -> float:
        """How many times slower a lane is while `lanes` are busy than while it is alone; at least 1."""
        points = self._contention
        for (l1, f1), (l2, f2) in pairwise(points):
            if lanes <= l2:
                return f1 + (f2 - f1) * max(0, lanes - l1) / (l2 - l1)
        return points[-1][1]

    def _curve(self, threads: int) -> Curve:
        measured = self.threads
        if threads not in measured and (len(measured) == 1 or self._surface is None):
            # More threads than a measured count are not known to help; fewer may cost in proportion.
            near = max((t for t in measured if t <= threads), default=measured[0])
            factor = max(1.0, near / threads)
            return Curve((b, s * factor) for (b, t), s in self._table.items() if t == near)
        row = {b: s for (b, t), s in self._table.items() if t == threads}
        missing = {*self.batches, *_powers_of_two(self.batches[-1])} - row.keys()
        if missing and self._surface is not None:
            row.update({batch: self._surface(batch, threads) for batch in missing})
        return Curve(row.items())


class ServiceTimes:
    """What the dispatcher expects of one variant on one lane shape; O(1), corrected online.

    `predict` reads a list; `observe` moves one factor, `drift`, that scales the whole list. The factor follows the
    median of log(actual / expected median): each observation counts by at most `BOUND`, so that one stalled batch
    does not turn the pipeline upside down, and the factor stays within [1/4, 4].
    """

    __slots__ = ("_level", "_median", "_models", "_rows", "_seconds", "_sizes", "drift", "observed")

    GAIN = 0.08
    BOUND = 0.5
    LIMIT = math.log(4.0)

    def __init__(
        self,
        profile: VariantProfile,
        *,
        threads: int = 1,
        lanes: int = 1,
        quantile: Quantile = "p95",
        max_batch: int = 32,
    ) -> None:
        # Index 0 stands for "no items yet": it costs what one does.
        self._sizes = [max(1, size) for size in range(max_batch + 1)]
        self._models = LatencyModel(profile, quantile), LatencyModel(profile, "p50")
        self._rows: dict[tuple[int, int], tuple[list[float], list[float]]] = {}
        self._level = 0.0
        self.drift = 1.0
        """Measured over profiled latency; 1 = as profiled."""
        self.observed = 0
        """Batches that it has learned from."""
        self.expect(threads, lanes)

    def expect(self, threads: int, lanes: int) -> None:
        """From now on batches run on so many threads, beside so many lanes of the same replica, itself included."""
        rows = self._rows.get((threads, lanes))
        if rows is None:
            high, median = self._models
            rows = (
                [high(size, threads, lanes) for size in self._sizes],
                [median(size, threads, lanes) for size in self._sizes],
            )
            self._rows[threads, lanes] = rows
        self._seconds, self._median = rows

    def predict(self, batch: int) -> float:
        """Seconds at the chosen quantile that a batch of so many items takes, as of the latest observations."""
        if batch < len(self._seconds):
            return self._seconds[batch] * self.drift
        return self._beyond(self._seconds, batch) * self.drift

    def typical(self, batch: int) -> float:
        """Median seconds that a batch of so many items takes, as of the latest observations."""
        if batch < len(self._median):
            return self._median[batch] * self.drift
        return self._beyond(self._median, batch) * self.drift

    def observe(self, batch: int, seconds: float) -> None:
        """Learn from a finished batch. Readings that are no positive number are ignored."""
        expected = self._median[batch] if batch < len(self._median) else self._beyond(self._median, batch)
        if not (0.0 < seconds < math.inf) or expected <= 0.0:
            return
        surprise = math.log(seconds / expected) - self._level
        surprise = max(-self.BOUND, min(self.BOUND, surprise))
        self._level = max(-self.LIMIT, min(self.LIMIT, self._level + self.GAIN * surprise))
        self.drift = math.exp(self._level)
        self.observed += 1

    def _beyond(self, row: list[float], batch: int) -> float:
        last = len(row) - 1
        return row[last] * batch / last


def _seconds(point: LatencyPoint, quantile: Quantile) -> float:
    seconds: float = getattr(point, f"{quantile}_s")
    return seconds


def _alone(points: Iterable[LatencyPoint], quantile: Quantile) -> dict[tuple[int, int], float]:
    """(batch, threads) -> seconds with the fewest lanes that were measured."""
    table: dict[tuple[int, int], float] = {}
    for point in sorted(points, key=lambda p: -p.lanes):
        table[point.batch, point.threads] = _seconds(point, quantile)
    return table


def _powers_of_two(limit: int) -> list[int]:
    return [1 << i for i in range(limit.bit_length())]


def _contention(points: Sequence[LatencyPoint], quantile: Quantile) -> list[tuple[int, float]]:
    """(lanes, slowdown), ascending in both: the geometric mean over the (batch, threads) measured alone as well."""
    alone = {(p.batch, p.threads): _seconds(p, quantile) for p in points if p.lanes == 1}
    logs: dict[int, list[float]] = {}
    for point in points:
        base = alone.get((point.batch, point.threads), 0.0)
        if point.lanes > 1 and base > 0.0 and _seconds(point, quantile) > 0.0:
            logs.setdefault(point.lanes, []).append(math.log(_seconds(point, quantile) / base))
    factors = [(1, 1.0)]
    for lanes, values in sorted(logs.items()):
        factors.append((lanes, max(factors[-1][1], math.exp(sum(values) / len(values)))))
    return factors
