"""What several seeds say of a figure: its mean, and how far the true mean may be from it.

The seeds of a comparison are independent, and every policy sees the same ones, so differences between two policies are
taken seed by seed: what is luck of the arrivals cancels out (common random numbers; Law, Simulation Modeling and
Analysis, 5th ed., ch. 11.2).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["CONFIDENCE", "Interval", "interval", "student_t"]

CONFIDENCE = 0.95
_STEPS = 60
"""Halvings of the angle: more than a float can tell apart."""


class Interval(NamedTuple):
    """A mean, and half the width of its confidence interval; None where one seed tells nothing of the spread."""

    mean: float
    half: float | None = None

    @property
    def low(self) -> float:
        """The lower end; the mean where there is no interval."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """The upper end, likewise."""
        return self.mean + (self.half or 0.0)


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The mean of independent values and its confidence interval by Student's t; None for no values."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, student_t(len(values) - 1, confidence) * error)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t within which Student's distribution of so many degrees of freedom lies with this probability.

    The distribution has a closed form in the angle whose tangent is t / sqrt(freedom) (Abramowitz and Stegun,
    Handbook of Mathematical Functions, 26.7.3 and 26.7.4); the angle is found by halving.
    """
    low, high = 0.0, math.pi / 2.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2.0)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < t) for the angle of t."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    total, term = 0.0, cosine if odd else 1.0
    for k in range(3 if odd else 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    return (angle + sine * total) * 2.0 / math.pi if odd else sine * total
