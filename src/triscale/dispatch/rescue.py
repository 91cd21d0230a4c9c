"""What to do with an item that the plan would make late: recover the lateness, or give the item up.

Recovering is running it on a faster variant that is resident here, or counting on faster ones downstream, or
both; of all ways that are in time the most accurate is taken. An item that is on time is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triscale.dispatch.stage import StageState

__all__ = ["best_in_time"]


def best_in_time(
    stage: StageState, times: Mapping[int, float], onward: Sequence[tuple[float, float]], slack: float
) -> int:
    """The variant with which an item can still be answered within `slack` seconds.

    `times` are the variants to choose from, each with the seconds that it needs here; `onward` are the (time,
    accuracy) options for the rest of the path, fastest first. The choice maximises the accuracy of the whole way,
    then the time saved; -1 when no way is in time.
    """
    best = -1
    best_accuracy = -1.0
    best_time = 0.0
    for v, here in times.items():
        for time, accuracy in reversed(onward):
            total = here + time
            if total > slack:
                continue
            reached = stage.accuracy[v] * accuracy
            if reached > best_accuracy or (reached == best_accuracy and total < best_time):
                best, best_accuracy, best_time = v, reached, total
            break  # the slower options of this variant are too late, the faster ones less accurate
    return best
