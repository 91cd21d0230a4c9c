from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import ConfigError
from triscale.traces.arrivals import Even, Gamma, Phase, Poisson, arrivals, check_phases, expected_arrivals


def rng(seed: int = 1) -> random.Random:
    return random.Random(seed)


def test_even_arrivals_stand_half_a_gap_from_the_edges() -> None:
    assert list(arrivals([Phase("a", 4.0, 1.0, Even())], rng())) == [(0.125, 0), (0.375, 0), (0.625, 0), (0.875, 0)]


def test_even_arrivals_do_not_drift_over_a_long_phase() -> None:
    offsets = [at for at, _ in arrivals([Phase("a", 10.0, 10_000.0, Even())], rng())]
    assert len(offsets) == 100_000
    assert offsets[-1] == pytest.approx(9_999.95, abs=1e-9)


def test_poisson_gaps_have_the_mean_and_the_spread_of_the_exponential() -> None:
    offsets = [at for at, _ in arrivals([Phase("a", 50.0, 2000.0)], rng())]
    gaps = [later - earlier for earlier, later in itertools.pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1 / 50, rel=0.02)
    assert deviation / mean == pytest.approx(1.0, rel=0.02)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    phases = [Phase("steady", 30.0, 2.0), Phase("burst", 90.0, 1.0)]
    assert list(arrivals(phases, rng(7))) == list(arrivals(phases, rng(7)))
    assert list(arrivals(phases, rng(7))) != list(arrivals(phases, rng(8)))


def test_a_rate_of_zero_is_a_pause() -> None:
    phases = [Phase("a", 2.0, 1.0, Even()), Phase("pause", 0.0, 5.0), Phase("b", 2.0, 1.0, Even())]
    assert [at for at, _ in arrivals(phases, rng())] == [0.25, 0.75, 6.25, 6.75]


@given(
    st.lists(
        st.builds(
            Phase,
            st.text(min_size=1, max_size=5),
            st.floats(0.0, 200.0),
            st.floats(0.01, 5.0),
            st.sampled_from([Poisson(), Even(), Gamma(4.0)]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1000),
)
def test_arrivals_ascend_and_stay_within_their_phase(phases: list[Phase], seed: int) -> None:
    starts = [0.0, *itertools.accumulate(phase.seconds for phase in phases)]
    found = list(arrivals(phases, rng(seed)))
    assert found == sorted(found)
    assert all(starts[index] <= at <= starts[index + 1] for at, index in found)


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=rf"phase 'burst': rate_per_s is {rate}, but a rate is a finite number"):
        Phase("burst", rate, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -2.0, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=rf"phase 'burst': seconds is {seconds}, but a phase lasts a finite time"):
        Phase("burst", 1.0, seconds)


def test_all_broken_rules_of_a_phase_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Phase("", -1.0, 0.0)
    assert len(caught.value.problems) == 3


def test_no_phases_and_equal_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="phases is empty"):
        check_phases([])
    with pytest.raises(ConfigError, match="the name 'a' is used 2 times"):
        check_phases([Phase("a", 1.0, 1.0), Phase("a", 2.0, 1.0)])


def test_phases_travel_as_json() -> None:
    phases = (Phase("a", 1.0, 2.0), Phase("b", 3.0, 4.0, Even()), Phase("c", 1.0, 4.0, Gamma(2.0)))
    assert msgspec.json.decode(msgspec.json.encode(phases), type=tuple[Phase, ...]) == phases
    assert expected_arrivals(phases) == 18.0
