"""The plots of a run's report: which ones, and what each draws (`report_svg.py` says how)."""

from __future__ import annotations

import itertools
from typing import Any

from triscale.observe.report_demo_plots import plots_of_demo
from triscale.observe.report_document import ReportDocument
from triscale.observe.report_svg import (
    INK,
    OUTCOME_COLOURS,
    STAGE_COLOURS,
    Mark,
    Plot,
    TimeAxis,
    draw,
    require_matplotlib,
)
from triscale.observe.wording import count

__all__ = ["plots_of"]


def plots_of(document: ReportDocument) -> list[Plot]:
    """The plots that the document has data for. ConfigError when matplotlib is not installed."""
    require_matplotlib()
    if document.control is not None:
        return plots_of_demo(document)
    candidates = (_rates, _outcomes, _latency, _cores)
    return [plot for make in candidates if (plot := make(document)) is not None]


def _time(document: ReportDocument) -> TimeAxis:
    """The phases one after the other."""
    starts = itertools.accumulate((phase.seconds for phase in document.phases), initial=0.0)
    marks = [Mark(start, phase.name) for start, phase in zip(starts, document.phases, strict=False)]
    return TimeAxis(sum(phase.seconds for phase in document.phases), marks)


def _rates(document: ReportDocument) -> Plot | None:
    series = document.series
    if not series.sent:
        return None
    capacity = document.plan.capacity_per_s if document.plan else None
    keys = [("--ink", "line", "arrivals"), ("--answered", "area", "answered in time (goodput)")]

    def paint(axes: Any) -> None:
        edges = range(len(series.sent) + 1)
        axes.stairs(series.answered, edges, fill=True, color=INK["--answered"], alpha=0.85, linewidth=0)
        axes.stairs(series.sent, edges, color=INK["--ink"], linewidth=1.4)
        if capacity:
            axes.axhline(capacity, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(*series.sent, capacity or 0.0, 1.0))

    if capacity:
        keys.append(("--slo", "dash", f"the plan's capacity, {count(capacity)}/s"))
    return draw("rates", "Arrivals and goodput, requests per second", keys, paint, _time(document))


def _outcomes(document: ReportDocument) -> Plot | None:
    series = document.series
    seen = [outcome for outcome in OUTCOME_COLOURS if any(getattr(series, outcome))]
    if not seen:
        return None

    def paint(axes: Any) -> None:
        length = len(series.sent)
        base = [0.0] * length
        for outcome in seen:
            top = [below + more for below, more in zip(base, getattr(series, outcome), strict=True)]
            colour = INK[OUTCOME_COLOURS[outcome]]
            axes.stairs(top, range(length + 1), baseline=base, fill=True, color=colour, linewidth=0)
            base = top
        axes.set_ylim(0, 1.12 * max(*base, 1.0))

    keys = [(OUTCOME_COLOURS[outcome], "area", outcome) for outcome in seen]
    return draw("outcomes", "How requests ended, per second of their arrival", keys, paint, _time(document))


def _latency(document: ReportDocument) -> Plot | None:
    series = document.series
    worst = max((value for value in series.p99_ms if value is not None), default=None)
    if worst is None:
        return None

    def paint(axes: Any) -> None:
        for values, colour in ((series.p99_ms, "--accent"), (series.p50_ms, "--ink")):
            middles = [index + 0.5 for index in range(len(values))]
            heights = [float("nan") if value is None else value for value in values]
            axes.plot(middles, heights, color=INK[colour], linewidth=1.6, marker="o", markersize=2.4)
        axes.axhline(document.slo_ms, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(worst, document.slo_ms))

    keys = [
        ("--accent", "line", "p99"),
        ("--ink", "line", "p50"),
        ("--slo", "dash", f"the objective, {document.slo_ms:.0f} ms"),
    ]
    return draw("latency", "Latency of the answers, ms, by second of arrival", keys, paint, _time(document))


def _cores(document: ReportDocument) -> Plot | None:
    stages = [stage for stage in document.stages if stage.cores_series]
    if not stages:
        return None
    colours = {stage.name: STAGE_COLOURS[index % len(STAGE_COLOURS)] for index, stage in enumerate(stages)}
    limit = document.plan.cores if document.plan else None
    most = max(cores for stage in stages for _, cores in stage.cores_series)

    def paint(axes: Any) -> None:
        for stage in stages:
            seconds, cores = zip(*stage.cores_series, strict=True)
            axes.plot(seconds, cores, color=INK[colours[stage.name]], linewidth=1.6)
        if limit:
            axes.axhline(limit, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(most, limit or 0.0, 0.1))

    keys = [(colours[stage.name], "line", stage.name) for stage in stages]
    if limit:
        keys.append(("--slo", "dash", f"all {limit:g} cores"))
    return draw("cores", "Cores at work on each stage", keys, paint, _time(document))
