"""What the pages of simulations read: the JSON of `sim/result.py`, of which they name the fields that they show.

`observe` lies below `sim`, so a result comes here as its document (`msgspec.to_builtins(result)`), like the JSON of a
run comes to the run's report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from triscale.errors import ConfigError
from triscale.observe.report_document import LatencyView, PhaseView, ReasonView

__all__ = [
    "CauseView",
    "DecisionView",
    "SeriesView",
    "SimulationView",
    "StageSeriesView",
    "TailView",
    "ViolationsView",
    "phase_of",
    "read_simulation",
]


class ViolationsView(Struct, frozen=True, kw_only=True):
    """Requests that were not answered in time, by how they ended."""

    late: int = 0
    dropped: int = 0
    shed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.late + self.dropped + self.shed + self.failed


class CauseView(Struct, frozen=True, kw_only=True):
    """How many requests ended in one way, at one place, for one reason."""

    outcome: str
    stage: str = ""
    reason: str = ""
    requests: int


class TailView(Struct, frozen=True, kw_only=True):
    """Quantiles in ms."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_9: float | None = None


class DecisionView(Struct, frozen=True, kw_only=True):
    """A plan that was taken over, `t` seconds from the start."""

    t: float
    reason: str
    demand: float
    capacity: float
    cores: float
    accuracy: float
    mode: str


class StageSeriesView(Struct, frozen=True, kw_only=True):
    """One stage over time: one number per window."""

    cores_start: Sequence[float]
    cores_up: Sequence[float]
    cores_out: Sequence[float]
    busy_core_s: Sequence[float]
    items: Mapping[str, Sequence[int]]


class SeriesView(Struct, frozen=True, kw_only=True):
    """The run over time: one number per window."""

    window_s: float
    start_s: float
    arrivals: Sequence[int]
    answered: Sequence[int]
    late: Sequence[int]
    dropped: Sequence[int]
    shed: Sequence[int]
    failed: Sequence[int]
    accuracy_sum: Sequence[float]
    p99_ms: Sequence[float | None]
    cores: Sequence[float]
    cores_start: Sequence[float]
    cores_up: Sequence[float]
    cores_out: Sequence[float]
    capacity: Sequence[float]
    stages: Mapping[str, StageSeriesView]


class SimulationView(Struct, frozen=True, kw_only=True):
    """One policy on one trace, as the pages see it."""

    policy: str
    pipeline: str
    slo_ms: float
    seed: int
    warmup_s: float
    simulated_s: float
    requests: int
    answered: int
    violations: ViolationsView
    attainment: float | None
    accuracy: float | None
    core_seconds: float
    mean_cores: float
    latency_ms: TailView
    items: int
    causes: Sequence[CauseView]
    actions: Mapping[str, int]
    decisions: Sequence[DecisionView]
    problems: Sequence[str]
    series: SeriesView

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
