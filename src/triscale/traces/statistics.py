"""What a trace is like: its rate, what one drawing of it counts in each second, and how bursty those counts are."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from triscale.traces.trace import AnyTrace, Recorded

__all__ = ["Spread", "TraceSummary", "count_seconds", "rates_of", "summarise"]


class Spread(Struct, frozen=True):
    """A distribution over the seconds of a trace."""

    mean: float
    median: float
    p99: float
    max: float


class TraceSummary(Struct, frozen=True, kw_only=True):
    """A trace and one drawing of it, in figures."""

    name: str
    seconds: float
    requests: int
    expected: float
    """Mean number of requests over all drawings."""
    rate: Spread
    """Mean requests/s in each second."""
    counts: Spread
    """Requests drawn in each second."""
    dispersion: float | None
    """Variance of the counts of whole seconds over their mean (index of dispersion at 1 s): 1 for Poisson arrivals of
    one rate, more where the rate moves. None below two whole seconds."""
    dispersion_around_rate: float | None
    """The same, taken around the rate: 1 for Poisson arrivals however the rate moves, cv2 (in the long run) for
    renewal processes. None for recorded moments, whose rate is what was counted."""


def rates_of(trace: AnyTrace) -> list[float]:
    """Mean requests/s in each second of the trace; the last one may be short."""
    function, seconds = trace.rate_function, trace.seconds
    edges = [*range(math.ceil(seconds)), seconds]
    return [function.expected(a, b) / (b - a) for a, b in itertools.pairwise(edges)]


def count_seconds(times: Iterable[float], seconds: float) -> list[int]:
    """How many times fall into each second."""
    counts = array("L", bytes(array("L").itemsize * math.ceil(seconds)))
    for at in times:
        counts[int(at)] += 1
    return counts.tolist()


def summarise(trace: AnyTrace, rates: Sequence[float], counts: Sequence[int]) -> TraceSummary:
    """The figures of a trace with these rates and counts per second."""
    whole = int(trace.seconds)
    drawn, mean = np.array(counts[:whole], dtype=float), np.array(rates[:whole])
    several = whole >= 2 and mean.sum() > 0.0 and drawn.sum() > 0.0
    around = several and not isinstance(trace, Recorded)
    return TraceSummary(
        name=trace.label,
        seconds=trace.seconds,
        requests=sum(counts),
        expected=trace.expected(),
        rate=_spread(rates, trace.expected() / trace.seconds),
        counts=_spread(counts, sum(counts) / trace.seconds),
        dispersion=float(drawn.var(ddof=1) / drawn.mean()) if several else None,
        dispersion_around_rate=float(((drawn - mean) ** 2).sum() / mean.sum()) if around else None,
    )


def _spread(values: Sequence[float], mean: float) -> Spread:
    median, p99, most = np.percentile(values, [50, 99, 100], method="inverted_cdf").tolist()
    return Spread(mean=mean, median=float(median), p99=float(p99), max=float(most))
