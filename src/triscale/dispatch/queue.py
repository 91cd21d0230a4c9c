"""The one queue of a stage: earliest deadline first, ties in the order of arrival.

Items whose request has ended stay in the heap until they reach its head or until they outnumber the live ones;
removing them eagerly would cost a search per item.
"""

from __future__ import annotations

import heapq

from triscale.dispatch.work import Item

__all__ = ["DeadlineQueue"]

_COMPACT_ABOVE = 1024


class DeadlineQueue:
    """Items by deadline. `live` (kept by the dispatcher) is what is really waiting; the heap may hold more."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: Item) -> None:
        """Add an item under its request's deadline."""
        self._serial += 1
        heapq.heappush(self._heap, (item.request.deadline, self._serial, item))

    def pop(self) -> Item:
        """Remove and return the head; IndexError when empty."""
        return heapq.heappop(self._heap)[2]

    def head(self) -> Item | None:
        """The live item with the earliest deadline; drops ended ones on the way."""
        heap = self._heap
        while heap:
            item = heap[0][2]
            if item.request.outcome is None:
                return item
            heapq.heappop(heap)
        return None

    def compact(self, live: int) -> None:
        """Rebuild when most of the heap is items of ended requests, so that memory follows what is live."""
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * live:
            self._heap = [entry for entry in self._heap if entry[2].request.outcome is None]
            heapq.heapify(self._heap)

    def items(self) -> list[Item]:
        """The live items, in no particular order."""
        return [entry[2] for entry in self._heap if entry[2].request.outcome is None]
