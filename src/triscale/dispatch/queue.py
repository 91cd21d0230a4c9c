"""The one queue of a stage: earliest deadline first, ties in the order of the requests' arrival.

Two sorted lists side by side rather than a heap: deadlines come nearly in order, so that a push is an append; all
items of a request stand together, so that they enter, leave and are withdrawn as one slice; and the first item with
enough slack is found by bisection. The queue holds exactly the live items that wait, never one of an ended request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import inf

from triscale.dispatch.work import Item, RequestKey

__all__ = ["DeadlineQueue"]

_FRONT = 32
"""Entries taken from the front before the lists are shifted: this many ended items at most are kept alive."""


class DeadlineQueue:
    """Items in the order of their requests' keys; positions count from the head, which is 0."""

    __slots__ = ("_items", "_keys", "_start", "due")

    def __init__(self) -> None:
        self.due = inf
        """The earliest deadline; infinity when nothing waits. Kept, because it is asked for all the time."""
        self._keys: list[RequestKey] = []
        self._items: list[Item] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._keys) - self._start

    def push(self, items: list[Item], key: RequestKey) -> None:
        """Add items of one request, at least one, behind those that it already has here."""
        keys = self._keys
        if key[0] < self.due:
            self.due = key[0]
        if not keys or key >= keys[-1]:
            keys.extend([key] * len(items))
            self._items.extend(items)
            return
        at = bisect_right(keys, key, self._start)
        keys[at:at] = [key] * len(items)
        self._items[at:at] = items

    def push_one(self, item: Item, key: RequestKey) -> None:
        """The same for a single item: the usual case, and twice as fast."""
        keys = self._keys
        if key[0] < self.due:
            self.due = key[0]
        if not keys or key >= keys[-1]:
            keys.append(key)
            self._items.append(item)
            return
        at = bisect_right(keys, key, self._start)
        keys.insert(at, key)
        self._items.insert(at, item)

    def head_key(self) -> RequestKey | None:
        """The earliest deadline, and whose it is; None when nothing waits."""
        keys = self._keys
        return keys[self._start] if keys else None

    def last_deadline(self) -> float:
        """The latest deadline; IndexError when nothing waits."""
        return self._keys[-1][0]

    def at(self, position: int) -> Item:
        """The item at a position; IndexError past the end."""
        return self._items[self._start + position]

    def slice(self, position: int, count: int) -> list[Item]:
        """At most `count` items from a position on, without taking them."""
        at = self._start + position
        return self._items[at : at + count]

    def position(self, deadline: float) -> int:
        """The position of the first item whose deadline is not before this one; the length when there is none."""
        return bisect_left(self._keys, (deadline, 0), self._start) - self._start

    def take(self, position: int, count: int) -> None:
        """Remove `count` items from a position on."""
        lo = self._start + position
        hi = lo + count
        if position:
            self._delete(lo, hi)
            return
        if hi == len(self._keys):
            self._keys.clear()
            self._items.clear()
            self._start = 0
            self.due = inf
            return
        if hi > _FRONT:
            del self._keys[:hi]
            del self._items[:hi]
            hi = 0
        self._start = hi
        self.due = self._keys[hi][0]

    def withdraw(self, key: RequestKey) -> None:
        """Remove all items of one request."""
        lo = bisect_left(self._keys, key, self._start)
        hi = bisect_right(self._keys, key, lo)
        if lo == self._start:
            if hi > lo:
                self.take(0, hi - lo)
        elif hi > lo:
            self._delete(lo, hi)

    def _delete(self, lo: int, hi: int) -> None:
        del self._keys[lo:hi]
        del self._items[lo:hi]
