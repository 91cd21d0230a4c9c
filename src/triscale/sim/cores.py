"""Who holds how many cores, integrated exactly over time, per window and in all.

Cores are kept apart by why they are held: those there at the start, those that replicas grew by in place (*up*), and
those that came with replicas launched later (*out*).
"""

from __future__ import annotations

import enum

__all__ = ["CoreLedger", "Kind"]


class Kind(enum.IntEnum):
    """Why cores are held."""

    START = 0
    UP = 1
    OUT = 2


class CoreLedger:
    """Cores held per owner (a stage; one more owner stands for cores that lanes share) and kind.

    Counts from `start` to `end`, in windows; what happens outside is ignored. Time must not go back.
    """

    __slots__ = ("_area", "_begin", "_end", "_held", "_last", "means", "total")

    def __init__(self, owners: int, start: float, end: float) -> None:
        self._held = [0.0] * (owners * len(Kind))
        self._area = [0.0] * len(self._held)
        """Core-seconds of the window so far."""
        self._last = self._begin = start
        self._end = end
        self.means: list[list[float]] = [[] for _ in self._held]
        """Per owner and kind (owner * 3 + kind): mean cores of each window that is closed."""
        self.total = 0.0
        """Core-seconds of the windows that are closed."""

    def change(self, owner: int, kind: Kind, cores: float, now: float) -> None:
        """So many cores more are held from now on; negative for fewer."""
        if cores:
            self._advance(now)
            self._held[owner * len(Kind) + kind] += cores

    def close_window(self, now: float) -> None:
        """A window ends."""
        self._advance(now)
        seconds = self._last - self._begin
        for means, area in zip(self.means, self._area, strict=True):
            means.append(area / seconds if seconds > 0.0 else 0.0)
        self.total += sum(self._area)
        self._area = [0.0] * len(self._held)
        self._begin = self._last

    @property
    def held(self) -> float:
        """Cores held now."""
        return sum(self._held)

    def _advance(self, now: float) -> None:
        seconds = min(now, self._end) - self._last
        if seconds > 0.0:
            self._last += seconds
            self._area = [area + held * seconds for area, held in zip(self._area, self._held, strict=True)]
