"""What a split of the SLO, or a box of many, can be worth at most: lanes may be fractions, and only all cores together
are limited. It costs a few numpy operations for any number of splits, where the relaxation of `relax.py` costs a linear
program for one.
"""

from __future__ import annotations

import math

import numpy as np

from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.relax import Goal
from triscale.policy.waiting import Array

__all__ = ["split_bounds"]

_PRICES = 12
"""Steps in which the price of a core is found."""


def split_bounds(problem: Problem, accuracy: Array, cost: Array, goal: Goal, served: float) -> list[float]:
    """Per row of `cost` (core-seconds per request of each way), a bound on the goal; -inf where nothing is feasible."""
    cost = problem.demand * cost
    cores = float(problem.cores)
    cheapest = cost.min(axis=1)
    if goal == "cores":
        needed = (cheapest * served).tolist()
        return [-value if value <= cores * (1.0 + 1e-9) else -math.inf for value in needed]
    if goal == "served":
        return [min(1.0, cores / value) if value < math.inf else -math.inf for value in cheapest.tolist()]
    return _priced(accuracy, cost, cores / served, served)


def _priced(worth: Array, cost: Array, cores: float, served: float) -> list[float]:
    """Per row of `cost`: min over the price of a core of price * cores + max_w (worth_w - price * cost_w).

    Any price gives a bound. Each step tries the one at which the best way that is too dear and the best that is not
    are worth the same; it is done when no third way is worth more there.
    """
    safe = np.where(np.isfinite(cost), cost, 1e30)
    rows = np.arange(len(cost))
    thrifty = safe.argmin(axis=1)
    feasible = safe[rows, thrifty] <= cores * (1.0 + 1e-9)
    dear = np.where(np.isfinite(cost), worth[None, :], -1.0).argmax(axis=1)
    affordable = safe[rows, dear] <= cores
    best = worth[dear]
    for _ in range(_PRICES):
        spread = safe[rows, dear] - safe[rows, thrifty]
        price = np.where(spread > 0.0, (worth[dear] - worth[thrifty]) / np.where(spread > 0.0, spread, 1.0), 0.0)
        price = np.maximum(price, 0.0)
        gain = worth[None, :] - price[:, None] * safe
        way = gain.argmax(axis=1)
        bound = price * cores + gain[rows, way]
        best = np.where(affordable, best, np.minimum(best, bound))
        done = gain[rows, way] <= gain[rows, dear] + 1e-12
        if (done | affordable | ~feasible).all():
            break
        over = safe[rows, way] > cores
        dear, thrifty = np.where(over, way, dear), np.where(over, thrifty, way)
    return [float(value * served) if ok else -math.inf for value, ok in zip(best, feasible, strict=True)]
