"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["sparkline"]

_BARS = " ▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int, ceiling: float, floor: float = 0.0) -> str:
    """The last `width` values as bars between `floor` and `ceiling`, newest at the right; None leaves a gap."""
    span = max(ceiling - floor, 1e-9)
    steps = len(_BARS) - 1
    bars = "".join(
        " " if value is None else _BARS[min(steps, max(0, round(steps * (value - floor) / span)))]
        for value in list(values)[-width:]
    )
    return bars.rjust(width)
