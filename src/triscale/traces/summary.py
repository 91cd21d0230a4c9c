"""Records of a run made into its result: pure, exact, and the same for every way of running."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from triscale.core.request import Outcome
from triscale.traces.arrivals import Phase
from triscale.traces.records import OUTCOMES, Records
from triscale.traces.results import Lag, Latency, PhaseResult, Reasons, Seconds

__all__ = ["latency_sample", "percentile_ms", "phase_results", "seconds_series"]

Column = npt.NDArray[Any]

_CAUSES = 2**16
"""More than there are numbers of causes."""


def percentile_ms(seconds: Column, percent: float) -> float | None:
    """The smallest value, in ms, that at least `percent` % of `seconds` do not exceed; None when there are none."""
    if not len(seconds):
        return None
    return float(np.percentile(seconds, percent, method="inverted_cdf")) * 1000.0


def phase_results(phases: Sequence[Phase], records: Records, slo: float, ran: float) -> tuple[PhaseResult, ...]:
    """The result of each phase that began within the `ran` seconds of the run, scores left out. `slo` in seconds."""
    columns = records.columns()
    results = []
    start = 0.0
    for index, phase in enumerate(phases):
        seconds = min(phase.seconds, ran - start)
        if seconds <= 0.0:
            break
        rows = columns
        if len(phases) > 1:
            of_phase = columns["phase"] == index
            rows = {name: column[of_phase] for name, column in columns.items()}
        results.append(_phase_result(phase, seconds, rows, records, slo))
        start += phase.seconds
    return tuple(results)


def _phase_result(phase: Phase, seconds: float, rows: dict[str, Column], records: Records, slo: float) -> PhaseResult:
    outcome, latency, lag, behind = rows["outcome"], rows["latency"], rows["lag"], rows["behind"]
    counts = np.bincount(outcome, minlength=len(OUTCOMES))
    sent = len(outcome)
    answered = int(counts[Outcome.ANSWERED])
    responded = latency[outcome <= Outcome.LATE]
    lag = lag[~np.isnan(lag)]
    return PhaseResult(
        name=phase.name,
        seconds=seconds,
        rate_per_s=phase.rate_per_s,
        sent=sent,
        attainment=answered / sent if sent else None,
        goodput_per_s=answered / seconds,
        latency_ms=Latency(
            p50=percentile_ms(responded, 50),
            p95=percentile_ms(responded, 95),
            p99=percentile_ms(responded, 99),
            max=percentile_ms(responded, 100),
        ),
        late_at_client=int(np.count_nonzero((outcome == Outcome.ANSWERED) & (latency > slo))),
        behind_ms=_lag(behind),
        lag_ms=_lag(lag),
        reasons=_reasons(outcome, rows["cause"], records),
        **{name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)},
    )


def _lag(seconds: Column) -> Lag:
    return Lag(p50=percentile_ms(seconds, 50), p99=percentile_ms(seconds, 99), max=percentile_ms(seconds, 100))


def _reasons(outcome: Column, cause: Column, records: Records) -> tuple[Reasons, ...]:
    """All that were not answered in time, by why and where, the most frequent first."""
    missed = outcome != Outcome.ANSWERED
    counts = np.bincount(outcome[missed].astype(np.int64) * _CAUSES + cause[missed])
    rows = []
    for pair in np.flatnonzero(counts).tolist():
        kind, number = divmod(pair, _CAUSES)
        reason, stage = records.cause_of(number)
        rows.append(Reasons(outcome=OUTCOMES[kind], reason=reason, stage=stage, count=int(counts[pair])))
    return tuple(sorted(rows, key=lambda row: (-row.count, row.outcome, row.reason, row.stage)))


def seconds_series(records: Records, ran: float) -> Seconds:
    """The run second by second, by intended moment."""
    columns = records.columns()
    length = max(1, math.ceil(ran))
    second = np.minimum(columns["intended"].astype(np.int64), length - 1)
    outcome = columns["outcome"]
    counts = {
        name: tuple(np.bincount(second[outcome == value], minlength=length).tolist())
        for value, name in enumerate(OUTCOMES)
    }
    responded = outcome <= Outcome.LATE
    order = np.argsort(second[responded], kind="stable")
    latency = columns["latency"][responded][order]
    edges = np.searchsorted(second[responded][order], np.arange(length + 1))
    windows = [latency[edges[i] : edges[i + 1]] for i in range(length)]
    return Seconds(
        sent=tuple(np.bincount(second, minlength=length).tolist()),
        p50_ms=tuple(percentile_ms(window, 50) for window in windows),
        p99_ms=tuple(percentile_ms(window, 99) for window in windows),
        **counts,
    )


def latency_sample(records: Records, most: int) -> tuple[tuple[float, float], ...]:
    """(intended second, latency in ms) of every n-th request that was answered or late, at most `most` of them."""
    columns = records.columns()
    responded = np.flatnonzero(columns["outcome"] <= Outcome.LATE)
    responded = responded[np.argsort(columns["intended"][responded], kind="stable")]
    chosen = responded[:: max(1, math.ceil(len(responded) / most))]
    intended = columns["intended"][chosen].round(3).tolist()
    latency = (columns["latency"][chosen] * 1000.0).round(2).tolist()
    return tuple(zip(intended, latency, strict=True))
