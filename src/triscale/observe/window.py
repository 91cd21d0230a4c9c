"""How many requests reached the door, per tenth of a second and per second: what demand is read from."""

from __future__ import annotations

from collections import deque

from triscale.core.snapshot import RECENT_S

__all__ = ["ArrivalWindow"]

_SECONDS = 120
_RECENT = 20
_PER_SECOND = round(1.0 / RECENT_S)
_HAIR = 1e-6
"""Part of a short window by which it ends early, so that a tick at its very end sees it whole despite rounding."""


class ArrivalWindow:
    """Counts of the last two minutes; memory is constant and one arrival costs one addition.

    Seconds are counted from `start`. Time must not go back.
    """

    __slots__ = ("_bucket", "_count", "_ends", "_recent", "_seconds", "_start")

    def __init__(self, start: float) -> None:
        self._start = start
        self._bucket = 0
        """The number of the short window that is being counted."""
        self._count = 0
        self._ends = start + RECENT_S * (1.0 - _HAIR)
        """When it is over."""
        self._recent: deque[int] = deque(maxlen=max(_RECENT, _PER_SECOND))
        self._seconds: deque[int] = deque(maxlen=_SECONDS)

    def arrived(self, now: float, requests: int = 1) -> None:
        """So many requests reached the door."""
        if now >= self._ends:
            self._advance(now)
        self._count += requests

    def per_second(self, now: float) -> tuple[int, ...]:
        """Counts of the whole seconds until `now`, oldest first; none before the start."""
        self._advance(now)
        return tuple(self._seconds)

    def recent(self, now: float) -> tuple[int, ...]:
        """Counts of the short windows that are over, oldest first."""
        self._advance(now)
        return tuple(self._recent)

    def _advance(self, now: float) -> None:
        current = int((now - self._start) / RECENT_S + _HAIR)
        if current - self._bucket > _SECONDS * _PER_SECOND:
            self._close(self._count)
            self._count = 0
            # A long lull: whole windows of nothing need not be counted one by one.
            self._recent.extend([0] * _RECENT)
            self._seconds.extend([0] * _SECONDS)
            self._bucket = current
        while self._bucket < current:
            self._close(self._count)
            self._count = 0
        self._ends = self._start + RECENT_S * (self._bucket + 1.0 - _HAIR)

    def _close(self, count: int) -> None:
        self._recent.append(count)
        self._bucket += 1
        if self._bucket % _PER_SECOND == 0:
            self._seconds.append(sum(list(self._recent)[-_PER_SECOND:]))
