"""Durations are counted in bounded memory, and their quantiles are as close as is said."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.observe.quantiles import Durations, bucket, quantile_s


def test_nothing_counted_has_no_quantile() -> None:
    assert Durations().quantile_s(0.99) is None
    assert quantile_s(Durations().take(), 0.99) is None


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent_of_the_true_one(values: list[float], share: float) -> None:
    ordered = sorted(values)
    true = next(v for i, v in enumerate(ordered, start=1) if i >= share * len(values) * (1 - 1e-9))
    assert Durations(values).quantile_s(share) == pytest.approx(true, rel=0.0101)


def test_so_it_is_for_many_that_differ_much() -> None:
    rng = random.Random(1)
    values = sorted(rng.lognormvariate(-3.0, 1.5) for _ in range(20_000))
    durations = Durations(values)
    for share in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999):
        assert durations.quantile_s(share) == pytest.approx(values[round(share * len(values)) - 1], rel=0.0101)


def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    durations = Durations([1.0] * 99 + [10.0])
    assert durations.quantile_s(0.99) == pytest.approx(1.0, rel=0.01)
    assert durations.quantile_s(0.991) == pytest.approx(10.0, rel=0.01)
    assert durations.quantile_s(1.0) == pytest.approx(10.0, rel=0.01)
    assert durations.quantile_s(0.0) == pytest.approx(1.0, rel=0.01)


def test_what_was_taken_is_not_counted_again() -> None:
    durations = Durations([0.1, 0.1])
    assert sum(durations.take().values()) == 2
    assert durations.take() == {}


def test_memory_is_bounded_however_many_and_however_different() -> None:
    rng = random.Random(2)
    durations = Durations(10.0 ** rng.uniform(-9, 6) for _ in range(50_000))
    assert len(durations.counts) < 1_500
    assert sum(durations.counts.values()) == 50_000


def test_a_duration_of_nothing_counts_as_a_very_short_one() -> None:
    assert bucket(0.0) == bucket(-1.0) == 1
    assert Durations([0.0]).quantile_s(0.5) == pytest.approx(0.0, abs=1e-7)
