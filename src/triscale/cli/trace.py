"""`triscale trace`: what a load looks like, before anything is run under it."""

from __future__ import annotations

import itertools
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

import click
import msgspec

from triscale.cli.text_plot import Series, plot_lines
from triscale.cli.trace_options import TraceOptions, build_trace, trace_options
from triscale.cli.trace_plot import write_plot
from triscale.errors import ConfigError
from triscale.observe.wording import count
from triscale.traces.statistics import TraceSummary, count_seconds, rates_of, summarise
from triscale.traces.trace import AnyTrace, Recorded
from triscale.traces.writer import recording, write_counts

__all__ = ["trace"]

_NARROWEST, _WIDEST = 40, 100
"""Characters of the plot."""
_MOST_SECONDS = 4
"""Drawn per character; in longer traces several are drawn as their mean."""


@click.command()
@click.argument("spec", metavar="TRACE")
@trace_options
@click.option("--seed", default=0, show_default=True, help="Of the arrivals; the rate has its own, in TRACE.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the arrivals to a file, to replay.")
@click.option("--out-as", type=click.Choice(["timestamps", "counts"]), default="timestamps", show_default=True)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it into an .svg or .html file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def trace(
    spec: str,
    seed: int,
    out: Path | None,
    out_as: Literal["timestamps", "counts"],
    plot: Path | None,
    as_json: bool,
    **options: Unpack[TraceOptions],
) -> None:
    """Show a load: its rate over time, and arrivals drawn from it.

    TRACE is the path of a file (counts per second, a CSV, timestamps, or the Azure Functions layout) or one of:

    \b
      poisson:rate=50,seconds=60         even:rate=50,seconds=60
      gamma:rate=50,cv2=4,seconds=60     mmpp:rates=50/200,dwell=10/2,seconds=300
      diurnal:low=50,high=425            ramp:from=10,to=500,seconds=300
      staircase:from=20,to=120,step=20   levels:rates=20/80/40,each=10
      spike:base=20,peak=120             file:path=trace.csv,column=rps
      themis                             azure-day

    All but the first three also take process=even or process=gamma,cv2=4 (by default Poisson). All keys of all kinds
    are in docs/traces.md.

    \b
    Example: triscale trace spike:base=20,peak=120,start=10,length=5,seconds=30 --seed 1
    """
    made = build_trace(spec, **options)
    counts = _drawn(made, seed, out if out_as == "timestamps" else None)
    if out is not None and out_as == "counts":
        write_counts(counts, out)
    rates = rates_of(made)
    summary = summarise(made, rates, counts)
    if plot is not None:
        write_plot(plot, made.label, rates, counts, _lines(summary))
    if as_json:
        document = msgspec.to_builtins(summary) | {"series": {"rate": rates, "counts": counts}}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return
    click.echo(f"{click.style(made.label, bold=True)}: {made.seconds:g} s\n")
    click.echo("\n".join(_plotted(rates, counts, made.seconds)) + "\n")
    click.echo("\n".join(_lines(summary)))
    for path in (out, plot):
        if path is not None:
            click.echo(f"written to {path}")


def _drawn(made: AnyTrace, seed: int, out: Path | None) -> list[int]:
    """Arrivals in each second; written to `out` as they are drawn."""
    times = made.arrivals(random.Random(seed))  # noqa: S311 - a seeded experiment, no secret
    if out is not None:
        if isinstance(made, Recorded) and out.exists() and out.samefile(made.path):
            raise ConfigError(f"--out {out}: is the file that the trace is read from; choose another path")
        times = recording(times, out, made.seconds)
    return count_seconds(times, made.seconds)


def _lines(summary: TraceSummary) -> list[str]:
    """The figures in words."""
    rate, counts = summary.rate, summary.counts
    drawn = f"{count(summary.requests)} requests (expected {count(summary.expected)})"
    lines = [
        f"rate      mean {count(rate.mean)}, median {count(rate.median)}, max {count(rate.max)} requests/s",
        f"drawn     {drawn}; per second median {counts.median:.0f}, p99 {counts.p99:.0f}, max {counts.max:.0f}",
    ]
    if summary.dispersion is not None:
        around = summary.dispersion_around_rate
        beside = "" if around is None else f", around the rate {around:.2f}"
        lines.append(f"bursts    index of dispersion at 1 s: {summary.dispersion:.2f}{beside} (Poisson: 1)")
    return lines


def _plotted(rates: Sequence[float], counts: Sequence[int], seconds: float) -> list[str]:
    """Rate and counts over time, in steps; a step of several seconds stands at their mean."""
    width = min(_WIDEST, shutil.get_terminal_size((80, 24)).columns)
    step = max(1, len(rates) // (width * _MOST_SECONDS))
    edges = [*range(0, len(rates), step), seconds]
    xs = [edge for pair in itertools.pairwise(edges) for edge in pair]
    return plot_lines(
        [Series("rate", xs, _steps(rates, step)), Series("drawn", xs, _steps(counts, step))],
        width=max(_NARROWEST, width),
        x_label="seconds",
        y_label="requests/s",
        y_min=0.0,
        plain=not (sys.stdout.encoding or "").lower().startswith("utf"),
    )


def _steps(values: Sequence[float], step: int) -> list[float]:
    """The mean of every `step` values, twice: where the step begins and where it ends."""
    parts = (values[start : start + step] for start in range(0, len(values), step))
    return [mean for part in parts for mean in [sum(part) / len(part)] * 2]
