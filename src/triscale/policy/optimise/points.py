"""What one lane of a variant can do: operating points (batch, threads), and how many items/s a pool of lanes carries
within a latency budget.

A point's latency is its service quantile plus a wait that depends on the rule (`Settings.wait`). Where the wait is
predicted (`queue`) it comes from a table over lanes and load, computed once for all points of a stage.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triscale.core.profile import VariantProfile
from triscale.policy.latency import LatencyModel
from triscale.policy.optimise.settings import Settings
from triscale.policy.waiting import Array, Pool, WaitRule, wait_quantile

__all__ = ["TOLERANCE", "Point", "WaitTable", "lane_grid", "measure_points", "with_wait_tables"]

TOLERANCE = 1e-9
"""Relative slack in comparisons of sums of floats: a budget met exactly is met."""
# Dense where a quantile of the wait leaves 0, which it does steeply.
LOADS = (
    *(0.02, 0.05, 0.055, 0.06, 0.07, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
    *(0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.985),
)


class WaitTable:
    """Wait in seconds over lanes (rows) and load (columns), rising with the load and falling with the lanes."""

    __slots__ = ("_lanes", "_rows", "seconds")

    def __init__(self, lanes: Sequence[int], seconds: Array) -> None:
        self._lanes = list(lanes)
        # What the approximation loses in monotony is taken from the cautious side.
        steady = np.maximum.accumulate(seconds, axis=1)
        self.seconds: Array = np.maximum.accumulate(steady[::-1], axis=0)[::-1]
        self._rows: list[list[float]] = self.seconds.tolist()

    def wait_s(self, lanes: int, load: float) -> float:
        """The wait at so many lanes, each busy for `load` of its time at full batches."""
        row = self._rows[self._row(lanes)]
        i = bisect_right(LOADS, load)
        if i == 0:
            return row[0]
        if i == len(LOADS):
            return row[-1] if load <= LOADS[-1] else math.inf
        part = (load - LOADS[i - 1]) / (LOADS[i] - LOADS[i - 1])
        return row[i - 1] + part * (row[i] - row[i - 1])

    def load_for(self, lanes: int, wait_s: float) -> float:
        """The highest load whose wait is at most `wait_s`; 0 where even the lowest has a longer one."""
        row = self._rows[self._row(lanes)]
        i = bisect_right(row, wait_s * (1.0 + TOLERANCE) + 1e-12)
        if i == 0:
            return 0.0
        if i == len(row):
            return LOADS[-1]
        part = (wait_s - row[i - 1]) / (row[i] - row[i - 1])
        return LOADS[i - 1] + max(0.0, part) * (LOADS[i] - LOADS[i - 1])

    def loads_for(self, lanes: int, waits_s: Array) -> Array:
        """`load_for` of many waits at once."""
        row = self.seconds[self._row(lanes)]
        i = np.searchsorted(row, waits_s * (1.0 + TOLERANCE) + 1e-12, side="right")
        after, before = np.minimum(i, len(row) - 1), np.maximum(i - 1, 0)
        rise = np.where(row[after] > row[before], row[after] - row[before], 1.0)
        part = np.clip((waits_s - row[before]) / rise, 0.0, 1.0)
        loads = np.array(LOADS)
        found = loads[before] + np.where(i < len(row), part, 0.0) * (loads[after] - loads[before])
        return np.where(i > 0, found, 0.0)

    def _row(self, lanes: int) -> int:
        # Between two rows the one with fewer lanes: its waits are longer.
        return max(0, bisect_right(self._lanes, lanes) - 1)


@dataclass(frozen=True, slots=True)
class Point:
    """One way in which a lane can run a variant."""

    batch: int
    threads: int
    service_s: float
    """Quantile of a full batch's service."""
    rate: float
    """Items/s of one lane that always runs full batches, times the utilisation that it may be counted on."""
    mean_s: float
    """Mean service of a full batch."""
    first_s: float
    """Mean service of one item alone."""
    scv: float
    """Squared coefficient of variation of the service."""
    wait: WaitRule
    utilisation: float
    table: WaitTable | None = None

    @property
    def cores_per_item(self) -> float:
        """Core-seconds that an item costs, at the most that a lane is counted on."""
        return self.threads / self.rate

    @property
    def fixed_s(self) -> float:
        """The least latency: service, plus the wait where it does not depend on load and lanes."""
        return 2.0 * self.service_s if self.wait == "half_slo" else self.service_s

    def wait_s(self, lanes: int, items_per_s: float) -> float:
        """Predicted wait before a lane of the pool takes an item; inf beyond what the pool carries."""
        if self.wait == "none":
            return 0.0
        if self.wait == "half_slo":
            return self.service_s
        if self.wait == "batch_fill":
            return (self.batch - 1) / items_per_s if items_per_s > 0.0 else 0.0
        assert self.table is not None
        load = items_per_s / (lanes * self.rate) * self.utilisation if lanes else math.inf
        return self.table.wait_s(lanes, load)

    def latency_s(self, lanes: int, items_per_s: float) -> float:
        """Wait and service."""
        return self.service_s + self.wait_s(lanes, items_per_s)

    def most_items(self, lanes: int, budget_s: float) -> float:
        """Most items/s that a pool of so many lanes carries within the latency budget; 0 where it cannot."""
        slack = budget_s * (1.0 + TOLERANCE) - self.fixed_s
        if slack < 0.0:
            return 0.0
        full = lanes * self.rate
        if self.table is None:
            return full if self.wait != "batch_fill" or (self.batch - 1) <= slack * full else 0.0
        return full * min(1.0, self.table.load_for(lanes, slack) / self.utilisation)

    def fewest_lanes(self, items_per_s: float, budget_s: float, most: int) -> int | None:
        """Fewest lanes that carry the rate within the budget; None where `most` do not."""
        if items_per_s <= 0.0:
            return 1 if self.most_items(1, budget_s) > 0.0 or self.fixed_s <= budget_s else None
        need = items_per_s * (1.0 - TOLERANCE)
        low = max(1, math.ceil(need / self.rate - TOLERANCE))
        if self.table is None:
            return low if low <= most and self.most_items(low, budget_s) >= need else None
        if low > most or self.most_items(most, budget_s) < need:
            return None
        high = most
        while low < high:
            middle = (low + high) // 2
            if self.most_items(middle, budget_s) >= need:
                high = middle
            else:
                low = middle + 1
        return low


def measure_points(
    profile: VariantProfile, max_batch: int, cores: int, settings: Settings, drift: float
) -> list[Point]:
    """The operating points of a variant that are not worse than another of the same threads.

    `cores` is the largest node's: as many lanes may run beside each other, so latencies are those under contention.
    """
    high = LatencyModel(profile, settings.service_quantile)
    median, tail = LatencyModel(profile, "p50"), LatencyModel(profile, "p95")
    batches = settings.batches or _powers_of_two(high.batches[-1]) | set(high.batches)
    # Where cores are shared the wait is that for a core, not for a lane: see `shared.py`.
    wait: WaitRule = "none" if settings.wait == "queue" and settings.sharing == "shared" else settings.wait
    points: list[Point] = []
    for threads in sorted(settings.threads or high.threads):
        if threads > cores:
            continue
        lanes = max(1, cores // threads)
        row: list[Point] = []
        for batch in sorted({min(b, max_batch) for b in batches}):
            service = high(batch, threads, lanes) * drift
            typical = median(batch, threads, lanes) * drift
            spread = math.log(max(1.0, tail(batch, threads, lanes) * drift / typical)) / 1.645
            scv = min(1.0, math.expm1(spread**2))
            mean = service if settings.wait != "queue" else typical * math.exp(spread**2 / 2.0)
            first = mean * median(1, threads, lanes) * drift / typical
            row.append(
                Point(
                    batch=batch,
                    threads=threads,
                    service_s=service,
                    rate=batch / mean * settings.utilisation,
                    mean_s=mean,
                    first_s=first,
                    scv=scv,
                    wait=wait,
                    utilisation=settings.utilisation,
                )
            )
        points += _undominated(row)
    return points


def _powers_of_two(limit: int) -> set[int]:
    return {1 << i for i in range(limit.bit_length())}


def _undominated(row: Iterable[Point]) -> list[Point]:
    """Those for which no other has a shorter service at no less throughput, shortest first."""
    kept: list[Point] = []
    for point in sorted(row, key=lambda p: (p.service_s, -p.rate, p.batch)):
        if not kept or point.rate > kept[-1].rate * (1.0 + TOLERANCE):
            kept.append(point)
    return kept


def lane_grid(most: int) -> list[int]:
    """Lane counts for which waits are tabulated: every one up to 16, then in steps of a quarter."""
    grid = list(range(1, min(most, 16) + 1))
    while grid[-1] < most:
        grid.append(min(most, max(grid[-1] + 1, grid[-1] * 5 // 4)))
    return grid


def with_wait_tables(points: Sequence[Point], burst: float, most_lanes: int, quantile: float) -> list[Point]:
    """The same points with their waits tabulated, all in one go. `burst`: items that arrive together."""
    if not points:
        return []
    grid = lane_grid(max(1, most_lanes))

    def column(values: Iterable[float]) -> Array:
        return np.array(list(values), dtype=float)[:, None, None]

    pool = Pool(
        lanes=np.array(grid, dtype=float)[None, :, None],
        batch=column(p.batch for p in points),
        first_s=column(p.first_s for p in points),
        full_s=column(p.mean_s for p in points),
        burst=max(1.0, burst),
        service_scv=column(p.scv for p in points),
    )
    seconds = wait_quantile(pool, np.array(LOADS)[None, None, :], quantile)
    return [replace(point, table=WaitTable(grid, table)) for point, table in zip(points, seconds, strict=True)]
