"""The sections of a report that only a demo has: both policies told and tabled side by side, promises, decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from html import escape

from triscale.errors import ConfigError
from triscale.observe.demo_wording import accuracy_text, promises, told_phases, uncertainty, while_it_ran
from triscale.observe.report_demo_plots import mix_plots
from triscale.observe.report_document import DecisionView, PhaseView, ReportDocument
from triscale.observe.report_html import element, figure, prose, table, tile
from triscale.observe.report_svg import OUTCOME_COLOURS
from triscale.observe.wording import NOTHING, count, milliseconds, percent

__all__ = ["decisions", "mixes", "phases_side_by_side", "surge_tiles", "told"]

_MARKS = {True: ("✓", "good"), False: ("✗", "bad"), None: ("?", "")}
_SHOWN = 60
"""Most decisions in the table."""


def told(run: ReportDocument) -> str:
    """What happened, phase by phase, and what of it was promised."""
    parts = []
    for phase in told_phases(run):
        sentences = "".join(element("p", prose(sentence)) for sentence in phase.sentences)
        parts.append(element("section", element("h3", escape(phase.name)) + element("div", sentences), "phase"))
    kept = "".join(
        f'<li><b class="{mood}">{mark}</b> {prose(promise.text)}</li>'
        for promise in promises(run)
        for mark, mood in (_MARKS[promise.kept],)
    )
    remarks = "".join(element("p", prose(remark)) for remark in while_it_ran(run))
    return (
        "".join(parts)
        + (element("h2", "What it was to show") + element("ul", kept, "promises") if kept else "")
        + (element("div", remarks, "notes") if remarks else "")
    )


def surge_tiles(run: ReportDocument) -> Iterator[str]:
    """The figures of the surge."""
    surge = run.surge
    if surge is None or len(run.phases) <= surge.phase:
        return
    for each in (run, run.against):
        if each is not None and len(each.phases) > surge.phase:
            met = each.phases[surge.phase]
            yield tile(f"Surge, {each.policy}", percent(met.attainment), f"{count(met.goodput_per_s)}/s in time")
    phase = run.phases[surge.phase]
    if phase.expected_accuracy is not None:
        top = percent(run.ceiling.accuracy) if run.ceiling is not None else NOTHING
        yield tile("Its accuracy", percent(phase.expected_accuracy), f"expected; {top} at most")
    if phase.accuracy is not None:
        yield tile("Measured", percent(phase.accuracy), f"± {uncertainty(phase)} on {count(phase.scored)} answers")
    if surge.back_after_s is not None:
        yield tile("Back at the top", f"{surge.back_after_s:.0f} s", "after the surge")


def phases_side_by_side(run: ReportDocument) -> str:
    """Figures down, phases across, each under both policies."""
    runs = [run] if run.against is None else [run, run.against]
    names = [""]
    columns: list[PhaseView | None] = []
    for index, phase in enumerate(run.phases):
        for each in runs:
            names.append(f"{phase.name}, {each.policy}" if len(runs) > 1 else phase.name)
            columns.append(each.phases[index] if index < len(each.phases) else None)
    present = [phase for phase in columns if phase is not None]
    rows = [
        [name, *(NOTHING if phase is None else cell(phase) for phase in columns)] for name, cell in _figures(present)
    ]
    return element("h2", "Side by side" if len(runs) > 1 else "Phases") + table(names, rows, kind="compact")


def mixes(run: ReportDocument) -> str:
    """Which variants ran, over time."""
    try:
        plots = mix_plots(run)
    except ConfigError:
        return ""
    if not plots:
        return ""
    title = element("h2", f"Accuracy: which variants ran under {escape(run.policy)}")
    return title + element("div", "".join(map(figure, plots)), "pairs")


def decisions(run: ReportDocument) -> str:
    """What was decided when, from what, and why; folded away, and thinned where there is too much of it."""
    found = run.control.decisions if run.control is not None else ()
    if not found:
        return ""
    chosen = _thinned(found)
    rows = [
        [
            f"{each.at_s:.1f} s",
            escape(each.mode),
            f"{count(each.demand)}/s",
            count(each.cores),
            percent(each.accuracy),
            escape(each.reason),
        ]
        for each in chosen
    ]
    some = f", {len(chosen)} of them shown" if len(chosen) < len(found) else ""
    summary = element("summary", f"{count(len(found))} decisions of {escape(run.policy)}{some}")
    header = ["when", "mode", "demand", "cores", "accuracy", "why"]
    return element("h2", "Decisions") + element("details", summary + table(header, rows, text={1, 5}))


def _figures(phases: list[PhaseView]) -> Iterator[tuple[str, Callable[[PhaseView], str]]]:
    yield "arrivals", lambda phase: NOTHING if phase.rate_per_s is None else f"{count(phase.rate_per_s)}/s"
    yield "requests", lambda phase: count(phase.sent)
    yield "attainment", lambda phase: percent(phase.attainment)
    if any(phase.late_at_client for phase in phases):
        yield "attainment at the client", lambda phase: percent(phase.attainment_at_client)
    yield "goodput", lambda phase: f"{count(phase.goodput_per_s)}/s"
    for outcome, colour in OUTCOME_COLOURS.items():
        if any(getattr(phase, outcome) for phase in phases):
            name = f'<span class="dot" style="--key: var({colour})"></span>{escape(outcome)}'
            yield name, partial(_counted, outcome)
    yield "latency p50", lambda phase: milliseconds(phase.latency_ms.p50)
    yield "latency p99", lambda phase: milliseconds(phase.latency_ms.p99)
    if any(phase.expected_accuracy is not None for phase in phases):
        yield "expected accuracy", lambda phase: percent(phase.expected_accuracy)
    if any(phase.accuracy is not None for phase in phases):
        yield "measured accuracy", accuracy_text
        yield "answers scored", lambda phase: count(phase.scored)
    if any(phase.held_cores is not None for phase in phases):
        yield "cores held", lambda phase: _cores(phase.held_cores)
        yield "cores at work", lambda phase: _cores(phase.busy_cores)


def _counted(outcome: str, phase: PhaseView) -> str:
    number: int = getattr(phase, outcome)
    return count(number) if number else element("span", "0", "zero")


def _cores(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _thinned(found: tuple[DecisionView, ...]) -> list[DecisionView]:
    """All, or a regular choice of them."""
    if len(found) <= _SHOWN:
        return list(found)
    step = len(found) / _SHOWN
    return [found[int(index * step)] for index in range(_SHOWN)]
