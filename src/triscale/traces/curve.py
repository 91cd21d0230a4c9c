"""Rates over time, and arrivals that follow them.

A rate function is a sequence of pieces, each a straight line; levels, ramps and fine polygons are all that the shapes
need. A stationary process of mean gap 1 becomes arrivals of rate r(t) by time rescaling: moment e stands at the time
at which the cumulative rate R(t) = r integrated over [0, t] reaches e. For Poisson moments this is the inversion
method for nonhomogeneous Poisson processes (Cinlar, Introduction to Stochastic Processes, 1975); for other renewal
processes see Gerhardt and Nelson, "Transforming renewal processes for simulation of nonstationary arrival processes",
INFORMS Journal on Computing 21(4), 2009. The mean number of arrivals in [a, b) is R(b) - R(a) for all stationary ones.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["Piece", "RateFunction", "cut", "rescaled"]


class Piece(NamedTuple):
    """The rate over [start, end): a straight line from `first` to `last`, in requests/s."""

    start: float
    end: float
    first: float
    last: float

    def at(self, offset: float) -> float:
        """The rate at a time inside the piece."""
        return self.first + (self.last - self.first) * (offset - self.start) / (self.end - self.start)


def rescaled(pieces: Iterable[Piece], epochs: Iterator[float]) -> Iterator[float]:
    """Arrival times for moments of mean gap 1 (`epochs`, ascending, without end); ascending, each inside its piece."""
    epoch = next(epochs)
    total = 0.0
    for start, end, first, last in pieces:
        reached = total + (end - start) * (first + last) / 2.0
        if epoch < reached:
            slope = (last - first) / (end - start)
            at, latest = start, math.nextafter(end, start)
            while epoch < reached:
                due = epoch - total
                # Solves first x + slope x^2 / 2 = due, written so that nothing cancels where the slope is small.
                speed = first + math.sqrt(max(0.0, first * first + 2.0 * slope * due)) if slope else 2.0 * first
                # Rounding may neither leave the piece nor go back in time.
                at = max(at, min(start + 2.0 * due / speed, latest)) if due > 0.0 else at
                yield at
                epoch = next(epochs)
        total = reached


def cut(pieces: Iterable[Piece], start: float, end: float) -> Iterator[Piece]:
    """The pieces' part in [start, end), moved to begin at 0."""
    for piece in pieces:
        if piece.start >= end:
            return
        if piece.end <= start:
            continue
        left, right = max(piece.start, start), min(piece.end, end)
        yield Piece(left - start, right - start, piece.at(left), piece.at(right))


class RateFunction:
    """A rate function that can be asked at any time. Holds four floats per piece."""

    __slots__ = ("_first", "_last", "_starts", "_totals", "high", "low", "seconds")

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._starts = array("d")
        self._first = array("d")
        self._last = array("d")
        self._totals = array("d", [0.0])
        self.seconds = 0.0
        self.low = math.inf
        """Lowest rate."""
        self.high = 0.0
        """Highest rate."""
        for piece in pieces:
            start, self.seconds, first, last = piece
            self._starts.append(start)
            self._first.append(first)
            self._last.append(last)
            self._totals.append(self._totals[-1] + (self.seconds - start) * (first + last) / 2.0)
            self.low = min(self.low, first, last)
            self.high = max(self.high, first, last)

    def at(self, offset: float) -> float:
        """The rate at a time, requests/s; 0 before the start and from the end on."""
        if not 0.0 <= offset < self.seconds:
            return 0.0
        return self._piece(bisect_right(self._starts, offset) - 1).at(offset)

    def expected(self, start: float, end: float) -> float:
        """Mean number of requests in [start, end)."""
        return max(0.0, self._cumulative(end) - self._cumulative(start))

    def _cumulative(self, offset: float) -> float:
        if offset <= 0.0:
            return 0.0
        if offset >= self.seconds:
            return self._totals[-1]
        index = bisect_right(self._starts, offset) - 1
        piece = self._piece(index)
        return self._totals[index] + (offset - piece.start) * (piece.first + piece.at(offset)) / 2.0

    def _piece(self, index: int) -> Piece:
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self.seconds
        return Piece(self._starts[index], end, self._first[index], self._last[index])
