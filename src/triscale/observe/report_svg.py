"""One plot as inline SVG, drawn by matplotlib, coloured by the page.

Every colour that is drawn here is a stand-in that is replaced by a CSS variable, so that one SVG is readable in light
and dark. A plot of the page's width is drawn twice, wide and narrow, because text in an SVG shrinks with it; the page
shows the one that fits. The same drawing gives the same bytes.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from triscale.errors import ConfigError

__all__ = [
    "FULL",
    "HALF",
    "INK",
    "OUTCOME_COLOURS",
    "STAGE_COLOURS",
    "Mark",
    "NumberAxis",
    "Plot",
    "TimeAxis",
    "draw",
    "require_matplotlib",
]

OUTCOME_COLOURS = {
    "answered": "--answered",
    "late": "--late",
    "dropped": "--dropped",
    "shed": "--shed",
    "failed": "--failed",
    "cancelled": "--cancelled",
}
"""Outcome -> CSS variable."""
STAGE_COLOURS = tuple(f"--stage-{number}" for number in range(1, 11))
"""CSS variables to tell stages, variants or policies apart."""

_VARIABLES = ("--ink", "--quiet", "--rule", "--accent", "--slo", *OUTCOME_COLOURS.values(), *STAGE_COLOURS)
INK = {name: f"#0{index:02x}fe5" for index, name in enumerate(_VARIABLES)}
"""CSS variable -> the colour to draw with in its place."""
_SIZES = {"wide": (9.6, 2.5), "narrow": (4.6, 2.6), "half": (4.6, 2.2)}
"""Inches, at 72 SVG units each."""
FULL = ("wide", "narrow")
"""As wide as the page: drawn twice."""
HALF = ("half",)
"""One of two side by side, as wide as a phone."""
_MINUTES_FROM_S = 600.0
_HOURS_FROM_S = 4.0 * 3600.0


class Plot:
    """One plot: what it shows, and its SVG for each width."""

    __slots__ = ("keys", "name", "svgs", "title")

    def __init__(self, name: str, title: str, keys: Sequence[tuple[str, str, str]], svgs: dict[str, str]) -> None:
        self.name = name
        self.title = title
        self.keys = keys
        """The legend: (CSS variable, `line`, `dash` or `area`, label)."""
        self.svgs = svgs
        """CSS class (`FULL` or `HALF`) -> SVG."""


class Mark(NamedTuple):
    """A named moment of the time axis, from which something else holds."""

    at_s: float
    name: str


class TimeAxis(NamedTuple):
    """The x axis that all plots over time of a page share."""

    seconds: float
    marks: Sequence[Mark] = ()


class NumberAxis(NamedTuple):
    """An x axis of figures, from 0 on."""

    high: float
    unit: str = ""


def draw(
    name: str,
    title: str,
    keys: Sequence[tuple[str, str, str]],
    paint: Callable[[Any], None],
    axis: TimeAxis | NumberAxis,
    widths: Sequence[str] = FULL,
) -> Plot:
    """A plot over time or over a figure; `paint` draws on matplotlib's axes, in colours of `INK`."""
    return Plot(name, title, keys, {width: _svg(f"{name}-{width}", _SIZES[width], paint, axis) for width in widths})


def require_matplotlib() -> None:
    """ConfigError when it is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise ConfigError("plots need matplotlib; install it with `pip install triscale[report]`") from None


def _svg(name: str, size: tuple[float, float], paint: Callable[[Any], None], axis: TimeAxis | NumberAxis) -> str:
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.0, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=size)
        # The same margins for all, so that the plots' seconds stand above each other.
        width, height = 72 * size[0], 72 * size[1]
        above = 18 if isinstance(axis, TimeAxis) and axis.marks else 6
        figure.subplots_adjust(left=30 / width, right=1 - 8 / width, bottom=20 / height, top=1 - above / height)
        axes = figure.add_subplot()
        paint(axes)
        _dress(axes, axis)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _dress(axes: Any, axis: TimeAxis | NumberAxis) -> None:
    """The frame that all plots share: quiet axes, light grid."""
    quiet, rule = INK["--quiet"], INK["--rule"]
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(rule)
    axes.tick_params(colors=quiet, length=0, pad=5)
    axes.grid(axis="y", color=rule, linewidth=0.7)
    axes.set_axisbelow(True)
    ticker = importlib.import_module("matplotlib.ticker")
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    if isinstance(axis, TimeAxis):
        _time(axes, axis)
        return
    axes.set_xlim(0, axis.high)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g} {axis.unit}".rstrip())


def _time(axes: Any, axis: TimeAxis) -> None:
    """Seconds, minutes or hours, and the marks."""
    quiet = INK["--quiet"]
    ticker = importlib.import_module("matplotlib.ticker")
    axes.set_xlim(0, max(axis.seconds, 1.0))
    unit, seconds, steps = _unit(axis.seconds)
    if steps:
        length = axis.seconds / seconds
        step = next((step for step in steps if length <= 8.0 * step), steps[-1])
        axes.xaxis.set_major_locator(ticker.MultipleLocator(step * seconds))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / seconds:g} {unit}")
    for at, label in axis.marks:
        if at > 0.0:
            axes.axvline(at, ymax=1.1, color=quiet, linewidth=0.8, dashes=(2, 2), clip_on=False)
        axes.annotate(
            label,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0 if at == 0.0 else 3, 5),
            textcoords="offset points",
            color=quiet,
        )


def _unit(seconds: float) -> tuple[str, float, tuple[float, ...]]:
    """The unit of a time axis of this length, its seconds, and the steps in which clocks divide it."""
    if seconds >= _HOURS_FROM_S:
        return "h", 3600.0, (1.0, 2.0, 3.0, 4.0, 6.0, 12.0, 24.0, 48.0, 168.0)
    if seconds >= _MINUTES_FROM_S:
        return "min", 60.0, (2.0, 5.0, 10.0, 15.0, 30.0)
    return "s", 1.0, ()


def _inline(svg: str) -> str:
    """The SVG element alone, for use inside a page: no prologue, no metadata, no fixed size, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\sid="(?!\w*clip|m[0-9a-f]{8}|p[0-9a-f]{8})[^"]*"', "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    for name, stand_in in INK.items():
        svg = svg.replace(stand_in, f"var({name})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
