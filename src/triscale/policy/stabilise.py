"""Holding back decisions that might have to be taken back: stable ticks, sliding extremes, delays, limits on growth.

Each is a few numbers of state and no clock: `now` comes in, in seconds, and must not go back.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Delay", "GrowthLimit", "SlidingMaximum", "SlidingMinimum", "StableTicks"]

_SAME_S = 1e-6
"""Instants that differ by less are the same: clocks that add up ticks drift by less."""


class StableTicks:
    """Says when so many ticks in a row were stable; any that is not starts the count anew.

    Themis's rule (arXiv 2407.14843, as the authors' code has it): a tick that is stable counts, up to `needed`; from
    then on every further stable tick may act.
    """

    __slots__ = ("_count", "_needed")

    def __init__(self, needed: int) -> None:
        self._needed = needed
        self._count = 0

    def tick(self, *, stable: bool) -> bool:
        """Whether this tick may act."""
        if not stable:
            self._count = 0
            return False
        if self._count < self._needed:
            self._count += 1
            return False
        return True


class SlidingMaximum:
    """The largest value of the last `window_s` seconds, both ends included; amortised O(1).

    Kubernetes stabilises scale-in with it: the highest recommendation of the last 300 s is followed.
    """

    __slots__ = ("_values", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        """May be changed between calls."""
        self._values: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> float:
        """Note a value; returns the largest of the window."""
        values = self._values
        while values and values[-1][1] <= value:
            values.pop()
        values.append((now, value))
        while values[0][0] < now - self.window_s - _SAME_S:
            values.popleft()
        return values[0][1]


class SlidingMinimum:
    """The smallest value of the last `window_s` seconds, likewise: what has been there all the time."""

    __slots__ = ("_negated",)

    def __init__(self) -> None:
        self._negated = SlidingMaximum(0.0)

    def add(self, now: float, value: float, window_s: float) -> float:
        """Note a value; returns the smallest of the window, which is `window_s` long from now on."""
        self._negated.window_s = window_s
        return -self._negated.add(now, -value)


class Delay:
    """A change is made when one in its direction has been wanted all the time for `up_s` or `down_s` seconds.

    What is then wanted is done, however the wish varied meanwhile (Ray Serve's rule, on the clock rather than in
    turns of its loop: ray-project/ray#62331).
    """

    __slots__ = ("_direction", "_down_s", "_since", "_up_s")

    def __init__(self, up_s: float, down_s: float) -> None:
        self._up_s = up_s
        self._down_s = down_s
        self._direction = 0
        self._since = 0.0

    def decide(self, now: float, current: int, wanted: int) -> int:
        """What to have now: `wanted` or still `current`."""
        direction = (wanted > current) - (wanted < current)
        if direction == 0:
            self._direction = 0
            return current
        if direction != self._direction:
            self._direction, self._since = direction, now
        if now - self._since + _SAME_S < (self._up_s if direction > 0 else self._down_s):
            return current
        self._direction = 0
        return wanted


class GrowthLimit:
    """In any `period_s` seconds, grow by at most the larger of `by` and `times` what there was when they began.

    Kubernetes's default for scale-out: 4 pods or 100 % in 15 s, whichever is more.
    """

    __slots__ = ("_added", "_by", "_period_s", "_times")

    def __init__(self, by: int = 4, times: float = 1.0, period_s: float = 15.0) -> None:
        self._by = by
        self._times = times
        self._period_s = period_s
        self._added: deque[tuple[float, int]] = deque()

    def limit(self, now: float, current: int, wanted: int) -> int:
        """As much of `wanted` as may be had now; growth is noted as done."""
        added = self._added
        while added and added[0][0] <= now - self._period_s + _SAME_S:
            added.popleft()
        if wanted <= current:
            return wanted
        began = max(0, current - sum(count for _, count in added))
        most = max(began + self._by, int(began * (1.0 + self._times)))
        granted = max(current, min(wanted, most))
        if granted > current:
            added.append((now, granted - current))
        return granted
