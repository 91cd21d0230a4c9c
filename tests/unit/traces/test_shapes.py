"""Every shape has the rates it is described by, without gaps, and refuses what is none."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from triscale.errors import ConfigError
from triscale.traces.curve import RateFunction
from triscale.traces.published import AzureDay, ThemisSlice
from triscale.traces.shapes import Constant, Diurnal, Levels, Mmpp, Ramp, Shape, Spike, Staircase

SHAPES: list[Shape] = [
    Constant(5.0, 7.5),
    Ramp(10.0, 500.0, 30.0),
    Levels((1.0, 0.0, 3.0), 2.5),
    Staircase(20.0, 120.0, 30.0, 4.0),
    Spike(20.0, 120.0, 10.0, 5.0, 30.0),
    Spike(20.0, 120.0, 0.0, 30.0, 30.0),
    Diurnal(50.0, 425.0, 333.0, 100.0),
    Mmpp((5.0, 50.0, 500.0), (3.0, 2.0, 1.0), 100.0, seed=4),
    ThemisSlice(),
    AzureDay(seconds=100.0),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_pieces_cover_the_whole_length_the_same_way_each_time(shape: Shape) -> None:
    pieces = list(shape.pieces())
    assert pieces == list(shape.pieces())
    assert (pieces[0].start, pieces[-1].end) == (0.0, shape.seconds)
    assert all(a.end == b.start for a, b in itertools.pairwise(pieces))
    assert all(piece.start < piece.end and min(piece.first, piece.last) >= 0.0 for piece in pieces)


def rates(shape: Shape, *times: float) -> list[float]:
    function = RateFunction(shape.pieces())
    return [function.at(at) for at in times]


def test_rates_over_time() -> None:
    assert rates(Constant(5.0, 10.0), 0.0, 9.9) == [5.0, 5.0]
    assert rates(Ramp(10.0, 50.0, 4.0), 0.0, 1.0, 3.0) == [10.0, 20.0, 40.0]
    assert rates(Levels((1.0, 3.0), 2.0), 1.9, 2.0) == [1.0, 3.0]
    assert rates(Spike(20.0, 120.0, 10.0, 5.0, 30.0), 9.9, 10.0, 14.9, 15.0) == [20.0, 120.0, 120.0, 20.0]
    assert rates(Diurnal(50.0, 450.0, 200.0, 100.0), 0.0, 25.0, 50.0, 150.0) == pytest.approx([50, 250, 450, 450])


def test_a_sinusoid_is_off_by_less_than_it_says() -> None:
    shape = Diurnal(0.0, 1.0, 100.0)
    function = RateFunction(shape.pieces())
    times = [index * 0.0137 for index in range(7299)]
    assert max(abs(function.at(at) - (1.0 - math.cos(2.0 * math.pi * at / 100.0)) / 2.0) for at in times) < 2e-5


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((20.0, 60.0), [20, 40, 60]), ((60.0, 20.0), [60, 40, 20]), ((0.0, 50.0), [0, 20, 40, 50]), ((5.0, 5.0), [5])],
)
def test_a_staircase_includes_both_ends_up_and_down(ends: tuple[float, float], expected: list[float]) -> None:
    assert Staircase(*ends, step=20.0).rates == expected


def test_time_in_the_states_of_an_mmpp_follows_their_dwell_times() -> None:
    shape = Mmpp((0.0, 1.0), (30.0, 10.0), 200_000.0, seed=2)
    pieces = list(shape.pieces())
    busy = [piece.end - piece.start for piece in pieces if piece.first == 1.0]
    assert sum(busy) / shape.seconds == pytest.approx(0.25, rel=0.05)
    assert statistics.mean(busy) == pytest.approx(10.0, rel=0.05)
    assert statistics.stdev(busy) == pytest.approx(10.0, rel=0.05)
    assert list(Mmpp((0.0, 1.0), (30.0, 10.0), 500.0, seed=2).pieces()) != list(
        Mmpp((0.0, 1.0), (30.0, 10.0), 500.0, seed=3).pieces()
    )


def test_an_mmpp_begins_in_a_state_with_the_chance_of_its_share() -> None:
    begins = [next(Mmpp((0.0, 1.0), (3.0, 1.0), 1.0, seed=seed).pieces()).first for seed in range(4000)]
    assert statistics.mean(begins) == pytest.approx(0.25, abs=0.025)


def test_an_mmpp_of_three_states_never_stays_and_visits_all() -> None:
    visits = [piece.first for piece in Mmpp((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), 9000.0).pieces()]
    assert all(a != b for a, b in itertools.pairwise(visits))
    assert {pair: visits.count(pair) / len(visits) for pair in (1.0, 2.0, 3.0)} == pytest.approx(
        {1.0: 1 / 3, 2.0: 1 / 3, 3.0: 1 / 3}, rel=0.1
    )


def test_the_stand_in_for_themis_has_the_published_figures() -> None:
    shape = ThemisSlice()
    levels = [piece.first for piece in shape.pieces()]
    assert len(levels) == 660
    assert statistics.median(levels) == pytest.approx(39.0, rel=0.03)
    assert max(levels) == pytest.approx(62.0, rel=0.04)
    assert sum(levels) == pytest.approx(21_671, rel=0.01)
    raw = [piece.first for piece in ThemisSlice(divider=1.0).pieces()]
    assert statistics.mean(raw[:58]) == pytest.approx(50.0, rel=0.05)
    assert raw[58] == 132.0
    assert statistics.mean(raw[100:340]) == pytest.approx(215.0, rel=0.03)
    assert statistics.mean(raw[540:]) == pytest.approx(48.0, rel=0.05)


def test_the_stand_in_for_a_day_has_exactly_lokis_range() -> None:
    levels = [piece.first for piece in AzureDay().pieces()]
    assert (len(levels), min(levels), max(levels)) == (1440, 50.0, 425.0)
    night, noon = statistics.mean(levels[:100]), statistics.mean(levels[600:800])
    assert night < 120.0
    assert noon > 330.0
    assert levels != [piece.first for piece in AzureDay(seed=1).pieces()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1.0), "rate is -1.0, but a rate is a finite number of requests/s, 0 or more"),
        (lambda: Constant(math.nan), "rate is nan"),
        (lambda: Constant(1.0, 0.0), "seconds is 0.0, but it is a finite number of seconds above 0"),
        (lambda: Ramp(1.0, math.inf), "to is inf"),
        (lambda: Levels(()), "rates is empty"),
        (lambda: Levels((1.0, -2.0)), r"rates\[1\] is -2.0"),
        (lambda: Staircase(1.0, 5.0, 0.0), "step is 0.0, but the height of a step .* to go down"),
        (lambda: Staircase(1.0, 5.0, 1e-9), "more than 10,000 steps"),
        (lambda: Spike(1.0, 5.0, 58.0, 5.0, 60.0), "the peak is from 58 s to 63 s, but it lies within the 60 s"),
        (lambda: Spike(1.0, 5.0, math.nan), "the peak is from nan s"),
        (lambda: Diurnal(5.0, 1.0), "low is 5 and high is 1, but low is at most high"),
        (lambda: Diurnal(1.0, 5.0, period=0.0), "period is 0.0"),
        (lambda: Mmpp((1.0, 2.0), (1.0,)), "there are 2 rates and 1 dwell times"),
        (lambda: Mmpp((1.0,), (1.0,)), "two or more states"),
        (lambda: Mmpp((1.0, 2.0), (1.0, 1e-9)), r"dwell\[1\] is 1e-09, but a state lasts at least 0.001 s"),
        (lambda: ThemisSlice(divider=0.0), "divider is 0.0"),
        (lambda: AzureDay(seconds=10.5), "seconds is 10.5, but there is one level per second"),
        (lambda: AzureDay(seconds=math.nan), "seconds is nan"),
        (lambda: AzureDay(noise=2.0), "noise is 2.0"),
        (lambda: AzureDay(low=9.0, high=1.0), "low is at most high"),
    ],
)
def test_what_is_no_shape_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()
