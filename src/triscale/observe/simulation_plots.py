"""The plots of one simulation over time: which ones, and what each draws (`report_svg.py` says how)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from triscale.observe.report_svg import (
    FULL,
    HALF,
    INK,
    OUTCOME_COLOURS,
    STAGE_COLOURS,
    Mark,
    Plot,
    TimeAxis,
    draw,
    require_matplotlib,
)
from triscale.observe.simulation_document import Series, SimulationView, StageSeries

__all__ = [
    "AXIS_COLOURS",
    "accuracies",
    "edges_of",
    "plots_of_simulation",
    "stage_plots",
    "time_of",
    "upper_range",
    "variants_used",
]

AXIS_COLOURS = {"start": "--shed", "up": "--stage-1", "out": "--stage-2"}
"""Where cores came from -> CSS variable."""
_AXIS_NAMES = {"start": "there from the start", "up": "up: added to live replicas", "out": "out: of new replicas"}
_HEADROOM = 1.12
_VIOLATIONS = ("late", "dropped", "shed", "failed")


def plots_of_simulation(run: SimulationView) -> list[Plot]:
    """The plots of the whole pipeline. ConfigError when matplotlib is not installed."""
    require_matplotlib()
    if not run.series.arrivals:
        return []
    candidates = (_load(run), _violations(run), _latency(run), _cores(run), _accuracy(run), _busy(run))
    return [plot for plot in candidates if plot is not None]


def stage_plots(run: SimulationView) -> list[Plot]:
    """For each stage its cores by axis, and its variants where it has a choice; half as wide as the page."""
    require_matplotlib()
    found: list[Plot] = []
    for name, stage in run.series.stages.items():
        found += [plot for plot in (_stage_cores(run, name, stage), _mix(run, name, stage)) if plot is not None]
    return found


def time_of(run: SimulationView) -> TimeAxis:
    """The whole trace; where the warm-up ends is marked."""
    return TimeAxis(run.simulated_s, [Mark(run.warmup_s, "counted from here")] if run.warmup_s > 0.0 else ())


def edges_of(run: SimulationView) -> list[float]:
    """Where each window begins, and where the last one ends."""
    series = run.series
    return [*series.times(), min(run.simulated_s, series.start_s + len(series.arrivals) * series.window_s)]


def _lengths(run: SimulationView) -> list[float]:
    """Seconds of each window; never 0, so that it can be divided by."""
    edges = edges_of(run)
    return [max(end - start, 1e-9) for start, end in itertools.pairwise(edges)]


def _per_second(run: SimulationView, counts: Sequence[float]) -> list[float]:
    return [count / length for count, length in zip(counts, _lengths(run), strict=True)]


def _load(run: SimulationView) -> Plot:
    series, edges = run.series, edges_of(run)
    arrivals, answered = _per_second(run, series.arrivals), _per_second(run, series.answered)
    # A policy that states no capacity leaves a gap rather than a line at zero.
    capacity = [value if value > 0.0 else float("nan") for value in series.capacity]
    known = [value for value in series.capacity if value > 0.0]
    keys = [("--ink", "line", "arrivals"), ("--answered", "area", "answered in time (goodput)")]
    if known:
        keys.append(("--slo", "dash", "what the plan in force can carry"))

    def paint(axes: Any) -> None:
        axes.stairs(answered, edges, fill=True, color=INK["--answered"], alpha=0.85, linewidth=0)
        axes.stairs(arrivals, edges, color=INK["--ink"], linewidth=1.4)
        axes.stairs(capacity, edges, baseline=None, color=INK["--slo"], linewidth=1.2, linestyle=(0, (5, 3)))
        # What a plan could carry may be many times what comes; the load is what must be readable.
        most = max(*arrivals, 1.0)
        axes.set_ylim(0, _HEADROOM * max(most, min(max(known, default=0.0), 2.0 * most)))

    return draw("load", "Arrivals and capacity, requests per second", keys, paint, time_of(run))


def _violations(run: SimulationView) -> Plot | None:
    series = run.series
    seen = [outcome for outcome in _VIOLATIONS if any(getattr(series, outcome))]
    if not seen:
        return None
    rates = [_per_second(run, getattr(series, outcome)) for outcome in seen]
    colours = [OUTCOME_COLOURS[outcome] for outcome in seen]
    keys = [(colour, "area", outcome) for colour, outcome in zip(colours, seen, strict=True)]
    title = "Violations, requests per second, by when they arrived"
    return _stack("violations", title, keys, run, rates)


def _latency(run: SimulationView) -> Plot | None:
    known = [value for value in run.series.p99_ms if value is not None]
    if not known:
        return None
    edges = edges_of(run)
    middles = [(start + end) / 2.0 for start, end in itertools.pairwise(edges)]
    heights = [float("nan") if value is None else value for value in run.series.p99_ms]

    def paint(axes: Any) -> None:
        axes.plot(middles, heights, color=INK["--accent"], linewidth=1.6, marker="o", markersize=2.0)
        axes.axhline(run.slo_ms, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, _HEADROOM * max(*known, run.slo_ms))

    keys = [
        ("--accent", "line", f"p99 of each {run.series.window_s:g} s"),
        ("--slo", "dash", f"the objective, {run.slo_ms:g} ms"),
    ]
    return draw("latency", "Latency of the answers, ms, by when they arrived", keys, paint, time_of(run))


def _accuracy(run: SimulationView) -> Plot | None:
    shares = accuracies(run.series)
    known = [value for value in shares if not math.isnan(value)]
    if not known:
        return None

    def paint(axes: Any) -> None:
        axes.stairs(shares, edges_of(run), baseline=None, color=INK["--accent"], linewidth=1.6)
        axes.set_ylim(*upper_range(min(known), 100.0))

    keys = [("--accent", "line", "mean of the requests answered in time")]
    return draw("accuracy", "Accuracy, %", keys, paint, time_of(run))


def variants_used(stage: StageSeries) -> list[str]:
    """The variants that ran at all, in the order of the file."""
    return [variant for variant, counts in stage.items.items() if any(counts)]


def accuracies(series: Series) -> list[float]:
    """Mean accuracy in percent per window; not a number where nothing was answered in time."""
    return [
        100.0 * total / answered if answered else float("nan")
        for total, answered in zip(series.accuracy_sum, series.answered, strict=True)
    ]


def upper_range(least: float, most: float) -> tuple[float, float]:
    """An axis for values near the most there can be: from somewhat below the least, a line's width above the most."""
    low = max(0.0, least - max(0.01 * most, 0.15 * (most - least)))
    return low, most + 0.02 * (most - low)


def _cores(run: SimulationView) -> Plot | None:
    return _by_axis("cores", "Cores held, by how they came", run, run.series, FULL)


def _stage_cores(run: SimulationView, name: str, stage: StageSeries) -> Plot | None:
    return _by_axis(f"cores-{name}", f"{name}: cores", run, stage, HALF)


def _by_axis(
    name: str, title: str, run: SimulationView, series: Series | StageSeries, widths: Sequence[str]
) -> Plot | None:
    layers = {"start": series.cores_start, "up": series.cores_up, "out": series.cores_out}
    seen = [axis for axis, values in layers.items() if any(values)]
    if not seen:
        return None
    keys = [(AXIS_COLOURS[axis], "area", _AXIS_NAMES[axis]) for axis in seen]
    return _stack(name, title, keys, run, [layers[axis] for axis in seen], widths)


def _busy(run: SimulationView) -> Plot | None:
    stages = run.series.stages
    if not any(any(stage.busy_core_s) for stage in stages.values()):
        return None
    keys = [(STAGE_COLOURS[i % len(STAGE_COLOURS)], "area", name) for i, name in enumerate(stages)]
    rates = [_per_second(run, stage.busy_core_s) for stage in stages.values()]
    edges, held = edges_of(run), run.series.cores

    def line(axes: Any) -> float:
        axes.stairs(held, edges, baseline=None, color=INK["--ink"], linewidth=1.2)
        return max(held, default=0.0)

    return _stack("busy", "Cores at work, by stage", [*keys, ("--ink", "line", "cores held")], run, rates, over=line)


def _mix(run: SimulationView, name: str, stage: StageSeries) -> Plot | None:
    """The share of each variant in the stage's items; nothing where one ran them all."""
    used = variants_used(stage)
    if len(used) < 2:
        return None
    totals = [sum(counts) for counts in zip(*stage.items.values(), strict=True)]
    shares = [
        [100.0 * count / total if total else 0.0 for count, total in zip(stage.items[variant], totals, strict=True)]
        for variant in used
    ]
    keys = [(STAGE_COLOURS[i % len(STAGE_COLOURS)], "area", variant) for i, variant in enumerate(used)]
    return _stack(f"mix-{name}", f"{name}: variants, % of its items", keys, run, shares, HALF, top=100.0)


def _stack(
    name: str,
    title: str,
    keys: Sequence[tuple[str, str, str]],
    run: SimulationView,
    layers: Sequence[Sequence[float]],
    widths: Sequence[str] = FULL,
    *,
    top: float | None = None,
    over: Any = None,
) -> Plot:
    """Areas one on the other, the first key's at the bottom. `over` draws on top and says how high it went."""
    edges = edges_of(run)

    def paint(axes: Any) -> None:
        base = [0.0] * len(layers[0])
        for (colour, _, _), layer in zip(keys, layers, strict=False):
            rise = [below + more for below, more in zip(base, layer, strict=True)]
            axes.stairs(rise, edges, baseline=base, fill=True, color=INK[colour], linewidth=0)
            base = rise
        highest = max(max(base), over(axes) if over is not None else 0.0)
        axes.set_ylim(0, top if top is not None else _HEADROOM * max(highest, 1e-3))

    return draw(name, title, keys, paint, time_of(run), widths)
