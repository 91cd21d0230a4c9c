"""How large a batch must be to be worth a lane, and may be to be in time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Group

__all__ = ["largest", "pace", "quickest"]

_PACE = 0.95
"""Part of the planned items per second of lane that a batch must reach while others wait."""


def pace(stage: StageState, groups: Sequence[Group], variant: int, waiting: int) -> float:
    """Items per second of lane that a batch must reach so as not to waste a lane of `groups`; 0 = any will do.

    The planned `variant` in a batch of those `waiting` sets it. While there is an idle lane for each, none is wasted.
    """
    if waiting <= sum(group.room() for group in groups):
        return 0.0
    size = min(stage.batch[variant], waiting)
    seconds = stage.models[variant].predict(size)
    return _PACE * size / seconds if seconds > 0.0 else 0.0


def quickest(stage: StageState, variant: int, waiting: int, pace: float, together: float) -> float:
    """Seconds in which a lane does `together` items on a variant, in batches that reach the pace; infinity if none do.

    A batch has at most those `waiting`. While it is smaller than `together`, larger ones are done sooner in all.
    """
    size = _smallest(stage, variant, waiting, pace)
    if not size:
        return math.inf
    size = max(size, min(stage.batch[variant], waiting, math.ceil(together)))
    return _seconds(stage, variant, size, together)


def largest(stage: StageState, variant: int, waiting: int, room: float, together: float) -> int:
    """The largest batch of those `waiting` with which a lane does `together` items within `room`; 1 if none is."""
    size = min(stage.batch[variant], waiting)
    while size > 1 and _seconds(stage, variant, size, together) > room:
        size -= 1
    return size


def _seconds(stage: StageState, variant: int, size: int, together: float) -> float:
    return stage.models[variant].predict(size) * max(1.0, together / size)


def _smallest(stage: StageState, variant: int, waiting: int, pace: float) -> int:
    """The smallest batch of those `waiting` that reaches the pace; 0 if none does."""
    if pace <= 0.0:
        return 1
    predict = stage.models[variant].predict
    low, high = 1, min(stage.batch[variant], waiting)
    if high < pace * predict(high):
        return 0
    while low < high:  # the larger a batch, the more it does per second
        middle = (low + high) // 2
        if middle >= pace * predict(middle):
            high = middle
        else:
            low = middle + 1
    return low
