"""l(b, t) = alpha*b/t + beta*b + gamma/t + zeta, fitted to a variant's measured latencies.

alpha: parallel work per item; beta: serial work per item; gamma: parallel fixed work; zeta: serial fixed work
(Themis, arXiv 2407.14843, eq. 1; Sponge, eq. 2). None of the four can be negative, errors count relative to the
latency (a surge lands at small batches and many threads, where latencies are small), and a point far off the others
is weighted down (Huber), because it is more likely a disturbed measurement.

`Surface` adds what the four terms leave over: the relative errors of the fit, smoothed over (log batch, log threads).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["Fit", "Point", "Surface"]

Point = tuple[int, int, float]
"""(batch, threads, seconds)."""

_TOLERATED = 0.1
"""Relative error up to which a point counts in full."""
_ROUNDS = 20
_REACH = 1.5
"""Doublings of batch or threads over which an error of the fit is believed to carry over."""
_NOISE = 0.35
"""Share of such an error that is taken for noise of the measurement."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The four parameters, in seconds."""

    alpha: float
    beta: float
    gamma: float
    zeta: float

    def __call__(self, batch: float, threads: float) -> float:
        """Seconds for a batch of so many items on so many threads."""
        return (self.alpha * batch + self.gamma) / threads + self.beta * batch + self.zeta

    @classmethod
    def of(cls, points: Iterable[Point]) -> Fit:
        """Fit points with seconds above 0. Raises ValueError without points.

        What the points cannot tell apart counts as serial: no gain from threads is promised without a measurement.
        """
        rows = list(points)
        if not rows:
            raise ValueError("a latency fit needs at least one point")
        batch, threads, seconds = np.array(rows, dtype=float).T
        terms = np.stack([batch, np.ones_like(batch), batch / threads, 1.0 / threads], axis=1) / seconds[:, None]
        weights = np.ones_like(seconds)
        found = np.zeros(4)
        for _ in range(_ROUNDS):
            root = np.sqrt(weights)
            before, found = found, _non_negative(terms * root[:, None], root)
            if np.allclose(before, found, rtol=1e-6, atol=0.0):
                break
            weights = 1.0 / np.maximum(1.0, np.abs(terms @ found - 1.0) / _TOLERATED)
        beta, zeta, alpha, gamma = (float(value) for value in found)
        return cls(alpha, beta, gamma, zeta)


class Surface:
    """A fit, corrected near the points by the points' own errors (Gaussian-process regression of log ratios)."""

    __slots__ = ("_at", "_weights", "fit")

    def __init__(self, points: Iterable[Point]) -> None:
        rows = list(points)
        self.fit = Fit.of(rows)
        self._at = np.array([(np.log2(b), np.log2(t)) for b, t, _ in rows])
        errors = np.array([np.log(s / self.fit(b, t)) for b, t, s in rows])
        kernel = self._closeness(self._at) + _NOISE * np.eye(len(rows))
        self._weights = np.linalg.solve(kernel, errors)

    def __call__(self, batch: int, threads: int) -> float:
        """Seconds for a batch of so many items on so many threads."""
        here = np.array([[np.log2(batch), np.log2(threads)]])
        return float(self.fit(batch, threads) * np.exp((self._closeness(here) @ self._weights)[0]))

    def _closeness(self, to: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        squared = ((to[:, None] - self._at[None]) ** 2).sum(axis=-1)
        return np.asarray(np.exp(-squared / (2.0 * _REACH**2)))


_SUBSETS = [list(subset) for size in (1, 2, 3, 4) for subset in combinations(range(4), size)]


def _non_negative(terms: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares with no parameter below zero, exactly: the best of the 15 choices of which may be positive.

    Among equals the first wins, so fewer terms before more, and the columns on the left before those on the right.
    """
    best, best_error = np.zeros(terms.shape[1]), np.inf
    for subset in _SUBSETS:
        solution = np.linalg.lstsq(terms[:, subset], target, rcond=None)[0]
        if (solution < 0.0).any():
            continue
        error = float(((terms[:, subset] @ solution - target) ** 2).sum())
        if error < best_error * (1.0 - 1e-9) - 1e-15:
            best_error = error
            best = np.zeros(terms.shape[1])
            best[subset] = solution
    return best
