"""Latencies that are learned while serving."""

from __future__ import annotations

import pytest

from triscale.policy.learned import LearnedTimes


def test_nothing_is_predicted_before_anything_was_seen() -> None:
    assert LearnedTimes().predict(8) == 0.0


def test_it_finds_the_mean_and_leaves_room_above_it() -> None:
    times = LearnedTimes()
    for _ in range(200):
        times.observe(1, 0.010)
    assert times.typical(1) == pytest.approx(0.010)
    assert times.predict(1) == pytest.approx(0.013)


def test_sizes_not_seen_follow_the_nearest_one() -> None:
    times = LearnedTimes()
    times.observe(4, 0.040)
    assert times.typical(16) == pytest.approx(0.160)
    assert times.typical(1) == pytest.approx(0.040), "a smaller batch is not known to be faster"
