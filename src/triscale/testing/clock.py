"""A clock that moves only when told to: a `triscale.clock.Clock` for tests of whatever takes one."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Starts at `now` seconds and never goes back."""

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """Seconds since the clock's epoch."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let so many seconds pass; returns the new time. ValueError when negative."""
        if seconds < 0.0:
            raise ValueError(f"a clock never goes back, but was asked to by {-seconds} s")
        self._now += seconds
        return self._now

    def move_to(self, at: float) -> float:
        """Let time pass until `at`; returns it. ValueError when that is in the past."""
        if at < self._now:
            raise ValueError(f"a clock never goes back, but it is {self._now} s and was asked to be {at} s")
        self._now = at
        return self._now
