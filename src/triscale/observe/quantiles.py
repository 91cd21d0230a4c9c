"""Quantiles of durations in bounded memory: cheap enough to count every request, small enough to keep of every second.

A duration is counted in a bucket; the buckets' widths grow with it. Bucket i holds (g^i, g^(i+1)] with g = 1.02, and
stands for the value in it that is nowhere off by more than 1 %, 2 g^(i+1) / (g + 1): the mapping of DDSketch (Masson,
Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019). A microsecond to eleven days takes about
1,400 buckets, and only those are kept that hold something. Counts of several stretches of time may be added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

__all__ = ["OFFSET", "SCALE", "SMALLEST_S", "Durations", "bucket", "quantile_s"]

_BASE = 1.02
SCALE = 1.0 / math.log(_BASE)
SMALLEST_S = 1e-6
"""Added to every value, so that none is too small; the values of interest are a thousand times as large and more."""
OFFSET = 1.0 - math.log(SMALLEST_S) * SCALE
"""Makes the bucket numbers positive."""
_STANDS_FOR = 2.0 * _BASE / (_BASE + 1.0)


def bucket(seconds: float) -> int:
    """The number of the bucket of a duration; one below 0, of two clocks that were read out of order, counts as 0."""
    return int(math.log(max(seconds, 0.0) + SMALLEST_S) * SCALE + OFFSET)


def quantile_s(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest duration that at least this share of those counted (bucket -> count) does not exceed, within 1 %.

    None when nothing was counted.
    """
    total = sum(counts.values())
    if not total:
        return None
    # A hair less, so that 0.99 of 100 values is the 99th although the product is a little above 99.
    wanted = share * total - 1e-9 * total
    seen = 0
    number = max(counts)
    for candidate in sorted(counts):
        seen += counts[candidate]
        if seen >= wanted:
            number = candidate
            break
    return math.exp((number - OFFSET) / SCALE) * _STANDS_FOR - SMALLEST_S


class Durations:
    """A growing collection of durations, as counts."""

    __slots__ = ("counts",)

    def __init__(self, seconds: Iterable[float] = ()) -> None:
        self.counts: dict[int, int] = {}
        """Bucket -> how many are in it, since they were last taken."""
        for value in seconds:
            self.observe(value)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        number = bucket(seconds)
        self.counts[number] = self.counts.get(number, 0) + 1

    def take(self) -> Mapping[int, int]:
        """The counts of what was observed since the last call; counting begins anew."""
        counts, self.counts = self.counts, {}
        return counts

    def quantile_s(self, share: float) -> float | None:
        """See `quantile_s`."""
        return quantile_s(self.counts, share)
