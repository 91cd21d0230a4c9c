"""Time rescaling puts moments where the cumulative rate says, and a rate function adds up."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.traces.curve import Piece, RateFunction, cut, rescaled
from triscale.traces.processes import Even, Gamma, Poisson, Process

RATES = st.floats(0.0, 300.0, allow_subnormal=False)
CURVES = st.lists(st.tuples(st.floats(0.01, 3.0), RATES, RATES), min_size=1, max_size=6)


def curve(parts: list[tuple[float, float, float]]) -> list[Piece]:
    edges = [0.0, *itertools.accumulate(length for length, _, _ in parts)]
    return [Piece(a, b, first, last) for (a, b), (_, first, last) in zip(itertools.pairwise(edges), parts, strict=True)]


def test_each_moment_stands_where_the_cumulative_rate_reaches_it() -> None:
    ramp = [Piece(0.0, 2.0, 0.0, 4.0)]  # cumulative rate: t squared
    assert list(rescaled(ramp, iter([0.25, 1.0, 3.9, 4.0]))) == pytest.approx([0.5, 1.0, 3.9**0.5])


def test_a_moment_passes_over_a_pause() -> None:
    pieces = [Piece(0.0, 1.0, 1.0, 1.0), Piece(1.0, 5.0, 0.0, 0.0), Piece(5.0, 6.0, 2.0, 2.0)]
    assert list(rescaled(pieces, iter([0.5, 1.5, 9.0]))) == [0.5, 5.25]


@given(CURVES, st.sampled_from([Poisson(), Even(), Gamma(0.3), Gamma(50.0)]), st.integers(0, 1000))
def test_arrivals_ascend_within_the_trace(parts: list[tuple[float, float, float]], process: Process, seed: int) -> None:
    pieces = curve(parts)
    found = list(rescaled(pieces, process.epochs(random.Random(seed))))
    assert found == sorted(found)
    assert all(0.0 <= at < pieces[-1].end for at in found)


@given(CURVES)
def test_even_arrivals_number_the_area_under_the_rate(parts: list[tuple[float, float, float]]) -> None:
    pieces = curve(parts)
    found = sum(1 for _ in rescaled(pieces, Even().epochs(random.Random())))
    assert found == pytest.approx(RateFunction(pieces).expected(0.0, pieces[-1].end), abs=0.5 + 1e-6)


def test_a_rate_function_answers_at_any_time() -> None:
    function = RateFunction([Piece(0.0, 2.0, 1.0, 3.0), Piece(2.0, 4.0, 10.0, 10.0)])
    assert [function.at(at) for at in (-1.0, 0.0, 1.0, 2.0, 3.9, 4.0)] == [0.0, 1.0, 2.0, 10.0, 10.0, 0.0]
    assert (function.low, function.high, function.seconds) == (1.0, 10.0, 4.0)
    assert function.expected(0.0, 4.0) == 24.0
    assert function.expected(1.0, 3.0) == pytest.approx(12.5)
    assert function.expected(-5.0, 99.0) == 24.0
    assert function.expected(3.0, 1.0) == 0.0


@given(CURVES, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_part_of_a_curve_has_the_same_area_as_the_curve_there(
    parts: list[tuple[float, float, float]], a: float, b: float
) -> None:
    pieces = curve(parts)
    start, end = sorted((a * pieces[-1].end, b * pieces[-1].end))
    part = list(cut(pieces, start, end))
    if part:
        assert RateFunction(part).expected(0.0, end - start) == pytest.approx(
            RateFunction(pieces).expected(start, end), abs=1e-6
        )
        assert part[0].start == 0.0
        assert part[-1].end == pytest.approx(end - start)
