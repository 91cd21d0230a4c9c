"""Several policies on the same arrivals as one HTML page, in the style of a run's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from triscale.core.figures import rounded
from triscale.errors import ConfigError
from triscale.observe.report_html import element, figure, page, prose, table
from triscale.observe.simulation_comparison import ACCURACY_MARGIN, COST_MARGIN, ORACLE, Standing, remarks, standings
from triscale.observe.simulation_comparison_plots import colours_of, plots_of_comparison
from triscale.observe.simulation_document import SimulationView, read_simulation
from triscale.observe.simulation_report import facts_section
from triscale.observe.simulation_statistics import Interval
from triscale.observe.simulation_wording import actions_text, cause_text, figure_text
from triscale.observe.wording import NOTHING, count, percent

__all__ = ["comparison_headline", "render_comparison"]

_FOOTER = (
    "<footer><p>Every policy met the same arrivals and the same items per request. ± and the thin lines: 95 % "
    "confidence intervals of the mean over the seeds (Student's t); one seed has none. <b>Violations</b>: requests "
    "that were late, dropped, shed or failed. <b>Fewer violations</b>: fewer beyond doubt, seed by seed. <b>Not "
    f"worse</b>: an accuracy lower by at most {100 * ACCURACY_MARGIN:g} points, core-seconds more by at most "
    f"{100 * COST_MARGIN:g} %. <b>Accuracy</b>: the mean over the requests answered in time. The <b>oracle</b> knows "
    "the rate to come and acts at once.</p></footer>"
)


def render_comparison(
    documents: Sequence[Mapping[str, object]], facts: Mapping[str, str], problems: Sequence[str] = ()
) -> str:
    """The page for the results of several policies and seeds; `facts` say what was simulated, `problems` what failed.

    The same arguments give the same bytes. ConfigError when a document is not that of a result, or there is none.
    """
    if not documents:
        raise ConfigError("there is no result to compare: every policy failed")
    found = standings([read_simulation(document) for document in documents])
    sections = (
        _head(found, problems),
        _figures(found),
        _plots(found),
        _causes(found),
        _actions(found),
        facts_section(facts),
        _FOOTER,
    )
    return page(f"{found[0].runs[0].pipeline}: {len(found)} policies compared", sections)


def comparison_headline(found: Sequence[Standing]) -> str:
    """Who missed least, in one sentence."""
    contenders = [each for each in found if each.policy != ORACLE] or list(found)
    known = [(missed.mean, each) for each in contenders if (missed := each.missed) is not None]
    if not known:
        return "No request was counted"
    least = min(share for share, _ in known)
    best = [each for share, each in known if share == least]
    who = best[0].policy if len(best) == 1 else f"{len(best)} of {len(contenders)} policies"
    if least == 0.0:
        return f"{who} answered every request in time"
    return f"{who} missed the least: {percent(least)} of the requests"


def _head(found: Sequence[Standing], problems: Sequence[str]) -> str:
    seeds = len({run.seed for each in found for run in each.runs})
    pipeline = escape(found[0].runs[0].pipeline)
    kicker = f"<b>triscale</b> · policies compared on {pipeline} · {seeds} {'seed' if seeds == 1 else 'seeds'}"
    lines = "".join(element("li", prose(line)) for line in remarks(found))
    notes = [*problems, *_own_problems(found)]
    return (
        element("p", kicker, "kicker")
        + element("h1", prose(comparison_headline(found)))
        + (element("ul", lines, "remarks") if lines else "")
        + (element("div", "".join(element("p", prose(note)) for note in notes), "notes") if notes else "")
    )


def _own_problems(found: Sequence[Standing]) -> list[str]:
    """What went wrong inside the runs, each thing once."""
    named = {
        problem if problem.startswith(f"policy {each.policy}") else f"{each.policy}: {problem}": None
        for each in found
        for run in each.runs
        for problem in run.problems
    }
    return list(named)


def _figures(found: Sequence[Standing]) -> str:
    header = ["policy", "attainment %", "violations", "vs first", "accuracy %", "core-seconds", "p99 ms"]
    rows = [
        [
            escape(each.policy),
            figure_text(each.attainment, 2, 100.0),
            figure_text(each.violations),
            NOTHING if each.relative is None else rounded(each.relative, 2),
            figure_text(each.accuracy, 2, 100.0),
            figure_text(each.core_seconds),
            figure_text(each.p99_ms),
        ]
        for each in found
    ]
    panels = (
        _bars("Violations, % of the requests", found, lambda each: each.missed, 2, 100.0),
        _bars("Core-seconds", found, lambda each: each.core_seconds),
        _bars("Accuracy, %", found, lambda each: each.accuracy, 2, 100.0),
        _bars("p99 latency, ms", found, lambda each: each.p99_ms),
    )
    return element("h2", "Side by side") + table(header, rows) + element("div", "".join(panels), "pairs panels")


def _bars(
    title: str,
    found: Sequence[Standing],
    value: Callable[[Standing], Interval | None],
    decimals: int = 0,
    scale: float = 1.0,
) -> str:
    """A bar for each policy, and its confidence interval as a thin line over the bar's end."""
    colours = colours_of(found)
    full = max((mean.high for each in found if (mean := value(each)) is not None), default=0.0)
    cells = []
    for each in found:
        mean = value(each)
        bar = _bar(mean, full, colours[each.policy]) if mean is not None and full > 0.0 else ""
        figures = escape(figure_text(mean, decimals, scale))
        cells.append(element("span", escape(each.policy)) + element("div", bar, "track") + element("span", figures))
    return f"<figure>{element('h3', escape(title))}{element('div', ''.join(cells), 'bars')}</figure>"


def _bar(mean: Interval, full: float, colour: str) -> str:
    fill = f'<i class="fill" style="--key: var({colour}); width: {100.0 * mean.mean / full:.2f}%"></i>'
    if mean.half is None:
        return fill
    low = max(0.0, mean.low)
    return fill + (
        f'<i class="span" style="left: {100.0 * low / full:.2f}%; width: {100.0 * (mean.high - low) / full:.2f}%"></i>'
    )


def _plots(found: Sequence[Standing]) -> str:
    try:
        plots = plots_of_comparison(found)
    except ConfigError as error:
        return element("h2", "Over time") + element("div", element("p", escape(str(error))), "notes")
    return element("h2", "Cost, and how it went") + "".join(map(figure, plots)) if plots else ""


def _causes(found: Sequence[Standing]) -> str:
    """Requests per run by outcome, place and reason: causes down, policies across."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for each in found:
        for run in each.runs:
            for cause in run.causes:
                row = sums.setdefault((cause.outcome, cause_text(cause)), {})
                row[each.policy] = row.get(each.policy, 0) + cause.requests
    if not sums:
        return ""
    rows = []
    for (outcome, text), by_policy in sorted(sums.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        cells = [_per_run(by_policy.get(each.policy, 0), each.runs) for each in found]
        rows.append([escape(outcome), escape(text), *cells])
    title = element("h2", "What was not answered in time, where and why")
    lead = element("p", "Requests per run.", "lead")
    return title + lead + table(["outcome", "where and why", *(each.policy for each in found)], rows, text={1})


def _per_run(total: int, runs: Sequence[SimulationView]) -> str:
    return count(total / len(runs)) if total else element("span", "0", "zero")


def _actions(found: Sequence[Standing]) -> str:
    rows = [[escape(each.policy), escape(actions_text(each.runs[0].actions))] for each in found]
    lead = element("p", f"With seed {found[0].runs[0].seed}.", "lead")
    return element("h2", "What the policies did") + lead + table(["policy", "actions"], rows, text={1})
