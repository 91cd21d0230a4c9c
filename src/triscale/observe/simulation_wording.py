"""Simulations in plain words: the same in the terminal and on their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triscale.core.figures import counted, rounded
from triscale.observe.causes import Cause
from triscale.observe.simulation_document import SimulationView
from triscale.observe.simulation_statistics import Interval
from triscale.observe.wording import NOTHING, count, milliseconds, percent, reason_text

__all__ = ["actions_text", "cause_text", "duration", "figure_text", "listed", "simulation_headline"]

_ACTIONS = {
    "plan": ("plan", "plans"),
    "launch": ("launch", "launches"),
    "resize": ("resize", "resizes"),
    "hold": ("load of other variants", "loads of other variants"),
    "drain": ("drain", "drains"),
    "lost": ("replica lost", "replicas lost"),
}
_RARE = ("hold", "lost")
"""Not said where there were none."""


def simulation_headline(run: SimulationView) -> str:
    """What happened, in one sentence."""
    if not run.requests:
        return f"No request was counted under {run.policy}"
    some = counted(run.requests, "request")
    whole = f"All {some}" if run.answered == run.requests > 1 else f"{percent(run.answered / run.requests)} of {some}"
    return f"{whole} answered within {milliseconds(run.slo_ms)} under {run.policy}"


def actions_text(actions: Mapping[str, int]) -> str:
    """How often what was done: `12 plans, 3 launches, no resizes, 1 drain`."""
    parts = []
    for action, (one, many) in _ACTIONS.items():
        number = actions.get(action, 0)
        if number or action not in _RARE:
            parts.append(f"{count(number) if number else 'no'} {one if number == 1 else many}")
    return ", ".join(parts)


def cause_text(cause: Cause) -> str:
    """Where and why, without how often: `at detect: could no longer be answered in time`."""
    place = f"at {cause.stage}" if cause.stage else "at the door" if cause.outcome == "shed" else ""
    why = reason_text(cause.reason) if cause.reason and cause.outcome != "late" else ""
    return ": ".join(part for part in (place, why) if part) or NOTHING


def duration(seconds: float) -> str:
    """90.0 -> `90 s`, 5400.0 -> `90 min`, 86400.0 -> `24 h`."""
    if seconds >= 4 * 3600.0:
        return f"{seconds / 3600.0:.4g} h"
    return f"{seconds / 60.0:.4g} min" if seconds >= 600.0 else f"{seconds:.4g} s"


def figure_text(value: Interval | None, decimals: int = 0, scale: float = 1.0) -> str:
    """`98.91 ±0.12`: a mean and half its confidence interval, both times `scale`, with as many decimals.

    Shares, in which `scale` is 100, read as 100 only where they are all (`core.figures.rounded`).
    """
    if value is None:
        return NOTHING
    mean = rounded(value.mean * scale, decimals, *((scale,) if scale == 100.0 else ()))
    shown = len(mean.partition(".")[2])
    return mean if value.half is None else f"{mean} ±{value.half * scale:,.{shown}f}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
