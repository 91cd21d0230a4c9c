"""A comparison in the terminal: the figures side by side, and who is better than whom."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from triscale.core.figures import rounded
from triscale.observe.simulation_comparison import Standing, remarks
from triscale.observe.simulation_comparison_report import comparison_headline
from triscale.observe.simulation_wording import figure_text
from triscale.observe.wording import NOTHING

__all__ = ["print_comparison"]

_COLUMNS = ("attainment %", "violations", "vs first", "accuracy %", "core-s", "p99 ms")
_WIDTH = 120


def print_comparison(console: Console, found: Sequence[Standing]) -> None:
    """Print the policies for people, in the order in which they were named."""
    console.print(Text(comparison_headline(found), "bold"))
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for each in found:
        table.add_row(
            each.policy,
            figure_text(each.attainment, 2, 100.0),
            figure_text(each.violations),
            NOTHING if each.relative is None else rounded(each.relative, 2),
            figure_text(each.accuracy, 2, 100.0),
            figure_text(each.core_seconds),
            figure_text(each.p99_ms),
        )
    # A narrow terminal wraps the lines; figures are not cut.
    console.print(table, width=max(console.width, _WIDTH), crop=False, soft_wrap=True)
    seeds = {run.seed for each in found for run in each.runs}
    if len(seeds) > 1:
        note = f"means of {len(seeds)} seeds, ± half of a 95 % confidence interval"
        console.print(Text(note, "bright_black"))
    lines = remarks(found)
    if lines:
        console.print()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
