"""What to do with an item that the plan would make late: recover the lateness, or give the item up.

Recovering is running it on a faster variant that is resident here, or counting on faster ones downstream, or
both; of all ways that are in time the most accurate is taken. An item that is on time is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triscale.dispatch.stage import StageState

__all__ = ["best_in_time"]


def best_in_time(
    stage: StageState,
    sizes: Mapping[int, int],
    onward: Sequence[tuple[float, float]],
    slack: float,
    per_lane: float = 1.0,
) -> int:
    """The variant with which an item can still be answered within `slack` seconds.

    `sizes` are the variants to choose from, each with the batch that the item would be run in; `onward` are the
    (time, accuracy) options for the rest of the path, fastest first; `per_lane` items must be in time, each lane
    running its own one batch after the other. The choice maximises the accuracy of the whole
    way, then the time saved; -1 when no way is in time.
    """
    best = -1
    best_accuracy = -1.0
    best_time = 0.0
    for v, size in sizes.items():
        here = stage.models[v].predict(size) * max(1.0, per_lane / size)
        for time, accuracy in reversed(onward):
            total = here + time
            if total > slack:
                continue
            reached = stage.accuracy[v] * accuracy
            if reached > best_accuracy or (reached == best_accuracy and total < best_time):
                best, best_accuracy, best_time = v, reached, total
            break  # the slower options of this variant are too late, the faster ones less accurate
    return best
