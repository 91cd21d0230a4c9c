"""A trace as a picture: an SVG, or a page around it."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from triscale.errors import ConfigError

__all__ = ["write_plot"]

_INK, _DRAWN, _RULE = "#14532d", "#93a3b8", "#d9dee5"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }}
  h1 {{ font-size: 1.2rem; overflow-wrap: anywhere; }}
  svg {{ width: 100%; height: auto; }}
  pre {{ overflow-x: auto; }}
</style>
<h1>{title}</h1>
{svg}
<pre>{notes}</pre>
</html>
"""


def write_plot(path: Path, title: str, rates: Sequence[float], counts: Sequence[int], notes: Sequence[str]) -> None:
    """Write rate and counts per second over time as .svg, or as .html with `notes` below.

    ConfigError when the path ends in neither, cannot be written, or matplotlib is not installed.
    """
    ending = path.suffix.lower()
    if ending not in (".svg", ".html"):
        raise ConfigError(f"--plot {path}: a plot is an .svg or an .html file; let the path end in one of them")
    svg = _svg(title if ending == ".svg" else "", rates, counts)
    if ending == ".html":
        svg = _PAGE.format(title=escape(title), svg=svg[svg.index("<svg") :], notes=escape("\n".join(notes)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--plot {path}: cannot be written: {error.strerror}; choose another path") from None


def _svg(title: str, rates: Sequence[float], counts: Sequence[int]) -> str:
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ConfigError("--plot needs matplotlib; install it with `pip install triscale[report]`") from None
    settings = {"svg.fonttype": "none", "svg.hashsalt": "trace", "font.size": 10.0, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=(10.0, 3.6), layout="constrained")
        axes = figure.add_subplot()
        edges = range(len(rates) + 1)
        axes.stairs(counts, edges, color=_DRAWN, linewidth=1.0, baseline=None, label="requests drawn in each second")
        axes.stairs(rates, edges, color=_INK, linewidth=1.6, baseline=None, label="rate, requests/s")
        axes.set_xlim(0, len(rates))
        axes.set_ylim(0, None)
        axes.set_xlabel("seconds")
        axes.grid(axis="y", color=_RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
        if title:
            axes.set_title(title, loc="left", fontsize=10.0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
