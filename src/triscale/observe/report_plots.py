"""The report's plots: inline SVG, drawn by matplotlib, coloured by the page.

Every colour that is drawn here is a stand-in that is replaced by a CSS variable, so that one SVG is readable in light
and dark. Each plot is drawn twice, wide and narrow, because text in an SVG shrinks with it; the page shows the one
that fits.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from triscale.errors import ConfigError
from triscale.observe.report_document import ReportDocument
from triscale.observe.wording import count

__all__ = ["OUTCOME_COLOURS", "STAGE_COLOURS", "Plot", "plots_of"]

OUTCOME_COLOURS = {
    "answered": "--answered",
    "late": "--late",
    "dropped": "--dropped",
    "shed": "--shed",
    "failed": "--failed",
    "cancelled": "--cancelled",
}
"""Outcome -> CSS variable."""
STAGE_COLOURS = ("--stage-1", "--stage-2", "--stage-3", "--stage-4", "--stage-5", "--stage-6")

_VARIABLES = ("--ink", "--quiet", "--rule", "--accent", "--slo", *OUTCOME_COLOURS.values(), *STAGE_COLOURS)
_STAND_INS = {name: f"#0{index:02x}fe5" for index, name in enumerate(_VARIABLES)}
_SIZES = {"wide": (9.6, 2.5), "narrow": (4.6, 2.6)}
"""Inches, at 72 SVG units each."""


class Plot:
    """One plot: what it shows, and its SVG for each width."""

    __slots__ = ("keys", "name", "svgs", "title")

    def __init__(self, name: str, title: str, keys: Sequence[tuple[str, str, str]], svgs: dict[str, str]) -> None:
        self.name = name
        self.title = title
        self.keys = keys
        """The legend: (CSS variable, `line`, `dash` or `area`, label)."""
        self.svgs = svgs
        """`wide` and `narrow` -> SVG."""


def plots_of(document: ReportDocument) -> list[Plot]:
    """The plots that the document has data for. ConfigError when matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise ConfigError("plots need matplotlib; install it with `pip install triscale[report]`") from None
    candidates = (_rates, _outcomes, _latency, _cores)
    return [plot for make in candidates if (plot := make(document)) is not None]


def _rates(document: ReportDocument) -> Plot | None:
    series = document.series
    if not series.sent:
        return None
    capacity = document.plan.capacity_per_s if document.plan else None
    keys = [("--ink", "line", "arrivals"), ("--answered", "area", "answered in time (goodput)")]

    def draw(axes: Any) -> None:
        edges = range(len(series.sent) + 1)
        axes.stairs(series.answered, edges, fill=True, color=_STAND_INS["--answered"], alpha=0.85, linewidth=0)
        axes.stairs(series.sent, edges, color=_STAND_INS["--ink"], linewidth=1.4)
        if capacity:
            axes.axhline(capacity, color=_STAND_INS["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(*series.sent, capacity or 0.0, 1.0))

    if capacity:
        keys.append(("--slo", "dash", f"the plan's capacity, {count(capacity)}/s"))
    return _plot("rates", "Arrivals and goodput, requests per second", keys, draw, document)


def _outcomes(document: ReportDocument) -> Plot | None:
    series = document.series
    seen = [outcome for outcome in OUTCOME_COLOURS if any(getattr(series, outcome))]
    if not seen:
        return None

    def draw(axes: Any) -> None:
        length = len(series.sent)
        base = [0.0] * length
        for outcome in seen:
            top = [below + more for below, more in zip(base, getattr(series, outcome), strict=True)]
            colour = _STAND_INS[OUTCOME_COLOURS[outcome]]
            axes.stairs(top, range(length + 1), baseline=base, fill=True, color=colour, linewidth=0)
            base = top
        axes.set_ylim(0, 1.12 * max(*base, 1.0))

    keys = [(OUTCOME_COLOURS[outcome], "area", outcome) for outcome in seen]
    return _plot("outcomes", "How requests ended, per second of their arrival", keys, draw, document)


def _latency(document: ReportDocument) -> Plot | None:
    series = document.series
    worst = max((value for value in series.p99_ms if value is not None), default=None)
    if worst is None:
        return None

    def draw(axes: Any) -> None:
        for values, colour in ((series.p99_ms, "--accent"), (series.p50_ms, "--ink")):
            middles = [index + 0.5 for index in range(len(values))]
            heights = [float("nan") if value is None else value for value in values]
            axes.plot(middles, heights, color=_STAND_INS[colour], linewidth=1.6, marker="o", markersize=2.4)
        axes.axhline(document.slo_ms, color=_STAND_INS["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(worst, document.slo_ms))

    keys = [
        ("--accent", "line", "p99"),
        ("--ink", "line", "p50"),
        ("--slo", "dash", f"the objective, {document.slo_ms:.0f} ms"),
    ]
    return _plot("latency", "Latency of the answers, ms, by second of arrival", keys, draw, document)


def _cores(document: ReportDocument) -> Plot | None:
    stages = [stage for stage in document.stages if stage.cores_series]
    if not stages:
        return None
    colours = {stage.name: STAGE_COLOURS[index % len(STAGE_COLOURS)] for index, stage in enumerate(stages)}
    limit = document.plan.cores if document.plan else None
    most = max(cores for stage in stages for _, cores in stage.cores_series)

    def draw(axes: Any) -> None:
        for stage in stages:
            seconds, cores = zip(*stage.cores_series, strict=True)
            axes.plot(seconds, cores, color=_STAND_INS[colours[stage.name]], linewidth=1.6)
        if limit:
            axes.axhline(limit, color=_STAND_INS["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, 1.12 * max(most, limit or 0.0, 0.1))

    keys = [(colours[stage.name], "line", stage.name) for stage in stages]
    if limit:
        keys.append(("--slo", "dash", f"all {limit:g} cores"))
    return _plot("cores", "Cores at work on each stage", keys, draw, document)


def _plot(
    name: str,
    title: str,
    keys: Sequence[tuple[str, str, str]],
    draw: Callable[[Any], None],
    document: ReportDocument,
) -> Plot:
    return Plot(
        name, title, keys, {width: _svg(f"{name}-{width}", size, draw, document) for width, size in _SIZES.items()}
    )


def _svg(name: str, size: tuple[float, float], draw: Callable[[Any], None], document: ReportDocument) -> str:
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.0, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=size)
        # The same margins for all, so that the plots' seconds stand above each other.
        width, height = 72 * size[0], 72 * size[1]
        figure.subplots_adjust(left=30 / width, right=1 - 8 / width, bottom=20 / height, top=1 - 18 / height)
        axes = figure.add_subplot()
        draw(axes)
        _dress(axes, document)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _dress(axes: Any, document: ReportDocument) -> None:
    """The frame that all plots share: quiet axes, light grid, phases marked."""
    quiet, rule = _STAND_INS["--quiet"], _STAND_INS["--rule"]
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(rule)
    axes.tick_params(colors=quiet, length=0, pad=5)
    axes.grid(axis="y", color=rule, linewidth=0.7)
    axes.set_axisbelow(True)
    total = sum(phase.seconds for phase in document.phases)
    axes.set_xlim(0, max(total, 1.0))
    ticker = importlib.import_module("matplotlib.ticker")
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    start = 0.0
    for phase in document.phases:
        if start > 0.0:
            axes.axvline(start, ymax=1.1, color=quiet, linewidth=0.8, dashes=(2, 2), clip_on=False)
        axes.annotate(
            phase.name,
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0 if start == 0.0 else 3, 5),
            textcoords="offset points",
            color=quiet,
        )
        start += phase.seconds


def _inline(svg: str) -> str:
    """The SVG element alone, for use inside a page: no prologue, no metadata, no fixed size, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\sid="(?!\w*clip|m[0-9a-f]{8}|p[0-9a-f]{8})[^"]*"', "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    for name, stand_in in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var({name})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
