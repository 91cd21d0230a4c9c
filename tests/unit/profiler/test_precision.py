"""Confidence intervals of quantiles, and when a cell is known."""

from __future__ import annotations

import math
import random

import pytest

from triscale.profiler.grid import Cell
from triscale.profiler.precision import Precision, Repetitions, quantile_ranks

CELL = Cell(4, 1, 2)


def repeated(precision: Precision, values: list[float]) -> Repetitions:
    found = Repetitions(precision)
    for value in values:
        found.add(value)
    return found


def binomial_between(count: int, quantile: float, low: int, high: int) -> float:
    """P(low <= X < high), exactly."""
    chances = (math.comb(count, k) * quantile**k * (1 - quantile) ** (count - k) for k in range(low, high))
    return sum(chances)


@pytest.mark.parametrize(("quantile", "fewest"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_a_quantile_has_an_interval_from_the_textbooks_count_on(quantile: float, fewest: int) -> None:
    assert quantile_ranks(fewest - 1, quantile) is None
    assert quantile_ranks(fewest, quantile) is not None


def test_ten_observations_bound_the_median_as_in_the_tables() -> None:
    assert quantile_ranks(10, 0.5) == (2, 9), "confidence 97.9 %; (3, 8) would be 89.1 %"


@pytest.mark.parametrize("quantile", [0.5, 0.95])
@pytest.mark.parametrize("count", [80, 200, 399])
def test_the_interval_holds_the_quantile_with_95_percent_and_hardly_more(count: int, quantile: float) -> None:
    ranks = quantile_ranks(count, quantile)
    assert ranks is not None
    assert 0.95 <= binomial_between(count, quantile, *ranks) < 0.99


def test_the_interval_covers_the_true_quantile_of_a_skewed_distribution() -> None:
    rng = random.Random(1)
    ranks = quantile_ranks(100, 0.95)
    assert ranks is not None
    truth = math.exp(1.6449)
    covered = 0
    for _ in range(1000):
        ordered = sorted(rng.lognormvariate(0.0, 1.0) for _ in range(100))
        covered += ordered[ranks[0] - 1] <= truth <= ordered[ranks[1] - 1]
    assert covered >= 935


def test_steady_latencies_are_known_soon_and_scattered_ones_later() -> None:
    precision = Precision(quantile=0.95, tight=0.1)
    rng = random.Random(1)
    steady = [1.0 + 0.01 * rng.random() for _ in range(72)]
    assert not repeated(precision, steady[:71]).known(1.0)
    assert repeated(precision, steady).known(1.0)
    assert not repeated(precision, [rng.lognormvariate(0.0, 1.0) for _ in range(72)]).known(1.0)


def test_repetitions_have_an_upper_limit_and_a_least_time() -> None:
    precision = Precision(most=10, least_s=0.5)
    assert repeated(precision, [1.0, 9.0] * 5).known(0.5)
    assert not repeated(precision, [1.0, 9.0] * 5).known(0.4), "a short disturbance may be all that was seen"


def test_a_point_has_the_quantiles_of_what_was_added() -> None:
    point = repeated(Precision(), [k / 100.0 for k in range(101)]).point(CELL)
    assert (point.batch, point.threads, point.lanes, point.samples) == (4, 1, 2, 101)
    assert (point.p50_s, point.p95_s, point.p99_s) == pytest.approx((0.5, 0.95, 0.99))
