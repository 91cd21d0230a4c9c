"""How often a server says the same thing: a model that fails every batch would else fill a disk with its log.

Times are given, so that a test needs no clock. `serve/runner.py` asks; the metrics count everything.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Complaints"]


class Complaints:
    """Lets each subject be said at once, and then again when `every_s` seconds have passed."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._said: dict[Hashable, tuple[float | None, int]] = {}

    def about(self, subject: Hashable, now: float) -> int | None:
        """None: not now. Else how often it was kept back since it was said."""
        said_at, kept_back = self._said.get(subject, (None, 0))
        if said_at is not None and now < said_at + self._every_s:
            self._said[subject] = (said_at, kept_back + 1)
            return None
        self._said[subject] = (now, 0)
        return kept_back
