"""Forecasters say what their formulas say, and are judged by what came."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import ConfigError
from triscale.policy.forecast import (
    FORECASTERS,
    Ewma,
    Forecaster,
    Holt,
    Padded,
    Persistence,
    WindowMaximum,
    forecast_error,
    make_forecaster,
)
from triscale.traces.published import ThemisSlice


def forecast(forecaster: Forecaster, counts: list[float], horizon_s: float = 10.0) -> float:
    forecaster.update(counts)
    return forecaster.forecast(horizon_s)


@pytest.mark.parametrize("name", FORECASTERS)
def test_nothing_known_is_no_demand(name: str) -> None:
    assert make_forecaster(name).forecast(10.0) == 0.0


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_constant_load_is_forecast_as_it_is(name: str) -> None:
    assert forecast(make_forecaster(name), [40.0] * 60) == pytest.approx(40.0)


@pytest.mark.parametrize("name", FORECASTERS)
@given(counts=st.lists(st.integers(0, 500), max_size=120), horizon=st.integers(1, 60))
def test_a_forecast_is_a_finite_rate_and_depends_on_the_counts_alone(
    name: str, counts: list[int], horizon: int
) -> None:
    used, fresh = make_forecaster(name), make_forecaster(name)
    used.update([999.0] * 50)
    used.update(counts)
    fresh.update(counts)
    assert 0.0 <= used.forecast(horizon) < math.inf
    assert used.forecast(horizon) == fresh.forecast(horizon)


def test_persistence_says_the_last_second_again() -> None:
    assert forecast(Persistence(), [9.0, 1.0, 4.0]) == 4.0


def test_the_window_maximum_looks_back_over_its_window_only() -> None:
    assert forecast(WindowMaximum(3.0), [9.0, 1.0, 4.0, 2.0]) == 4.0


def test_loki_s_mean_is_the_published_formula() -> None:
    counts = [float(n % 7) for n in range(40)]
    alpha = 1.0 / 2.6
    weights = [(1.0 - alpha) ** j for j in range(20)]
    expected = sum(w * d for w, d in zip(weights, reversed(counts), strict=False)) / sum(weights)
    assert forecast(Ewma(com=1.6), counts) == pytest.approx(expected)


def test_holt_follows_a_line() -> None:
    line = [10.0 + 2.0 * second for second in range(100)]
    assert forecast(Holt(damping=1.0), line, 10.0) == pytest.approx(line[-1] + 20.0, rel=1e-3)


def test_a_damped_trend_levels_off() -> None:
    line = [10.0 + 2.0 * second for second in range(100)]
    damped = Holt(damping=0.9)
    near, far, farther = (forecast(damped, line, horizon) for horizon in (10.0, 1000.0, 2000.0))
    assert line[-1] < near < far == pytest.approx(farther)


def test_the_peak_of_a_falling_line_is_its_next_second() -> None:
    line = [300.0 - 2.0 * second for second in range(100)]
    assert forecast(Holt(damping=1.0), line, 60.0) == pytest.approx(line[-1] - 2.0, rel=1e-3)


def test_padding_makes_the_peak_of_poisson_counts_of_their_mean() -> None:
    rng = random.Random(5)
    counts = [sum(rng.random() < 0.04 for _ in range(1000)) for _ in range(600)]
    plain, padded = forecast_error(Ewma(), counts), forecast_error(Padded(Ewma()), counts)
    assert plain.underpredicted > 0.9
    assert padded.underpredicted < 0.6
    assert padded.mape < 0.5 * plain.mape


def test_errors_are_counted_at_every_second_that_has_a_past_and_a_whole_future() -> None:
    found = forecast_error(Persistence(), [10.0, 20.0, 10.0, 20.0], horizon=2)
    assert found.steps == 2
    assert found.mape == pytest.approx((10.0 / 20.0 + 0.0) / 2.0)
    assert found.underpredicted == 0.5


def test_seconds_without_arrivals_count_for_no_relative_error() -> None:
    assert forecast_error(Persistence(), [0.0] * 20, horizon=5).mape == 0.0


def test_a_trace_without_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="10 seconds are too few to judge forecasts of 10 seconds"):
        forecast_error(Persistence(), [1.0] * 10, horizon=10)


def test_the_same_statistic_again_is_a_better_forecast_of_a_peak_than_the_last_second() -> None:
    # Themis's slice: like is to be compared with like.
    counts = [piece.first for piece in ThemisSlice(divider=1.0).pieces()]
    peak, second = forecast_error(WindowMaximum(10.0), counts), forecast_error(Persistence(), counts)
    assert peak.mape < 0.8 * second.mape
    assert peak.underpredicted < 0.6 * second.underpredicted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_forecaster("lstm"), "there is no 'lstm'; choose of persistence, window_maximum, ewma, holt"),
        (lambda: WindowMaximum(0.5), "a window of at least 1 second"),
        (lambda: Ewma(com=-1.0), "com is 0 or more"),
        (lambda: Holt(level=0.0), "level and damping lie above 0"),
    ],
)
def test_what_cannot_forecast_is_refused_with_its_rule(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
