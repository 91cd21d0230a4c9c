"""What a simulation found: how the requests ended, what it cost, and how both went over time.

The one definition of it, for the simulator, which adds what only the moment knows (`sim/result.py`), and for the pages
and the terminal, which show it. `observe` lies below `sim`, so a result comes here as its JSON
(`msgspec.to_builtins(result)`), like that of a run comes to the run's report.

Requests that arrive during the warm-up are in no figure here except `arrived` and `items`. In the series a request
belongs to the window in which it arrived, however late it ended, so that each window's arrivals are the sum of its
outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from triscale.errors import ConfigError
from triscale.observe.causes import Cause
from triscale.observe.report_document import LatencyView, PhaseView, ReasonView

__all__ = [
    "Decision",
    "Latency",
    "Series",
    "SimulationView",
    "StageSeries",
    "Violations",
    "phase_of",
    "read_simulation",
]


class Violations(Struct, frozen=True, kw_only=True):
    """Requests that were not answered in time, by how they ended."""

    late: int = 0
    dropped: int = 0
    shed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.late + self.dropped + self.shed + self.failed


class Latency(Struct, frozen=True, kw_only=True):
    """Time from arrival to answer, of all answered requests, late ones included. None where nothing was answered.

    The mean is exact, the quantiles are within 1 %.
    """

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_9: float | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """A plan that was taken over."""

    t: float
    """Seconds from the start."""
    reason: str
    demand: float
    """Requests/s that it was made for."""
    capacity: float
    cores: float
    accuracy: float
    mode: str


class StageSeries(Struct, frozen=True, kw_only=True):
    """One stage over time: one number per window."""

    cores_start: Sequence[float]
    """Mean cores held by the replicas that were there at the start, as far as they had them then. Where lanes share
    cores, they belong to no stage, and this and the next two are 0."""
    cores_up: Sequence[float]
    """Cores that replicas grew by in place since they were launched."""
    cores_out: Sequence[float]
    """Cores that replicas launched later began with."""
    busy_core_s: Sequence[float]
    """Core-seconds in which lanes ran batches."""
    items: Mapping[str, Sequence[int]]
    """Variant -> items handed to lanes."""


class Series(Struct, frozen=True, kw_only=True):
    """The run over time: one number per window, the first from `start_s` on; the last may be cut short."""

    window_s: float
    start_s: float
    """The end of the warm-up."""
    arrivals: Sequence[int]
    answered: Sequence[int]
    """In time."""
    late: Sequence[int]
    dropped: Sequence[int]
    shed: Sequence[int]
    failed: Sequence[int]
    accuracy_sum: Sequence[float]
    """Of the requests answered in time; divide by `answered` for their mean."""
    p99_ms: Sequence[float | None]
    """Of the answered requests; None where there are none."""
    cores: Sequence[float]
    """Mean cores held, over all stages; the sum of the next three."""
    cores_start: Sequence[float]
    cores_up: Sequence[float]
    cores_out: Sequence[float]
    busy_core_s: Sequence[float]
    capacity: Sequence[float]
    """Requests/s that the plan in force at the end of the window can carry; 0 = it does not say."""
    stages: Mapping[str, StageSeries]

    def times(self) -> list[float]:
        """Where each window begins, in seconds."""
        return [self.start_s + index * self.window_s for index in range(len(self.arrivals))]


class SimulationView(Struct, frozen=True, kw_only=True):
    """One policy on one trace. All of it is determined by the inputs and the seed."""

    policy: str
    pipeline: str
    slo_ms: float
    seed: int
    warmup_s: float
    simulated_s: float
    """Length of the trace. Requests that had not ended by then were simulated on to their ends."""
    arrived: int
    """All requests, those of the warm-up included."""
    requests: int
    """Those that are counted: the others are."""
    answered: int
    """In time."""
    violations: Violations
    attainment: float | None
    """Answered in time over all requests; None without requests."""
    accuracy: float | None
    """Mean of the requests answered in time; None without any."""
    core_seconds: float
    mean_cores: float
    latency_ms: Latency
    items: int
    """Completed, over all stages."""
    batches: int
    causes: Sequence[Cause]
    """Of all violations, the most frequent first."""
    actions: Mapping[str, int]
    """`plan` (changes of plan), `launch`, `resize`, `drain`, `lost` (replicas that died) -> how often."""
    decisions: Sequence[Decision]
    """Changes of plan in order, the first plan included; a plan that differs from the one before in none of these
    fields is left out, and so are those beyond the first ten thousand (`actions["plan"]` counts all)."""
    problems: Sequence[str]
    """What went wrong without ending the run: impossible plans by policy and rule, requests that nothing ran."""
    series: Series

    @property
    def counted_s(self) -> float:
        """Seconds that the figures are about."""
        return self.simulated_s - self.warmup_s


def read_simulation(document: Mapping[str, object]) -> SimulationView:
    """The document, checked; ConfigError says what does not fit."""
    try:
        return msgspec.convert(document, SimulationView)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the document is not the result of a simulation: {error}; make one with `Result.report()`"
        ) from None


def phase_of(run: SimulationView) -> PhaseView:
    """The whole run as the one phase of a run's report, so that both are told in the same words."""
    seconds = run.counted_s
    return PhaseView(
        name=run.policy,
        seconds=seconds,
        sent=run.requests,
        answered=run.answered,
        late=run.violations.late,
        dropped=run.violations.dropped,
        shed=run.violations.shed,
        failed=run.violations.failed,
        rate_per_s=run.requests / seconds if seconds > 0.0 else None,
        attainment=run.attainment,
        latency_ms=LatencyView(p50=run.latency_ms.p50, p95=run.latency_ms.p95, p99=run.latency_ms.p99),
        reasons=tuple(
            ReasonView(outcome=cause.outcome, count=cause.requests, reason=cause.reason, stage=cause.stage)
            for cause in run.causes
        ),
    )
