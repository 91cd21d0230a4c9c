"""Quantiles within one percent, in bounded memory."""

from __future__ import annotations

import random

import pytest

from triscale.sim.sketch import Sketch, bucket


def test_quantiles_are_within_one_percent_of_the_exact_ones() -> None:
    rng = random.Random(1)
    values = sorted(rng.lognormvariate(-3.0, 1.5) for _ in range(20_000))
    sketch = Sketch(values)
    for share in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999):
        exact = values[round(share * len(values)) - 1]
        assert sketch.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    sketch = Sketch([1.0] * 99 + [10.0])
    assert sketch.quantile(0.99) == pytest.approx(1.0, rel=0.01)
    assert sketch.quantile(0.991) == pytest.approx(10.0, rel=0.01)
    assert sketch.quantile(1.0) == pytest.approx(10.0, rel=0.01)
    assert sketch.quantile(0.0) == pytest.approx(1.0, rel=0.01)


def test_nothing_has_no_quantile() -> None:
    assert Sketch().quantile(0.5) is None


def test_memory_is_bounded_however_many_values_and_however_different() -> None:
    rng = random.Random(2)
    sketch = Sketch(10.0 ** rng.uniform(-9, 6) for _ in range(50_000))
    assert len(sketch.counts) < 1_500
    assert sum(sketch.counts.values()) == 50_000


def test_a_duration_of_nothing_counts_as_a_very_short_one() -> None:
    assert bucket(0.0) == 1
    assert Sketch([0.0]).quantile(0.5) == pytest.approx(0.0, abs=1e-7)
