"""Durations are counted in constant memory, and their quantiles are as close as is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.observe.quantiles import Durations, quantile_s


def counted(*seconds: float) -> Durations:
    found = Durations()
    for value in seconds:
        found.observe(value)
    return found


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile_s(Durations().take(), 0.99) is None


@given(st.lists(st.floats(1e-4, 100.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_a_hundredth_and_a_half_of_the_true_one(values: list[float], share: float) -> None:
    found = quantile_s(counted(*values).take(), share)
    ordered = sorted(values)
    true = next(v for i, v in enumerate(ordered, start=1) if i >= share * len(values) * (1 - 1e-9))
    assert found == pytest.approx(true, rel=0.015)


def test_p99_of_a_hundred_is_the_ninety_ninth() -> None:
    assert quantile_s(counted(*[0.1] * 99, 5.0).take(), 0.99) == pytest.approx(0.1, rel=0.015)
    assert quantile_s(counted(*[0.1] * 98, 5.0, 5.0).take(), 0.99) == pytest.approx(5.0, rel=0.015)


def test_what_was_taken_is_not_counted_again() -> None:
    durations = counted(0.1, 0.1)
    assert sum(durations.take().values()) == 2
    assert durations.take() == {}


def test_durations_of_any_size_take_a_bounded_number_of_counts() -> None:
    counts = counted(*[10.0 ** (exponent / 50) for exponent in range(-500, 500)]).take()
    assert len(counts) <= 601
    assert sum(counts.values()) == 1000
