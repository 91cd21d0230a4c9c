"""A simulation in the terminal: what happened in words, the figures, and how it went over time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from triscale.cli.live import OUTCOME_STYLES
from triscale.cli.text_plot import Series, plot_lines
from triscale.core.figures import counted
from triscale.observe.simulation_document import SimulationView
from triscale.observe.simulation_plots import edges_of
from triscale.observe.simulation_wording import actions_text, cause_text, duration, simulation_headline
from triscale.observe.wording import count, milliseconds, percent
from triscale.sim.result import Result

__all__ = ["print_plot", "print_simulation"]

_CAUSES = 8
"""Most causes that are printed; the report has all."""
_WIDEST = 100
_HEIGHT = 8
_STRETCHES = 40


def print_simulation(console: Console, run: Result) -> None:
    """Print one run for people."""
    console.print(Text(simulation_headline(run), "bold"))
    console.print()
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _figures(run):
        grid.add_row(Text(name, "bright_black"), text)
    console.print(grid)
    print_plot(console, _load(run), "requests/s")
    if max(run.series.cores, default=0.0) - min(run.series.cores, default=0.0) > 0.5:
        middles, cores = _over_time(run, run.series.cores)
        print_plot(console, [Series("cores held", middles, cores)], "cores held")


def _load(run: SimulationView) -> list[Series]:
    """Arrivals, and beside them what was answered in time where that is less."""
    series, window = run.series, run.series.window_s
    middles, arrivals = _over_time(run, series.arrivals)
    found = [Series("arrivals", middles, [value / window for value in arrivals])]
    if run.violations.total:
        _, answered = _over_time(run, series.answered)
        found.insert(0, Series("answered in time", middles, [value / window for value in answered]))
    return found


def _over_time(run: SimulationView, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The middles of as many stretches as a terminal can show, and the mean of the values in each."""
    edges = edges_of(run)
    together = max(1, math.ceil(len(values) / _STRETCHES))
    starts = range(0, len(values), together)
    parts = [values[start : start + together] for start in starts]
    middles = [(edges[start] + edges[min(start + together, len(values))]) / 2.0 for start in starts]
    return middles, [sum(part) / len(part) for part in parts]


def print_plot(console: Console, series: Sequence[Series], label: str) -> None:
    """A plot over time; nothing where there is nothing to draw."""
    if not series or len(series[0].xs) < 2:
        return
    width = min(_WIDEST, max(24, shutil.get_terminal_size((80, 24)).columns))
    console.print()
    for line in plot_lines(series, width=width, height=_HEIGHT, x_label="seconds", y_label=label, y_min=0.0):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _figures(run: Result) -> Iterator[tuple[str, Text]]:
    missed, latency = run.violations, run.latency_ms
    yield "attainment", Text(f"{percent(run.attainment)} of {counted(run.requests, 'request')}")
    share = f" ({percent(missed.total / run.requests)})" if run.requests and missed.total else ""
    yield "violations", Text(f"{count(missed.total)}{share}")
    for cause in run.causes[:_CAUSES]:
        style = OUTCOME_STYLES.get(cause.outcome, "")
        why = cause_text(cause) if cause.outcome != "late" else "answered after the objective"
        yield "", Text.assemble((f"{count(cause.requests):>7} {cause.outcome:<8}", style), (f" {why}", "bright_black"))
    if len(run.causes) > _CAUSES:
        yield "", Text(f"        and {len(run.causes) - _CAUSES} rarer causes, which the report lists", "bright_black")
    yield "accuracy", Text(percent(run.accuracy))
    yield "cores", Text(f"{counted(run.core_seconds, 'core-second')}, {run.mean_cores:,.1f} cores on average")
    quantiles = (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99), ("p99.9", latency.p99_9))
    shown = "   ".join(f"{name} {milliseconds(value)}" for name, value in quantiles)
    yield "latency", Text(shown)
    yield "actions", Text(actions_text(run.actions))
    speed = f", {count(run.simulated_s / run.wall_s)} times as fast" if run.wall_s > 0.0 else ""
    yield "simulated", Text(f"{duration(run.simulated_s)}, {counted(run.items, 'item')} in {run.wall_s:.1f} s{speed}")
