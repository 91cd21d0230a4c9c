"""Counts of arrivals per tenth of a second and per second."""

from __future__ import annotations

from triscale.core.snapshot import RECENT_S
from triscale.observe.window import ArrivalWindow


def test_only_whole_windows_are_told() -> None:
    window = ArrivalWindow(10.0)
    window.arrived(10.0)
    window.arrived(10.05, 2)
    assert window.recent(10.09) == ()
    assert window.recent(10.1) == (3,)
    assert window.per_second(10.99) == ()
    window.arrived(10.95)
    assert window.per_second(11.0) == (4,)


def test_an_arrival_at_a_boundary_belongs_to_what_begins() -> None:
    window = ArrivalWindow(0.0)
    for tenth in range(10):
        window.arrived(tenth * RECENT_S)
    window.arrived(1.0)
    assert window.recent(1.1) == (*([1] * 10), 1)
    assert window.per_second(1.1) == (10,)


def test_boundaries_do_not_drift_over_a_day() -> None:
    """A tenth is no binary fraction: adding it up would lose a window long before."""
    window = ArrivalWindow(0.0)
    day = 86_400
    for second in range(day - 3, day):
        for tenth in range(10):
            window.arrived(second + tenth * RECENT_S)
    assert window.per_second(float(day))[-3:] == (10, 10, 10)
    assert window.recent(float(day))[-10:] == (1,) * 10


def test_memory_is_two_minutes_and_two_seconds() -> None:
    window = ArrivalWindow(0.0)
    for second in range(500):
        window.arrived(second + 0.5)
    assert window.per_second(500.0) == (1,) * 120
    assert len(window.recent(500.0)) == 20


def test_a_long_lull_is_a_lull() -> None:
    window = ArrivalWindow(0.0)
    window.arrived(0.5, 7)
    window.arrived(10_000.25, 3)
    assert window.per_second(10_001.0) == (*([0] * 119), 3)
    assert sum(window.recent(10_001.0)) == 3


def test_reading_does_not_count_twice() -> None:
    window = ArrivalWindow(0.0)
    window.arrived(0.31)
    assert window.recent(0.4) == window.recent(0.4) == (0, 0, 0, 1)
    window.arrived(0.45)
    assert window.recent(0.5) == (0, 0, 0, 1, 1)
