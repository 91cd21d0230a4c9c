"""What lanes of one variant carry within a latency budget: a function of their number, its inverse and its bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from triscale.policy.optimise.points import TOLERANCE, Point, lane_grid

__all__ = ["Supply"]


class Supply:
    """Items/s of `lanes` lanes with the same variant and threads, each pool at its best batch.

    Where waits do not depend on the load it is proportional to the lanes. Where they are predicted, larger pools
    carry more per lane: the function is known on a grid and between its points goes with the fewer lanes.
    """

    __slots__ = ("_grid", "_per_lane", "_points", "most", "threads")

    def __init__(self, points: Iterable[Point], budget_s: float, most: int) -> None:
        usable = [point for point in points if point.fixed_s <= budget_s * (1.0 + TOLERANCE)]
        self.threads = usable[0].threads if usable else 1
        self.most = most if usable else 0
        """Most lanes of the kind that could be used."""
        linear = all(point.table is None for point in usable)
        self._grid = [1] if linear else lane_grid(max(1, most))
        self._per_lane: list[float] = []
        self._points: list[Point | None] = []
        for lanes in self._grid:
            rates = [(point.most_items(lanes, budget_s) / lanes, -point.service_s, i) for i, point in enumerate(usable)]
            rate, _, i = max(rates, default=(0.0, 0.0, -1))
            if self._per_lane and rate <= self._per_lane[-1]:
                rate, chosen = self._per_lane[-1], self._points[-1]
            else:
                chosen = usable[i] if rate > 0.0 else None
            self._per_lane.append(rate)
            self._points.append(chosen)
        if not self._per_lane[-1] > 0.0:
            self.most = 0

    @property
    def proportional(self) -> bool:
        """Whether every lane carries the same."""
        return len(self._grid) == 1

    def items(self, lanes: int) -> float:
        """Most items/s of so many lanes."""
        return lanes * self._per_lane[self._at(lanes)] if lanes else 0.0

    def point(self, lanes: int) -> Point | None:
        """How each of so many lanes runs; None where they carry nothing."""
        return self._points[self._at(lanes)]

    def lanes(self, items_per_s: float) -> int | None:
        """Fewest lanes that carry the rate; None where `most` do not."""
        need = items_per_s * (1.0 - TOLERANCE)
        if need <= 0.0:
            return 0
        if self.most == 0 or self.items(self.most) < need:
            return None
        low, high = 1, self.most
        if self.proportional:
            low = max(1, int(need / self._per_lane[0]))
            high = min(high, low + 1)
        while low < high:
            middle = (low + high) // 2
            if self.items(middle) >= need:
                high = middle
            else:
                low = middle + 1
        return low

    def line(self, low: int, high: int) -> tuple[float, float]:
        """(offset, slope) of a line that no number of lanes in [low, high] carries more than."""
        base = self.items(low)
        if self.proportional or low == high:
            slope = self._per_lane[0] if self.proportional else 0.0
            return base - slope * low, slope
        ends = [high, *(n for n in self._grid if low < n < high)]
        slope = max((self.items(n) - base) / (n - low) for n in ends)
        return base - slope * low, slope

    def _at(self, lanes: int) -> int:
        return max(0, bisect_right(self._grid, lanes) - 1)
