"""Latencies of a variant that was never profiled: learned from the batches that it runs.

Until the first batch is done nothing is known, and an unknown latency is taken as none: without a profile the first
requests are admitted and run, and only expire when their deadline passes.
"""

from __future__ import annotations

__all__ = ["LearnedTimes"]


class LearnedTimes:
    """Moving averages per power of two of the batch size; stands in for `latency.ServiceTimes`."""

    __slots__ = ("_means",)

    GAIN = 0.1
    HEADROOM = 1.3
    """A deadline needs more than the mean; measured tails of single models lie 10 to 30 % above it."""

    def __init__(self) -> None:
        self._means: dict[int, float] = {}

    def predict(self, batch: int) -> float:
        """Seconds to leave room for."""
        return self.typical(batch) * self.HEADROOM

    def typical(self, batch: int) -> float:
        """Mean seconds of batches of about this size; in proportion to the nearest size that was seen."""
        means = self._means
        if not means:
            return 0.0
        size = batch.bit_length()
        if size in means:
            return means[size]
        near = min(means, key=lambda known: (abs(known - size), known))
        # A smaller batch is not known to be faster than the nearest one seen.
        return float(means[near] * max(1.0, 2.0 ** (size - near)))

    def expect(self, threads: int, lanes: int) -> None:
        """Nothing is known of other threads or lanes: what was learned holds until new batches correct it."""

    def observe(self, batch: int, seconds: float) -> None:
        """Learn from a finished batch."""
        size = batch.bit_length()
        mean = self._means.get(size)
        self._means[size] = seconds if mean is None else mean + (seconds - mean) * self.GAIN
