"""Plans over a range of demands, in the terminal: a table, and what gives way as the load grows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from rich.console import Console

from triscale.cli.plan_text import accuracy_text, plan_table
from triscale.cli.text_plot import Series, Span, plot_lines
from triscale.core.figures import count, percent
from triscale.core.plan import Plan

__all__ = ["demands_of", "phases_of", "print_sweep"]

_NARROWEST, _WIDEST = 40, 100
"""Characters of a plot, whatever the terminal's width."""
_Y_WIDTH = 5


def demands_of(low: float, high: float, steps: int) -> list[float]:
    """So many demands from the lowest to the highest, evenly spaced."""
    step = (high - low) / (steps - 1)
    return [low + step * index for index in range(steps)]


def phases_of(plans: Sequence[Plan]) -> list[Span]:
    """The stretches of demand with one mode each. A mode ends halfway between the last plan of it and the next."""
    runs = [(mode, [plan.demand for plan in group]) for mode, group in groupby(plans, key=lambda plan: plan.mode)]
    borders = [(before[-1] + after[0]) / 2.0 for (_, before), (_, after) in pairwise(runs)]
    edges = [plans[0].demand, *borders, plans[-1].demand]
    return [Span(mode, start, stop) for (mode, _), (start, stop) in zip(runs, pairwise(edges), strict=True)]


def print_sweep(plans: Sequence[Plan]) -> None:
    """Print the plans of rising demands."""
    table = plan_table("", "requests/s", "mode", "cores", "accuracy", "served")
    for each in plans:
        served = percent(each.served_fraction)
        table.add_row(count(each.demand), each.mode, count(each.cores), accuracy_text(each), served)
    console = Console()
    console.print(table)
    if not any(each.served_fraction for each in plans):
        console.print(f"\n{plans[-1].reason}", highlight=False, markup=False, soft_wrap=True)
        return
    for line in _plots(plans, min(_WIDEST, console.width), plain=not console.encoding.startswith("utf")):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    *earlier, last = phases_of(plans)
    ends = [f"{span.name} up to {count(span.stop)} requests/s" for span in earlier]
    console.print("\n" + ", ".join([*ends, f"{last.name} {'beyond' if ends else 'throughout'}"]), highlight=False)


def _plots(plans: Sequence[Plan], width: int, *, plain: bool) -> list[str]:
    demands = [plan.demand for plan in plans]
    spans = phases_of(plans)

    def plot(name: str, values: Sequence[float], height: int, *, low: float | None, high: float | None) -> list[str]:
        series = [Series(name, demands, values)]
        return plot_lines(
            series,
            width=max(_NARROWEST, width),
            height=height,
            y_label=name,
            y_min=low,
            y_max=high,
            y_width=_Y_WIDTH,
            spans=spans,
            plain=plain,
        )

    lines = [
        "",
        *plot("accuracy, %, over requests/s", [plan.accuracy * 100 for plan in plans], 8, low=None, high=100.0),
    ]
    if any(plan.served_fraction < 1.0 for plan in plans):
        lines += ["", *plot("served, %", [plan.served_fraction * 100 for plan in plans], 6, low=0.0, high=100.0)]
    return [*lines, "", *plot("cores", [plan.cores for plan in plans], 6, low=0.0, high=None)]
