"""The plots of a demo: the load, how both policies met it, and what the first one did about it on its three axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from triscale.observe.report_document import ControlView, MixView, ReportDocument
from triscale.observe.report_svg import HALF, INK, STAGE_COLOURS, Mark, Plot, TimeAxis, draw, require_matplotlib
from triscale.observe.simulation_plots import AXIS_COLOURS, upper_range
from triscale.observe.wording import count, percent

__all__ = ["mix_plots", "plots_of_demo"]

_FIRST, _SECOND = "--accent", "--stage-2"
"""Of the policy and of the one that it is compared with."""
_HEADROOM = 1.12
_NONE = float("nan")
_MIX_S = 2.0
"""Length of the windows of a mix of variants."""


def plots_of_demo(run: ReportDocument) -> list[Plot]:
    """The plots over time that there is data for. ConfigError when matplotlib is not installed."""
    require_matplotlib()
    if run.control is None or not run.series.sent:
        return []
    candidates = (_load(run), _misses(run), _latency(run), _accuracy(run), _cores(run, run.control), _replicas(run))
    return [plot for plot in candidates if plot is not None]


def mix_plots(run: ReportDocument) -> list[Plot]:
    """For each stage that used several variants, which part of its items each ran; half as wide as the page."""
    require_matplotlib()
    mixes = run.control.mixes if run.control is not None else {}
    found = (_mix(run, stage, mix) for stage, mix in mixes.items())
    return [plot for plot in found if plot is not None]


def _axis(run: ReportDocument) -> TimeAxis:
    starts = itertools.accumulate((phase.seconds for phase in run.phases), initial=0.0)
    marks = [Mark(start, phase.name) for start, phase in zip(starts, run.phases, strict=False)]
    return TimeAxis(sum(phase.seconds for phase in run.phases), marks)


def _runs(run: ReportDocument) -> list[tuple[ReportDocument, str]]:
    both = [(run, _FIRST)]
    if run.against is not None and run.against.series.sent:
        both.append((run.against, _SECOND))
    return both


def _load(run: ReportDocument) -> Plot:
    ceiling = run.ceiling.capacity_per_s if run.ceiling is not None else None
    keys = [("--ink", "line", "arrivals"), ("--answered", "area", f"answered in time under {run.policy}")]
    keys += [(_SECOND, "line", f"under {other.policy}") for other, _ in _runs(run)[1:]]
    if ceiling is not None:
        keys.append(("--slo", "dash", f"the most accurate variants carry {count(ceiling)}/s"))

    def paint(axes: Any) -> None:
        edges = range(len(run.series.sent) + 1)
        axes.stairs(run.series.answered, edges, fill=True, color=INK["--answered"], alpha=0.85, linewidth=0)
        axes.stairs(run.series.sent, edges, color=INK["--ink"], linewidth=1.4)
        for other, colour in _runs(run)[1:]:
            axes.stairs(other.series.answered, range(len(other.series.answered) + 1), color=INK[colour], linewidth=1.4)
        if ceiling is not None:
            axes.axhline(ceiling, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, _HEADROOM * max(*run.series.sent, ceiling or 0.0, 1.0))

    return draw("load", "Arrivals and what was answered in time, requests per second", keys, paint, _axis(run))


def _misses(run: ReportDocument) -> Plot:
    keys = [(colour, "line", each.policy) for each, colour in _runs(run)]

    def paint(axes: Any) -> None:
        for each, colour in _runs(run):
            series = each.series
            share = [
                100.0 * answered / sent if sent else _NONE
                for answered, sent in zip(series.answered, series.sent, strict=True)
            ]
            axes.stairs(share, range(len(share) + 1), baseline=None, color=INK[colour], linewidth=1.6)
        axes.set_ylim(0, 103)

    return draw("attainment", "Attainment, % of the requests of each second", keys, paint, _axis(run))


def _latency(run: ReportDocument) -> Plot | None:
    known = [value for each, _ in _runs(run) for value in each.series.p99_ms if value is not None]
    if not known:
        return None
    keys = [(colour, "line", f"p99 under {each.policy}") for each, colour in _runs(run)]
    keys.append(("--slo", "dash", f"the objective, {run.slo_ms:.0f} ms"))

    def paint(axes: Any) -> None:
        for each, colour in _runs(run):
            heights = [_NONE if value is None else value for value in each.series.p99_ms]
            middles = [index + 0.5 for index in range(len(heights))]
            axes.plot(middles, heights, color=INK[colour], linewidth=1.6, marker="o", markersize=2.4)
        axes.axhline(run.slo_ms, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(0, _HEADROOM * max(*known, run.slo_ms))

    return draw("latency", "Latency of the answers, ms, by second of arrival", keys, paint, _axis(run))


def _accuracy(run: ReportDocument) -> Plot | None:
    curves = [(each.control, colour) for each, colour in _runs(run) if each.control is not None]
    known = [value for control, _ in curves for value in control.accuracy if value is not None]
    if not known:
        return None
    keys = [(colour, "line", f"under {each.policy}") for each, colour in _runs(run)]
    needs = run.surge.needs_accuracy if run.surge is not None else None
    if needs is not None:
        keys.append(("--slo", "dash", f"what the planner leaves in the surge, {percent(needs)}"))

    def paint(axes: Any) -> None:
        for control, colour in curves:
            heights = [_NONE if value is None else 100.0 * value for value in control.accuracy]
            axes.stairs(heights, _edges(control), baseline=None, color=INK[colour], linewidth=1.6)
        if needs is not None:
            axes.axhline(100.0 * needs, color=INK["--slo"], linewidth=1.2, dashes=(5, 3))
        axes.set_ylim(*upper_range(100.0 * min(*known, needs if needs is not None else 1.0), 100.0 * max(known)))

    return draw("accuracy", "Accuracy: expected of what was answered in time, %", keys, paint, _axis(run))


def _cores(run: ReportDocument, control: ControlView) -> Plot | None:
    layers = {"start": control.cores_start, "up": control.cores_up, "out": control.cores_out}
    seen = [name for name, values in layers.items() if any(values)]
    if not seen:
        return None
    names = {"start": "there from the start", "up": "up: added in place", "out": "out: on replicas launched since"}
    keys = [(AXIS_COLOURS[name], "area", names[name]) for name in seen]
    keys.append(("--ink", "line", "at work"))

    def paint(axes: Any) -> None:
        edges = _edges(control)
        base = [0.0] * len(control.at_s)
        for name in seen:
            top = [below + more for below, more in zip(base, layers[name], strict=True)]
            axes.stairs(top, edges, baseline=base, fill=True, color=INK[AXIS_COLOURS[name]], linewidth=0)
            base = top
        axes.stairs(control.busy_cores, edges, baseline=None, color=INK["--ink"], linewidth=1.2)
        axes.set_ylim(0, _HEADROOM * max(*base, *control.busy_cores, 0.1))

    return draw("cores", f"Up: cores held under {run.policy}, and at work", keys, paint, _axis(run))


def _replicas(run: ReportDocument) -> Plot | None:
    """Nothing where there were always as many."""
    control = run.control
    if control is None or len({(ready, starting) for _, ready, starting in control.replicas}) < 2:
        return None
    keys = [("--accent", "line", "ready"), ("--stage-2", "line", "starting")]

    def paint(axes: Any) -> None:
        seconds, ready, starting = zip(*control.replicas, strict=True)
        axes.step(seconds, ready, where="post", color=INK["--accent"], linewidth=1.6)
        axes.step(seconds, starting, where="post", color=INK["--stage-2"], linewidth=1.6)
        axes.set_ylim(0, _HEADROOM * max(*ready, *starting, 1))

    return draw("replicas", f"Out: replicas under {run.policy}", keys, paint, _axis(run))


def _mix(run: ReportDocument, stage: str, mix: MixView) -> Plot | None:
    used = [variant for variant, items in mix.items.items() if any(items)]
    if len(used) < 2:
        return None
    length = max(1, round(sum(phase.seconds for phase in run.phases) / _MIX_S))
    counts = {variant: _windows(mix.at_s, mix.items[variant], length) for variant in used}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    keys = [(STAGE_COLOURS[i % len(STAGE_COLOURS)], "area", variant) for i, variant in enumerate(used)]

    def paint(axes: Any) -> None:
        edges = [index * _MIX_S for index in range(length + 1)]
        base = [0.0] * length
        for colour, _, variant in keys:
            shares = [
                100.0 * number / total if total else 0.0 for number, total in zip(counts[variant], totals, strict=True)
            ]
            top = [below + more for below, more in zip(base, shares, strict=True)]
            axes.stairs(top, edges, baseline=base, fill=True, color=INK[colour], linewidth=0)
            base = top
        axes.set_ylim(0, 100)

    return draw(f"mix-{stage}", f"{stage}: variants, % of its items", keys, paint, _axis(run), HALF)


def _windows(at_s: Sequence[float], items: Sequence[int], length: int) -> list[int]:
    """Counts per window; what was counted at its end belongs to it."""
    found = [0] * length
    for at, number in zip(at_s, items, strict=True):
        found[min(length - 1, max(0, int((at - 1e-9) / _MIX_S)))] += number
    return found


def _edges(control: ControlView) -> list[float]:
    """Where the seconds of a server's account begin and end."""
    return [max(0.0, control.at_s[0] - 1.0), *control.at_s]
