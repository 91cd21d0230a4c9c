"""Quantiles of the durations of one second: cheap enough to note every request, small enough to keep ten minutes of.

A duration is counted in one of 600 buckets that grow by 2.4 % each, so a quantile is right within about 1.2 %.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

__all__ = ["Durations", "quantile_s"]

_SMALLEST_S = 1e-4
_GROWTH = 1.024
_BOUNDS_S = tuple(_SMALLEST_S * _GROWTH**index for index in range(600))
"""Upper bounds: from a tenth of a millisecond to two and a half minutes."""


class Durations:
    """Counts of durations since they were last taken."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        bucket = bisect_left(_BOUNDS_S, seconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def take(self) -> Mapping[int, int]:
        """Bucket -> count of what was observed since the last call; counting begins anew."""
        counts, self._counts = self._counts, {}
        return counts


def quantile_s(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that at least this share of those counted did not exceed; None where nothing was counted."""
    total = sum(counts.values())
    if not total:
        return None
    # A hair less, so that 0.99 of 100 is the 99th although the product is a little above 99.
    wanted = share * total * (1.0 - 1e-9)
    seen = 0
    bucket = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            break
    # The middle of the bucket, on the scale on which buckets are alike.
    return float(_SMALLEST_S * _GROWTH ** (bucket - 0.5))
