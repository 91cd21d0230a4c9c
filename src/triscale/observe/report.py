"""A run as one HTML page: self-contained, without scripts, readable in light and dark, on a phone and on paper.

`render` puts the sections together; each section is a function from the document to HTML, or to nothing where the
document has no data for it. Plots need matplotlib (`report_plots.py`); without it their figures stand in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape

from triscale.errors import ConfigError
from triscale.observe.report_demo import decisions, mixes, phases_side_by_side, surge_tiles, told
from triscale.observe.report_document import PhaseView, ReasonView, ReportDocument, SampleView, read_document
from triscale.observe.report_html import element, figure, marked, page, picture, prose, table, tile
from triscale.observe.report_plots import plots_of
from triscale.observe.report_svg import OUTCOME_COLOURS
from triscale.observe.wording import (
    NOTHING,
    cores_sentence,
    count,
    headline,
    milliseconds,
    percent,
    phase_sentences,
    reason_text,
    text_of,
)

__all__ = ["render"]


def render(document: Mapping[str, object]) -> str:
    """The page for the JSON of a run (`report_document.py`); ConfigError when it is none."""
    run = read_document(document)
    title = run.title or f"{run.pipeline} under load"
    sections = [_head(run, title), _plots(run), mixes(run), _phases(run), _reasons(run), _stages(run), _samples(run)]
    return page(title, (*sections, decisions(run), _place(run), _FOOTER))


_FOOTER = (
    "<footer><p>A request counts in the second in which it was meant to be sent, and its latency from that moment. "
    "<b>Answered</b>: correctly and within the objective. <b>Late</b>: answered after it. <b>Dropped</b>: given up at "
    "a stage because it could not be in time. <b>Shed</b>: refused at the door. <b>Attainment</b>: answered requests "
    "as a share of all. <b>Goodput</b>: requests answered per second. Latency is that of answered and late "
    "requests.</p></footer>"
)


def _head(run: ReportDocument, title: str) -> str:
    facts = [escape(title), escape(run.created), "stopped early" if run.stopped else ""]
    kicker = " · ".join(["<b>triscale</b>", *(fact for fact in facts if fact)])
    against = run.against
    elsewhere = [f"under {against.policy}: {problem}" for problem in against.problems] if against is not None else []
    notes = "".join(element("p", prose(problem)) for problem in (*run.problems, *elsewhere))
    return (
        element("p", kicker, "kicker")
        + element("h1", prose(headline(run)))
        + element("dl", "".join(_tiles(run)), "tiles")
        + (told(run) if run.control is not None else "".join(_told(phase, run.slo_ms) for phase in run.phases))
        + (element("div", notes, "notes") if notes else "")
    )


def _told(phase: PhaseView, slo_ms: float) -> str:
    sentences = "".join(element("p", prose(sentence)) for sentence in phase_sentences(phase, slo_ms))
    return element("section", element("h3", escape(phase.name)) + element("div", sentences), "phase")


def _tiles(run: ReportDocument) -> Iterator[str]:
    surge = list(surge_tiles(run))
    yield from surge or _general_tiles(run)
    agreed = [each.counts_agree for each in (run, run.against) if each is not None and each.counts_agree is not None]
    if agreed:
        word, mood = ("agree", "good") if all(agreed) else ("differ", "bad")
        yield tile("Server and client", word, "on the count of each outcome", mood)


def _general_tiles(run: ReportDocument) -> Iterator[str]:
    sent = sum(phase.sent for phase in run.phases)
    answered = sum(phase.answered for phase in run.phases)
    seconds = sum(phase.seconds for phase in run.phases)
    share = percent(answered / sent if sent else None)
    by_phase = "\n".join(f"{phase.name} {percent(phase.attainment)}" for phase in run.phases)
    yield tile("Attainment", share, by_phase)
    by_phase = "\n".join(f"{phase.name} {count(phase.goodput_per_s)}/s" for phase in run.phases)
    yield tile("Goodput", f"{count(answered / seconds if seconds else 0.0)}/s", by_phase)
    if run.plan and run.plan.capacity_per_s:
        cores = f"on {count(run.plan.cores)} cores" if run.plan.cores else "of the plan"
        yield tile("Planned capacity", f"{count(run.plan.capacity_per_s)}/s", cores)
    scored = sum(phase.scored for phase in run.phases if phase.accuracy is not None)
    if scored:
        total = sum(phase.accuracy * phase.scored for phase in run.phases if phase.accuracy is not None)
        yield tile("Measured accuracy", percent(total / scored), f"of {count(scored)} answers")


def _plots(run: ReportDocument) -> str:
    title = element("h2", "Over time")
    try:
        plots = plots_of(run)
    except ConfigError as error:
        return title + element("div", element("p", escape(str(error))), "notes") + _series_table(run)
    return title + "".join(map(figure, plots)) if plots else ""


def _series_table(run: ReportDocument) -> str:
    series = run.series
    names = [name for name in ("sent", *OUTCOME_COLOURS) if len(getattr(series, name)) == len(series.sent)]
    rows = [[str(at), *(count(getattr(series, name)[at]) for name in names)] for at in range(len(series.sent))]
    return table(["second", *names], rows) if rows else ""


def _phases(run: ReportDocument) -> str:
    """Figures down, phases across: a page is long, and a phone narrow."""
    if run.control is not None:
        return phases_side_by_side(run)
    rows: list[tuple[str, Callable[[PhaseView], str]]] = [
        ("arrivals", lambda phase: NOTHING if phase.rate_per_s is None else f"{count(phase.rate_per_s)}/s"),
        ("length", lambda phase: f"{count(phase.seconds)} s"),
        ("requests", lambda phase: count(phase.sent)),
        *((_outcome(outcome), partial(_counted, outcome)) for outcome in OUTCOME_COLOURS),
        ("attainment", lambda phase: percent(phase.attainment)),
        ("goodput", lambda phase: f"{count(phase.goodput_per_s)}/s"),
        ("latency p50", lambda phase: milliseconds(phase.latency_ms.p50)),
        ("latency p95", lambda phase: milliseconds(phase.latency_ms.p95)),
        ("latency p99", lambda phase: milliseconds(phase.latency_ms.p99)),
    ]
    if any(phase.late_at_client for phase in run.phases):
        rows.append(("attainment at the client", lambda phase: percent(phase.attainment_at_client)))
    if any(phase.accuracy is not None for phase in run.phases):
        rows.append(("measured accuracy", lambda phase: percent(phase.accuracy)))
    names = ["", *(phase.name for phase in run.phases)]
    return element("h2", "Phases") + table(
        names, [[name, *map(figure, run.phases)] for name, figure in rows], kind="compact"
    )


def _counted(outcome: str, phase: PhaseView) -> str:
    number: int = getattr(phase, outcome)
    return count(number) if number else element("span", "0", "zero")


def _outcome(outcome: str) -> str:
    colour = OUTCOME_COLOURS.get(outcome, "--quiet")
    return f'<span class="dot" style="--key: var({colour})"></span>{escape(outcome)}'


def _reasons(run: ReportDocument) -> str:
    rows = [_reason_row(phase.name, reason) for phase in run.phases for reason in phase.reasons]
    if not rows:
        return ""
    title = element("h2", "What was not answered in time, where and why")
    return title + table(["phase", "outcome", "where", "why", "requests"], rows, text={1, 2, 3})


def _reason_row(phase: str, reason: ReasonView) -> list[str]:
    where = reason.stage or ("at the door" if reason.outcome == "shed" else NOTHING)
    why = reason_text(reason.reason) or NOTHING
    return [escape(phase), _outcome(reason.outcome), escape(where), escape(why), count(reason.count)]


def _stages(run: ReportDocument) -> str:
    if not run.stages:
        return ""
    rows = [
        [
            escape(stage.name),
            escape(", ".join(stage.variants) or NOTHING),
            NOTHING if stage.cores is None else f"{stage.cores:.2f}",
            NOTHING if stage.items is None else count(stage.items),
            NOTHING if stage.batch_mean is None else f"{stage.batch_mean:.1f}",
            milliseconds(stage.queue_ms),
            milliseconds(stage.service_ms),
        ]
        for stage in run.stages
    ]
    header = ["stage", "variants", "cores at work", "items", "items per batch", "mean wait", "mean batch time"]
    facts = [run.plan.reason if run.plan else "", cores_sentence(run)]
    lead = "".join(element("p", prose(fact), "lead") for fact in facts if fact)
    return element("h2", "Stages") + lead + table(header, rows, text={1})


def _samples(run: ReportDocument) -> str:
    if not run.samples:
        return ""
    articles = "".join(_sample(sample) for sample in run.samples)
    says = element("p", f"Accuracy: {escape(run.score_says)}", "lead") if run.score_says else ""
    return element("h2", "What was read") + says + element("div", articles, "samples")


def _sample(sample: SampleView) -> str:
    figures = [] if sample.score is None else [f"accuracy {percent(sample.score)}"]
    if sample.latency_ms is not None:
        figures.append(f"answered after {milliseconds(sample.latency_ms)}")
    truth, read = marked(text_of(sample.truth), text_of(sample.read))
    image = picture(sample.image) if sample.image else ""
    texts = "".join(
        element("div", element("h3", name) + element("pre", html)) for name, html in (("truth", truth), ("read", read))
    )
    beside = element("p", escape(" · ".join(figures)), "figures") + element("div", texts, "texts")
    return element("article", image + element("div", beside), "sample" if image else "sample bare")


def _place(run: ReportDocument) -> str:
    html = ""
    if run.machine:
        machine = run.machine
        facts = {
            "Processor": ", ".join(part for part in (machine.cpu, f"{machine.cores} cores") if part),
            "Memory": f"{machine.memory_bytes / 2**30:.0f} GiB" if machine.memory_bytes else "",
            "System": machine.os,
            "Python": machine.python,
        }
        rows = "".join(element("dt", name) + element("dd", escape(value)) for name, value in facts.items() if value)
        html += element("h2", "Where it ran") + element("dl", rows, "facts")
    if run.commands:
        html += element("h2", "Try it")
        for command in run.commands:
            html += element("div", element("p", escape(command.does)) + element("pre", escape(command.line)), "command")
    return html
