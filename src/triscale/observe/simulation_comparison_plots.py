"""The plots of a comparison: what each policy cost and missed, and how that went over time, mean over the seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triscale.observe.report_svg import INK, STAGE_COLOURS, NumberAxis, Plot, draw, require_matplotlib
from triscale.observe.simulation_comparison import Standing
from triscale.observe.simulation_document import Series, SimulationView
from triscale.observe.simulation_plots import accuracies, edges_of, time_of, upper_range

__all__ = ["colours_of", "plots_of_comparison"]

_HEADROOM = 1.12
_OUTCOMES = ("late", "dropped", "shed", "failed")


def colours_of(found: Sequence[Standing]) -> dict[str, str]:
    """Policy -> CSS variable."""
    return {each.policy: STAGE_COLOURS[index % len(STAGE_COLOURS)] for index, each in enumerate(found)}


def plots_of_comparison(found: Sequence[Standing]) -> list[Plot]:
    """The plots that there is data for. ConfigError when matplotlib is not installed."""
    require_matplotlib()
    if not any(run.series.arrivals for each in found for run in each.runs):
        return []
    candidates = (
        _trade(found),
        _over_time("missed", "Violations, % of the requests that arrived", found, _missed, low=0.0),
        _over_time("cores", "Cores held", found, lambda series: list(series.cores), low=0.0),
        _over_time("accuracy", "Accuracy of the requests answered in time, %", found, accuracies, most=100.0),
        _over_time("p99", "p99 latency of the answers, ms", found, _tails, low=0.0, line=found[0].runs[0].slo_ms),
    )
    return [plot for plot in candidates if plot is not None]


def _trade(found: Sequence[Standing]) -> Plot | None:
    """Each policy as a point with its confidence intervals: the nearer to the corner the better."""
    colours = colours_of(found)
    shown = [(each, missed) for each in found if (missed := each.missed) is not None]
    if not shown:
        return None
    seconds = max(run.counted_s for each, _ in shown for run in each.runs)
    widest = max(each.core_seconds.high for each, _ in shown) / seconds
    highest = max(100.0 * missed.high for _, missed in shown)

    def paint(axes: Any) -> None:
        for rank, (each, missed) in enumerate(shown):
            # Where policies coincide, the earlier ones look out from behind the later ones.
            axes.errorbar(
                each.core_seconds.mean / seconds,
                100.0 * missed.mean,
                xerr=(each.core_seconds.half or 0.0) / seconds,
                yerr=100.0 * (missed.half or 0.0),
                fmt="o",
                markersize=6 + 5 * (len(shown) - 1 - rank) / len(shown),
                clip_on=False,
                elinewidth=1.2,
                capsize=2.5,
                color=INK[colours[each.policy]],
            )
        axes.set_ylim(0, _HEADROOM * max(highest, 0.1))

    keys = [(colours[each.policy], "area", each.policy) for each, _ in shown]
    title = "Violations, % of the requests, over mean cores held"
    return draw("trade", title, keys, paint, NumberAxis(_HEADROOM * max(widest, 1.0), "cores"))


def _missed(series: Series) -> list[float]:
    lost = [sum(counts) for counts in zip(*(getattr(series, name) for name in _OUTCOMES), strict=True)]
    return [100.0 * some / all_ if all_ else math.nan for some, all_ in zip(lost, series.arrivals, strict=True)]


def _tails(series: Series) -> list[float]:
    return [math.nan if value is None else value for value in series.p99_ms]


def _over_time(
    name: str,
    title: str,
    found: Sequence[Standing],
    values: Callable[[Series], Sequence[float]],
    *,
    low: float | None = None,
    most: float | None = None,
    line: float | None = None,
) -> Plot | None:
    """A line for each policy. `low` is where the axis begins, `most` the most there can be, `line` the objective."""
    curves: Mapping[str, list[float]] = {each.policy: _mean(each.runs, values) for each in found}
    known = [value for curve in curves.values() for value in curve if not math.isnan(value)]
    if not known:
        return None
    colours = colours_of(found)
    run = found[0].runs[0]
    edges = edges_of(run)
    middles = [(start + end) / 2.0 for start, end in itertools.pairwise(edges)]
    least, highest = min(known), max([*known, line or 0.0])

    def paint(axes: Any) -> None:
        for policy, curve in curves.items():
            axes.plot(middles, curve, color=INK[colours[policy]], linewidth=1.5)
        if line is not None:
            axes.axhline(line, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        if most is not None:
            axes.set_ylim(*upper_range(least, most))
        else:
            axes.set_ylim(low, _HEADROOM * max(highest, 1e-3))

    keys = [(colour, "line", policy) for policy, colour in colours.items()]
    if line is not None:
        keys.append(("--slo", "dash", f"the objective, {line:g} ms"))
    return draw(name, title, keys, paint, time_of(run))


def _mean(runs: Sequence[SimulationView], values: Callable[[Series], Sequence[float]]) -> list[float]:
    """Per window, over the seeds that have a value there."""
    curve = []
    for window in zip(*(values(run.series) for run in runs), strict=True):
        known = [value for value in window if not math.isnan(value)]
        curve.append(sum(known) / len(known) if known else math.nan)
    return curve
