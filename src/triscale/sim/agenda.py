"""What is to happen, in the order of time; at one instant, in the order in which it was put down."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import TypeAlias

from triscale.dispatch.work import Batch

__all__ = ["Action", "Agenda", "Event"]

Action: TypeAlias = Callable[[float], None]
"""Is called with the time."""

Event: TypeAlias = "tuple[float, int, Batch | None, Action | None]"
"""(when, serial number, the batch that is done, or what else is to be done)."""


class Agenda:
    """The event heap. The loop takes events off itself, and puts batches on: that is its hottest path."""

    __slots__ = ("events", "serial")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.serial = 0
        """The last number used: ties are never settled by comparing what is to happen."""

    def at(self, when: float, action: Action) -> None:
        """Have something done."""
        self.serial += 1
        heappush(self.events, (when, self.serial, None, action))
