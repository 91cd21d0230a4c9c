"""A sweep as a drawing in a file: an SVG that stands alone, or an HTML page with it and the plans as a table.

Drawn here rather than by matplotlib, so that it needs nothing installed. Colours are those of the HTML report, as
plain CSS classes: many viewers of SVG files know no variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from triscale.cli.plan_sweep import phases_of
from triscale.cli.plan_text import accuracy_text
from triscale.cli.text_plot import tick_names, ticks
from triscale.core.figures import count, counted, percent
from triscale.core.plan import Plan
from triscale.errors import ConfigError
from triscale.observe.report_html import element, table

__all__ = ["check_name", "sweep_html", "sweep_svg", "write_sweep"]

_SUFFIXES = (".svg", ".html")

_WIDTH, _LEFT, _RIGHT = 960, 46, 26
_PANEL, _GAP, _TOP, _BOTTOM = 150, 52, 76, 52
"""SVG units, a pixel each where the drawing is not scaled."""
_STYLE = """
.sweep { font: 12px ui-sans-serif, system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
.sweep .page { fill: #ffffff; } .sweep .ink { fill: #1d2327; } .sweep .quiet { fill: #667077; }
.sweep .rule { stroke: #e2e3de; } .sweep .line { fill: none; stroke: #0f6f8c; stroke-width: 2px; }
.sweep .dot { fill: #0f6f8c; }
.sweep .hardware { fill: #2f8fae; fill-opacity: 0.13; } .sweep .accuracy { fill: #dfa32b; fill-opacity: 0.13; }
.sweep .overload { fill: #d0673d; fill-opacity: 0.13; }
@media (prefers-color-scheme: dark) {
.sweep .page { fill: #14181a; } .sweep .ink { fill: #e8e9e6; } .sweep .quiet { fill: #9aa4a9; }
.sweep .rule { stroke: #30373b; } .sweep .line { stroke: #5cc0dd; } .sweep .dot { fill: #5cc0dd; }
}
"""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the plots that stand above each other."""

    title: str
    values: Sequence[float]
    low: float | None
    high: float | None
    shown: Callable[[Plan], str]
    """The value as the tooltip of its point says it."""


def check_name(path: Path) -> None:
    """ConfigError when the name of the file says no format that there is."""
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--plot {path}: its name ends in neither .svg nor .html, for example sweep.svg")


def write_sweep(plans: Sequence[Plan], title: str, path: Path) -> None:
    """Write the drawing, in the format that its name says; ConfigError when the file cannot be written."""
    draw = sweep_svg if path.suffix.lower() == ".svg" else sweep_html
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(draw(plans, title), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--plot {path}: cannot be written: {error.strerror}") from None


def sweep_svg(plans: Sequence[Plan], title: str) -> str:
    """The sweep as one SVG file, readable in light and dark."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _drawing(plans, title, alone=True) + "\n"


def sweep_html(plans: Sequence[Plan], title: str) -> str:
    """The sweep as one self-contained page."""
    style = resources.files("triscale.observe").joinpath("report.css").read_text()
    rows = [
        [
            escape(count(plan.demand)),
            escape(plan.mode),
            count(plan.cores),
            accuracy_text(plan),
            percent(plan.served_fraction),
            escape(plan.reason),
        ]
        for plan in plans
    ]
    listed = table(["requests/s", "mode", "cores", "accuracy", "served", "why"], rows, text=(1, 5))
    body = (
        element("p", "<b>triscale</b> · plans over a range of demands", "kicker")
        + element("h1", escape(title))
        + element("figure", _drawing(plans, title, alone=False))
        + element("h2", "The plans")
        + listed
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _drawing(plans: Sequence[Plan], title: str, *, alone: bool) -> str:
    """The `svg` element; `alone` it brings its background and its title along."""
    panels = [_Panel("accuracy, %", [plan.accuracy * 100 for plan in plans], None, 100.0, accuracy_text)]
    if any(plan.served_fraction < 1.0 for plan in plans):
        served = [plan.served_fraction * 100 for plan in plans]
        panels.append(_Panel("served, % of the demand", served, 0.0, 100.0, lambda plan: percent(plan.served_fraction)))
    panels.append(_Panel("cores", [plan.cores for plan in plans], 0.0, None, lambda plan: counted(plan.cores, "core")))
    height = _TOP + len(panels) * (_PANEL + _GAP) - _GAP + _BOTTOM
    bottom = height - _BOTTOM
    parts = [f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>"]
    if alone:
        parts.append(f'<rect width="{_WIDTH}" height="{height}" class="page"/>')
        parts.append(_text(_LEFT, 24, title, "ink", size=15))
    parts += _phases(plans, bottom)
    for index, panel in enumerate(panels):
        parts += _panel(plans, panel, _TOP + index * (_PANEL + _GAP))
    x_ticks = ticks(plans[0].demand, plans[-1].demand, 10)
    for tick, name in zip(x_ticks, tick_names(x_ticks), strict=True):
        parts.append(_text(_across(plans, tick), bottom + 18, name, "quiet", anchor="middle"))
    parts.append(_text(_WIDTH - _RIGHT, bottom + 38, "requests/s", "quiet", anchor="end"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" class="sweep" role="img">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _across(plans: Sequence[Plan], demand: float) -> float:
    low, high = plans[0].demand, plans[-1].demand
    return round(_LEFT + (demand - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 2)


def _phases(plans: Sequence[Plan], bottom: float) -> list[str]:
    """A tinted background for every mode, and its name above where it begins, or right of its neighbour's name."""
    parts: list[str] = []
    free = 0.0
    for span in phases_of(plans):
        left, right = _across(plans, span.start), _across(plans, span.stop)
        place = f'x="{left}" y="{_TOP - 26}" width="{right - left:.2f}" height="{bottom - _TOP + 26:g}"'
        parts.append(f'<rect {place} class="{span.name}"/>')
        parts.append(_text(max(left, free), _TOP - 32, span.name, "quiet"))
        free = max(left, free) + 8.0 * len(span.name)
    return parts


def _panel(plans: Sequence[Plan], panel: _Panel, top: float) -> list[str]:
    low = min(panel.values) if panel.low is None else panel.low
    high = max(panel.values) if panel.high is None else panel.high
    if high <= low:
        low, high = (low - 1.0, high) if panel.low is None else (low, low + 1.0)
    grid = ticks(low, high, 4, outward=True)
    low = grid[0] if panel.low is None else low
    high = grid[-1] if panel.high is None else high
    grid = [tick for tick in grid if low <= tick <= high]

    def down(value: float) -> float:
        return round(top + (high - value) / (high - low) * _PANEL, 2)

    parts = [_text(_LEFT + 6, top - 9, panel.title, "ink")]
    for tick, name in zip(grid, tick_names(grid), strict=True):
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down(tick)}" y2="{down(tick)}" class="rule"/>')
        parts.append(_text(_LEFT - 6, down(tick) + 4, name, "quiet", anchor="end"))
    points = [(_across(plans, plan.demand), down(value)) for plan, value in zip(plans, panel.values, strict=True)]
    line = " ".join(f"{x},{y}" for x, y in points)
    parts.append(f'<polyline points="{line}" class="line"/>')
    for plan, (x, y) in zip(plans, points, strict=True):
        tip = f"{count(plan.demand)} requests/s: {panel.shown(plan)}, mode {plan.mode}"
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" class="dot"><title>{escape(tip)}</title></circle>')
    return parts


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} class="{kind}">{escape(text)}</text>'
