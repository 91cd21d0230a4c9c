"""Each process has the mean, the spread and the stationarity that its documentation promises."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from triscale.errors import ConfigError
from triscale.traces.processes import Even, Gamma, Poisson, Process


def epochs(process: Process, count: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(process.epochs(random.Random(seed)), count))


def test_even_moments_stand_in_the_middle_of_their_gaps() -> None:
    assert epochs(Even(), 4) == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("process", "cv2"), [(Poisson(), 1.0), (Gamma(0.25), 0.25), (Gamma(1.0), 1.0), (Gamma(4.0), 4.0)]
)
def test_gaps_have_mean_one_and_the_chosen_spread(process: Process, cv2: float) -> None:
    count = 40_000
    gaps = [b - a for a, b in itertools.pairwise(epochs(process, count + 1))]
    assert statistics.mean(gaps) == pytest.approx(1.0, abs=3.3 * math.sqrt(cv2 / count))
    assert statistics.variance(gaps) == pytest.approx(cv2, rel=0.08)


@pytest.mark.parametrize("cv2", [0.25, 4.0, 9.0])
def test_a_gamma_process_has_no_more_moments_at_its_start_than_later(cv2: float) -> None:
    # Begun with a full gap instead of what is left of one, the mean would be 2 + (cv2 - 1) / 2 or so.
    runs, length = 6000, 2.0
    counts = [
        sum(1 for _ in itertools.takewhile(lambda at: at < length, Gamma(cv2).epochs(random.Random(seed))))
        for seed in range(runs)
    ]
    assert statistics.mean(counts) == pytest.approx(length, abs=3.3 * statistics.stdev(counts) / math.sqrt(runs))


@pytest.mark.parametrize("cv2", [0.0, -1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(cv2: float) -> None:
    with pytest.raises(ConfigError, match=rf"cv2 is {cv2}, but .* a finite number above 0, such as 4"):
        Gamma(cv2)
