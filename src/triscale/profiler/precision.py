"""When a latency is known well enough: confidence intervals of quantiles that assume no distribution.

Of n independent observations, the number below the q-quantile is binomial(n, q). So the interval from the r-th to the
s-th smallest holds the quantile with probability P(r <= X < s), whatever the distribution (David and Nagaraja, Order
Statistics, 3rd edition, section 7.1). The 0.95-quantile has a 95 % interval from 72 observations on, the median from 6.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from triscale.core.profile import LatencyPoint
from triscale.profiler.grid import Cell

__all__ = ["Precision", "Repetitions", "quantile_ranks"]

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Precision:
    """How well a cell is to be known."""

    quantile: float = 0.95
    """Which quantile's interval is looked at."""
    tight: float = 0.1
    """Half of its width, relative to the quantile, at which no more repetitions are needed."""
    fewest: int = 5
    """Repetitions however little time there is, unless even they take twice the time given."""
    most: int = 400
    """Repetitions that are enough in any case."""
    least_s: float = 0.25
    """Seconds over which they are spread, so that a short disturbance of the machine is not all that is seen."""


class Repetitions:
    """What one cell took, again and again."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._ordered)

    def add(self, seconds: float) -> None:
        """One more."""
        insort(self._ordered, seconds)

    def known(self, spent_s: float) -> bool:
        """Whether more repetitions than those of `spent_s` seconds would hardly change it, or are too many."""
        if spent_s < self._precision.least_s:
            return False
        if len(self) >= self._precision.most:
            return True
        return len(self) >= self._precision.fewest and self.half_width() <= self._precision.tight

    def half_width(self) -> float:
        """Half the width of the 95 % interval of the quantile, relative to it; infinite while there is none."""
        ranks = quantile_ranks(len(self), self._precision.quantile)
        if ranks is None:
            return math.inf
        low, high = self._ordered[ranks[0] - 1], self._ordered[ranks[1] - 1]
        middle = self._ordered[min(len(self), math.ceil(len(self) * self._precision.quantile)) - 1]
        return (high - low) / (2.0 * middle) if middle > 0.0 else 0.0

    def point(self, cell: Cell) -> LatencyPoint:
        """What goes into the profile."""
        # A tenth of a microsecond: more digits are none that anybody could measure, or would want to read.
        p50, p95, p99 = (round(float(q), 7) for q in np.quantile(self._ordered, (0.50, 0.95, 0.99)))
        return LatencyPoint(
            batch=cell.batch,
            threads=cell.threads,
            lanes=cell.lanes,
            p50_s=p50,
            p95_s=p95,
            p99_s=p99,
            samples=len(self),
        )


@lru_cache(maxsize=4096)
def quantile_ranks(count: int, quantile: float) -> tuple[int, int] | None:
    """Ranks (from 1) of the observations that bound the quantile with 95 % confidence; None while they are too few."""
    tail = (1.0 - _CONFIDENCE) / 2.0
    below = _cumulative(count, quantile)
    # below[r - 1]: the chance that the r-th smallest observation already lies above the quantile.
    low = max((rank for rank in range(1, count + 1) if below[rank - 1] <= tail), default=0)
    high = min((rank for rank in range(1, count + 1) if below[rank - 1] >= 1.0 - tail), default=0)
    return (low, high) if low and high else None


def _cumulative(count: int, quantile: float) -> Sequence[float]:
    """P(X <= k) for k from 0 to `count` of a binomial; by logarithms, because its ends are below any float."""
    log_q, log_p = math.log(quantile), math.log1p(-quantile)
    whole = math.lgamma(count + 1)
    chances = [
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_q + (count - k) * log_p)
        for k in range(count + 1)
    ]
    return list(itertools.accumulate(chances))
