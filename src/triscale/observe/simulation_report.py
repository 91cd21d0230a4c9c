"""One simulation as an HTML page, in the style of a run's report: self-contained, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from triscale.errors import ConfigError
from triscale.observe.report_html import element, figure, page, prose, table, tile
from triscale.observe.report_svg import OUTCOME_COLOURS, Plot
from triscale.observe.simulation_document import Decision, SimulationView, phase_of, read_simulation
from triscale.observe.simulation_plots import edges_of, plots_of_simulation, stage_plots, variants_used
from triscale.observe.simulation_wording import actions_text, cause_text, simulation_headline
from triscale.observe.wording import NOTHING, count, milliseconds, percent, phase_sentences

__all__ = ["facts_section", "render_simulation"]

_SHOWN = 25
"""Decisions that are seen at once; the others unfold."""
_MOST = 1000
"""Decisions on the page at all."""

_FOOTER = (
    "<footer><p>The same queues, batching, drops and policies as in the server, under a virtual clock; latencies are "
    "drawn from the profile. A request counts in the window in which it arrived. <b>Answered</b>: within the "
    "objective. <b>Late</b>: answered after it. <b>Dropped</b>: given up at a stage because it could not be in time. "
    "<b>Shed</b>: refused at the door. <b>Failed</b>: by a model or a lost replica. <b>Attainment</b>: answered "
    "requests as a share of all. <b>Accuracy</b>: the mean over the answered requests. Latency is that of answered and "
    "late requests. <b>Up</b>: cores that a live replica grew by in place. <b>Out</b>: cores of replicas that were "
    "launched.</p></footer>"
)


def render_simulation(document: Mapping[str, object], facts: Mapping[str, str]) -> str:
    """The page for a result (`simulation_document.py`); `facts` say what was simulated, name -> words.

    The same document and facts give the same bytes. ConfigError when the document is not that of a result.
    """
    run = read_simulation(document)
    sections = (
        _head(run),
        _plots(run),
        _causes(run),
        _decisions(run.decisions, run.actions.get("plan", 0)),
        facts_section(facts),
        _FOOTER,
    )
    return page(f"{run.pipeline} under {run.policy}", sections)


def facts_section(facts: Mapping[str, str]) -> str:
    """What was simulated."""
    rows = "".join(element("dt", escape(name)) + element("dd", escape(value)) for name, value in facts.items() if value)
    return element("h2", "What was simulated") + element("dl", rows, "facts") if rows else ""


def _head(run: SimulationView) -> str:
    kicker = " · ".join(["<b>triscale</b>", f"simulation of {escape(run.pipeline)}", f"seed {run.seed}"])
    told = "".join(element("p", prose(sentence)) for sentence in phase_sentences(phase_of(run), run.slo_ms))
    notes = "".join(element("p", prose(problem)) for problem in run.problems)
    return (
        element("p", kicker, "kicker")
        + element("h1", prose(simulation_headline(run)))
        + element("dl", "".join(_tiles(run)), "tiles")
        + element("section", element("h3", escape(run.policy)) + element("div", told), "phase")
        + (element("div", notes, "notes") if notes else "")
    )


def _tiles(run: SimulationView) -> Iterator[str]:
    missed, latency = run.violations, run.latency_ms
    causes = "\n".join(f"{name} {count(getattr(missed, name))}" for name in ("late", "dropped", "shed", "failed"))
    yield tile("Attainment", percent(run.attainment), f"of {count(run.requests)} requests")
    yield tile("Violations", count(missed.total), causes)
    yield tile("Accuracy", percent(run.accuracy), "of the requests answered in time")
    yield tile("Cores", f"{run.mean_cores:,.1f}", f"on average\n{count(run.core_seconds)} core-seconds")
    others = (("p50", latency.p50), ("p95", latency.p95), ("p99.9", latency.p99_9))
    tail = "\n".join(f"{name} {milliseconds(value)}" for name, value in others)
    yield tile("Latency p99", milliseconds(latency.p99), tail)
    changes = actions_text(run.actions).replace(", ", "\n")
    steps = sum(number for action, number in run.actions.items() if action in ("launch", "resize", "hold", "drain"))
    yield tile("Actions", count(steps), changes)


def _plots(run: SimulationView) -> str:
    title = element("h2", "Over time")
    try:
        whole, stages = plots_of_simulation(run), stage_plots(run)
    except ConfigError as error:
        return title + element("div", element("p", escape(str(error))), "notes") + _series(run)
    if not whole:
        return ""
    return title + "".join(map(figure, whole)) + _stages(run, stages)


def _stages(run: SimulationView, plots: Sequence[Plot]) -> str:
    """Their plots, and in words where one variant did all the work."""
    alone = [
        f"{name} ran on {variants[0]} alone."
        for name, stage in run.series.stages.items()
        if len(variants := variants_used(stage)) == 1
    ]
    told = element("p", escape(" ".join(alone)), "lead") if alone else ""
    shown = element("div", "".join(map(figure, plots)), "pairs") if plots else ""
    return element("h2", "Stage by stage") + told + shown if told or shown else ""


def _series(run: SimulationView) -> str:
    """The figures in place of the plots."""
    series, names = run.series, ("arrivals", "answered", "late", "dropped", "shed", "failed")
    rows = [
        [f"{start:g}", *(count(getattr(series, name)[index]) for name in names), f"{series.cores[index]:.1f}"]
        for index, start in enumerate(edges_of(run)[:-1])
    ]
    return table(["second", *names, "cores"], rows)


def _causes(run: SimulationView) -> str:
    if not run.causes:
        return ""
    rows = [
        [
            f'<span class="dot" style="--key: var({OUTCOME_COLOURS.get(cause.outcome, "--quiet")})"></span>'
            + escape(cause.outcome),
            escape(cause_text(cause)),
            count(cause.requests),
            percent(cause.requests / run.requests),
        ]
        for cause in run.causes
    ]
    title = element("h2", "What was not answered in time, where and why")
    return title + table(["outcome", "where and why", "requests", "of all"], rows, text={1})


def _decisions(decisions: Sequence[Decision], changes: int) -> str:
    if not decisions:
        return ""
    header = ["at", "why", "planned for", "can carry", "cores", "accuracy", "short of"]
    rows = [_decision(decision) for decision in decisions[:_MOST]]
    often = "once" if changes == 1 else f"{count(changes)} times"
    lead = f"The plan was changed {often}." if changes else "The plan was never changed."
    if len(rows) < len(decisions):
        lead += f" The first {count(len(rows))} that say something new are shown."
    html = element("h2", "Decisions, and their reasons") + element("p", escape(lead), "lead")
    html += table(header, rows[:_SHOWN], text={1, 6})
    if len(rows) > _SHOWN:
        more = element("summary", f"{count(len(rows) - _SHOWN)} more") + table(header, rows[_SHOWN:], text={1, 6})
        html += element("details", more)
    return html


_SHORT_OF = {"hardware": "nothing", "accuracy": "cores: less accurate variants", "overload": "cores: requests are shed"}


def _decision(decision: Decision) -> list[str]:
    return [
        f"{decision.t:,.1f}&nbsp;s",
        prose(decision.reason or NOTHING),
        f"{count(decision.demand)}/s" if decision.demand else NOTHING,
        f"{count(decision.capacity)}/s" if decision.capacity else NOTHING,
        count(decision.cores),
        percent(decision.accuracy),
        escape(_SHORT_OF.get(decision.mode, decision.mode)),
    ]
