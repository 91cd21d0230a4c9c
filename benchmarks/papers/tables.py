"""Results as tables of Markdown: means over the seeds, with half of a 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.papers.claims import Totals
from benchmarks.papers.experiment import Contender, Results
from benchmarks.papers.settings import TRISCALE, Tuned
from benchmarks.papers.worlds import Case
from triscale.observe.simulation_statistics import interval
from triscale.observe.simulation_wording import figure_text
from triscale.sim.result import Result

__all__ = [
    "axes_table",
    "contenders_table",
    "figure",
    "mean_cores",
    "missed",
    "seconds_missed",
    "sweep_table",
    "table",
    "tuning_table",
]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are flush right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def figure(results: Sequence[Result], of: Callable[[Result], float | None], decimals: int = 0) -> str:
    """One figure over the seeds."""
    return figure_text(interval([value for result in results if (value := of(result)) is not None]), decimals)


def missed(result: Result) -> float:
    """Requests that were not answered in time, in % of all."""
    return 100.0 * result.violations.total / max(1, result.requests)


def seconds_missed(result: Result, seconds: Sequence[int]) -> float:
    """The same of the requests that arrived in these seconds of the trace, by number."""
    series = result.series
    arrived = sum(series.arrivals[s] for s in seconds)
    return 100.0 * (1.0 - sum(series.answered[s] for s in seconds) / max(1, arrived))


def mean_cores(result: Result, seconds: Sequence[int]) -> float:
    """Cores held in these seconds of the trace."""
    return sum(result.series.cores[s] for s in seconds) / max(1, len(seconds))


def contenders_table(case: Case, contenders: Sequence[Contender], results: Results) -> str:
    """How each of them did in one case."""
    header = ("policy", "requests", "violations", "violations %", "accuracy %", "core-seconds", "p99 ms")
    rows = []
    for who in contenders:
        mine = results.of(case, who)
        rows.append(
            (
                who.name,
                figure(mine[:1], lambda r: r.requests),
                figure(mine, lambda r: r.violations.total),
                figure(mine, missed, 3),
                figure(mine, lambda r: None if r.accuracy is None else 100.0 * r.accuracy, 2),
                figure(mine, lambda r: r.core_seconds),
                figure(mine, lambda r: r.latency_ms.p99),
            )
        )
    return table(header, rows)


def axes_table(rows: Sequence[tuple[str, Sequence[Result]]]) -> str:
    """Where the core-seconds came from, and how accurate the answers were: means, one row per name."""
    header = ("", "start %", "up %", "out %", "accuracy %", "least accurate second %")
    return table(
        header,
        [
            (
                name,
                f"{_mean([_share(r, r.series.cores_start) for r in mine]):.0f}",
                f"{_mean([_share(r, r.series.cores_up) for r in mine]):.0f}",
                f"{_mean([_share(r, r.series.cores_out) for r in mine]):.0f}",
                f"{100.0 * Totals.of(mine).accuracy:.1f}",
                f"{_mean([_least_accurate(r) for r in mine]):.1f}",
            )
            for name, mine in rows
        ],
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _share(result: Result, cores: Sequence[float]) -> float:
    return 100.0 * sum(cores) / max(1e-9, sum(result.series.cores))


def _least_accurate(result: Result) -> float:
    series = result.series
    seconds = [total / count for total, count in zip(series.accuracy_sum, series.answered, strict=True) if count]
    return 100.0 * min(seconds, default=0.0)


def sweep_table(cases: Mapping[str, Case], contenders: Sequence[Contender], results: Results) -> str:
    """One row per value and its case, one column per contender."""
    rows = [(value, *(_short(Totals.of(results.of(case, who))) for who in contenders)) for value, case in cases.items()]
    return table(("", *(who.name for who in contenders)), rows)


def _short(total: Totals) -> str:
    return f"{total.missed:.3f}, {100.0 * total.accuracy:.1f}, {total.core_seconds / 1000.0:.1f}"


def tuning_table(tuned: Sequence[Tuned]) -> str:
    """Every setting that was tried, in every case."""
    everyone = {who.name: who for each in tuned for tried in each.tried.values() for who in (TRISCALE, *tried)}
    rows = []
    for name, who in everyone.items():
        cells = []
        for each in tuned:
            total = Totals.of(each.results.of(each.case, who))
            chosen = who.policy in each.best and each.best[who.policy].name == name
            cells.append(f"**{_short(total)}**" if chosen else _short(total))
        rows.append((name, *cells))
    said = "Settings tried: violations %, accuracy %, thousands of core-seconds; the best of each policy in bold."
    return f"{said}\n\n{table(('setting', *(each.case.name for each in tuned)), rows)}"
