"""Stabilisers hold back as long as they say, and no longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.policy.stabilise import Delay, GrowthLimit, SlidingMaximum, SlidingMinimum, StableTicks


def test_the_ticks_needed_only_count_and_every_further_stable_one_acts() -> None:
    ticks = StableTicks(3)
    assert [ticks.tick(stable=True) for _ in range(5)] == [False, False, False, True, True]


def test_a_tick_that_is_not_stable_starts_the_count_anew() -> None:
    ticks = StableTicks(2)
    assert [ticks.tick(stable=stable) for stable in (True, True, False, True, True, True)] == [False] * 5 + [True]


def test_no_ticks_needed_means_at_once() -> None:
    assert StableTicks(0).tick(stable=True)
    assert not StableTicks(0).tick(stable=False)


def test_a_value_counts_until_the_window_has_passed_and_then_no_more() -> None:
    window = SlidingMaximum(10.0)
    assert window.add(0.0, 7.0) == 7.0
    assert window.add(10.0, 3.0) == 7.0
    assert window.add(10.5, 2.0) == 3.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60), st.integers(0, 12))
def test_the_sliding_maximum_is_that_of_the_values_in_the_window(steps: list[tuple[int, int]], window_s: int) -> None:
    window = SlidingMaximum(float(window_s))
    noted: list[tuple[int, int]] = []
    now = 0
    for gap, value in steps:
        now += gap
        noted.append((now, value))
        expected = max(v for at, v in noted if at >= now - window_s)
        assert window.add(float(now), float(value)) == expected


def test_the_sliding_minimum_is_what_has_been_there_all_the_time() -> None:
    window = SlidingMinimum()
    assert [window.add(now, value, 1.0) for now, value in ((0.0, 4.0), (0.5, 9.0), (1.0, 9.0), (1.1, 9.0))] == [
        4.0,
        4.0,
        4.0,
        9.0,
    ]
    assert window.add(1.2, 3.0, 1.0) == 3.0, "less is less at once"
    assert window.add(1.3, 9.0, 0.05) == 9.0, "a shorter window forgets sooner"


def test_a_change_is_made_when_it_was_wanted_for_the_whole_delay() -> None:
    delay = Delay(up_s=30.0, down_s=600.0)
    assert delay.decide(0.0, 2, 5) == 2
    assert delay.decide(29.0, 2, 9) == 2
    assert delay.decide(30.0, 2, 6) == 6, "what is wanted at the end counts"
    assert delay.decide(31.0, 6, 8) == 6, "and the next change waits again"


@pytest.mark.parametrize("between", [2, 1])
def test_a_delay_begins_anew_when_nothing_or_the_opposite_was_wanted_in_between(between: int) -> None:
    delay = Delay(up_s=30.0, down_s=600.0)
    delay.decide(0.0, 2, 5)
    delay.decide(20.0, 2, between)
    assert delay.decide(30.0, 2, 5) == 2
    assert delay.decide(60.0, 2, 5) == 5


def test_a_delay_is_not_prolonged_by_the_rounding_of_its_clock() -> None:
    delay = Delay(up_s=0.3, down_s=0.3)
    delay.decide(0.1, 1, 2)
    assert delay.decide(0.4 - 1e-12, 1, 2) == 2


def test_growth_is_limited_to_four_or_a_doubling_in_fifteen_seconds() -> None:
    limit = GrowthLimit()
    assert limit.limit(0.0, 1, 50) == 5
    assert limit.limit(5.0, 5, 50) == 5, "the period began with one"
    assert limit.limit(15.0, 5, 50) == 10
    assert limit.limit(30.0, 10, 50) == 20


def test_a_limit_on_growth_lets_shrinking_pass() -> None:
    assert GrowthLimit().limit(0.0, 10, 3) == 3
