"""Service times: through the profile's quantiles, with contention, one stream per stage."""

from __future__ import annotations

import math
import random

import pytest

from triscale.core.profile import LatencyPoint, VariantProfile
from triscale.sim.service import StageService, distribution


def profile(*points: tuple[int, int, int, float, float, float]) -> VariantProfile:
    """Points of (batch, threads, lanes, p50, p95, p99)."""
    return VariantProfile(
        latency=tuple(
            LatencyPoint(batch=b, threads=t, lanes=n, p50_s=p50, p95_s=p95, p99_s=p99)
            for b, t, n, p50, p95, p99 in points
        )
    )


@pytest.mark.parametrize(("p95", "p99"), [(0.012, 0.013), (0.02, 0.06), (0.0101, 0.05), (0.03, 0.03)])
def test_the_distribution_goes_through_the_three_quantiles(p95: float, p99: float) -> None:
    values = distribution(0.01, p95, p99)
    count = len(values)
    for share, wanted in ((0.5, 0.01), (0.95, p95), (0.99, p99)):
        below, above = values[int(share * count) - 2], values[int(share * count) + 2]
        assert below <= wanted * 1.0001
        assert above >= wanted * 0.9999


def test_a_profile_without_spread_gives_one_value() -> None:
    assert distribution(0.01, 0.01, 0.01) == (0.01,)


def test_quantiles_that_fall_are_taken_as_equal() -> None:
    assert distribution(0.02, 0.01, 0.01) == (0.02,)


def test_the_mean_of_the_draws_is_the_mean_of_the_distribution_not_the_median() -> None:
    service = StageService([profile((1, 1, 1, 0.01, 0.02, 0.03))], "profile", random.Random(3))
    draws = [service.draw(0, 1, 1) for _ in range(40_000)]
    mean = math.fsum(draws) / len(draws)
    assert mean == pytest.approx(service.mean(0, 1, 1), rel=0.01)
    sigma = math.log(2.0) / 1.6449
    assert service.mean(0, 1, 1) == pytest.approx(0.01 * math.exp(sigma**2 / 2), rel=0.01), "that of a lognormal"


def test_fixed_service_takes_the_median() -> None:
    service = StageService(
        [profile((1, 1, 1, 0.01, 0.02, 0.03), (4, 1, 1, 0.03, 0.06, 0.09))], "fixed", random.Random(0)
    )
    assert service.draw(0, 1, 1) == 0.01
    assert service.draw(0, 4, 1) == 0.03


def test_exponential_service_has_the_median_of_the_profile_as_its_mean() -> None:
    service = StageService([profile((1, 1, 1, 0.01, 0.02, 0.03))], "exponential", random.Random(4))
    draws = sorted(service.draw(0, 1, 1) for _ in range(40_000))
    assert math.fsum(draws) / len(draws) == pytest.approx(0.01, rel=0.02)
    assert draws[20_000] == pytest.approx(0.01 * math.log(2.0), rel=0.03)


def test_busy_lanes_slow_each_other_down_as_the_profile_says() -> None:
    points = [(1, 1, 1, 0.01, 0.01, 0.01), (1, 1, 4, 0.016, 0.016, 0.016)]
    service = StageService([profile(*points)], "fixed", random.Random(0))
    alone, two, four, nine = (service.draw(0, 1, 1, busy) for busy in (1, 2, 4, 9))
    assert alone == pytest.approx(0.01)
    assert two == pytest.approx(0.012)
    assert four == nine == pytest.approx(0.016)


def test_the_same_seed_draws_the_same_times() -> None:
    one, other = (StageService([profile((1, 1, 1, 0.01, 0.02, 0.03))], "profile", random.Random(7)) for _ in range(2))
    assert [one.draw(0, 1, 1) for _ in range(50)] == [other.draw(0, 1, 1) for _ in range(50)]
