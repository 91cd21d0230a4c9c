"""The only reader of the machine's clock.

Everything that decides gets the time as a number `now`; everything that serves asks a `Clock`. The epoch of
`monotonic()` is arbitrary but common to all processes of one machine (CLOCK_MONOTONIC), so deadlines may be
passed to a child process as they are.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "monotonic", "wall"]


class Clock(Protocol):
    """A source of the present moment."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds on CLOCK_MONOTONIC."""
        return time.monotonic()


def monotonic() -> float:
    """Seconds on CLOCK_MONOTONIC, for code that measures rather than decides."""
    return time.monotonic()


def wall() -> float:
    """Seconds since 1970 (UTC), for people and logs only: it may jump."""
    return time.time()
