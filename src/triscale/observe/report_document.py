"""What the HTML report reads: the JSON of a run, whoever made it (the demo, a replay, a simulation).

Everything but the phases may be missing, and what is not named here is ignored, so that a document can carry more
than the report shows. `traces/results.py` says what the figures mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from triscale.errors import ConfigError

__all__ = [
    "CeilingView",
    "Command",
    "ControlView",
    "DecisionView",
    "LatencyView",
    "MachineView",
    "MixView",
    "PhaseView",
    "PlanView",
    "ReasonView",
    "ReportDocument",
    "SampleView",
    "SeriesView",
    "StageView",
    "SurgeView",
    "read_document",
]


class LatencyView(Struct, frozen=True, kw_only=True):
    """Percentiles in ms."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class ReasonView(Struct, frozen=True, kw_only=True):
    """Requests that ended in one way for one reason at one place."""

    outcome: str
    count: int
    reason: str = ""
    stage: str = ""


class PhaseView(Struct, frozen=True, kw_only=True):
    """One phase of the run."""

    name: str
    seconds: float
    sent: int
    answered: int
    late: int = 0
    dropped: int = 0
    shed: int = 0
    failed: int = 0
    cancelled: int = 0
    rate_per_s: float | None = None
    attainment: float | None = None
    goodput_per_s: float = 0.0
    latency_ms: LatencyView = LatencyView()
    accuracy: float | None = None
    """Measured: the mean score of the answers that were scored."""
    accuracy_error: float | None = None
    """Its standard error."""
    scored: int = 0
    late_at_client: int = 0
    """Of the answered ones, by the server's word: those that the client got after the objective."""
    expected_accuracy: float | None = None
    """Mean accuracy, as stated or profiled, of the variants that ran for the requests answered in time."""
    busy_cores: float | None = None
    """At work, on average."""
    held_cores: float | None = None
    reasons: tuple[ReasonView, ...] = ()

    @property
    def attainment_at_client(self) -> float | None:
        """Share of the requests whose answer the client had within the objective."""
        return (self.answered - self.late_at_client) / self.sent if self.sent else None


class SeriesView(Struct, frozen=True, kw_only=True):
    """One entry a second."""

    sent: tuple[float, ...] = ()
    answered: tuple[float, ...] = ()
    late: tuple[float, ...] = ()
    dropped: tuple[float, ...] = ()
    shed: tuple[float, ...] = ()
    failed: tuple[float, ...] = ()
    cancelled: tuple[float, ...] = ()
    p50_ms: tuple[float | None, ...] = ()
    p99_ms: tuple[float | None, ...] = ()


class SampleView(Struct, frozen=True, kw_only=True):
    """One answer beside the truth."""

    truth: Any = None
    read: Any = None
    score: float | None = None
    latency_ms: float | None = None
    image: str = ""
    """JPEG in base64."""


class StageView(Struct, frozen=True, kw_only=True):
    """One stage over the whole run."""

    name: str
    variants: tuple[str, ...] = ()
    """Those that ran, the most used first."""
    cores: float | None = None
    """Mean cores at work on it."""
    items: int | None = None
    batch_mean: float | None = None
    queue_ms: float | None = None
    """Mean wait before a lane."""
    service_ms: float | None = None
    """Mean time of a batch on a lane."""
    cores_series: tuple[tuple[float, float], ...] = ()
    """(second, cores at work on it)."""


class PlanView(Struct, frozen=True, kw_only=True):
    """What the server ran by."""

    capacity_per_s: float | None = None
    cores: float | None = None
    accuracy: float | None = None
    reason: str = ""


class MixView(Struct, frozen=True, kw_only=True):
    """What the variants of a stage were handed, look by look."""

    at_s: tuple[float, ...]
    items: Mapping[str, tuple[int, ...]]
    """Variant -> items since the look before."""


class DecisionView(Struct, frozen=True, kw_only=True):
    """A change of plan."""

    at_s: float
    mode: str
    demand: float
    cores: float
    accuracy: float
    kind: str = "other"
    reason: str = ""


class ControlView(Struct, frozen=True, kw_only=True):
    """What the server did about the load, by its own account; columns with one entry for about each second."""

    at_s: tuple[float, ...]
    """Where each second ends."""
    answered_per_s: tuple[float, ...]
    capacity_per_s: tuple[float | None, ...]
    """Of the plan in force."""
    accuracy: tuple[float | None, ...]
    """Expected, of the requests answered in time."""
    cores_start: tuple[float, ...]
    cores_up: tuple[float, ...]
    cores_out: tuple[float, ...]
    busy_cores: tuple[float, ...]
    replicas: tuple[tuple[float, int, int], ...] = ()
    """(second, ready, starting)."""
    mixes: Mapping[str, MixView] = {}
    """Stage -> what its variants ran."""
    decisions: tuple[DecisionView, ...] = ()


class CeilingView(Struct, frozen=True, kw_only=True):
    """What the most accurate variants carry on all cores (`policy/autoscalers/ceiling.py`)."""

    variants: Mapping[str, str]
    accuracy: float
    within_slo_per_s: float
    capacity_per_s: float


class SurgeView(Struct, frozen=True, kw_only=True):
    """The phase that brings more than the most accurate variants can carry."""

    phase: int
    times: float
    """Its rate over what they can carry."""
    needs_accuracy: float
    """That the planner leaves at this rate on a machine as profiled..."""
    needs_served: float = 1.0
    """...and the part of the requests that it serves at all."""
    needs_then: float | None = None
    """The same on the machine as it was then, by the latencies that the server had measured."""
    served_then: float = 1.0
    back_after_s: float | None = None
    """From its end until answers were of the highest accuracy again; None: not before the run ended."""


class MachineView(Struct, frozen=True, kw_only=True):
    """Where it ran."""

    cpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    python: str = ""
    os: str = ""


class Command(Struct, frozen=True, kw_only=True):
    """A command line, and what it does."""

    does: str
    line: str


class ReportDocument(Struct, frozen=True, kw_only=True):
    """A run, as the report sees it."""

    pipeline: str
    slo_ms: float
    phases: tuple[PhaseView, ...]
    policy: str = ""
    """Who decided."""
    policy_says: str = ""
    """What that means, in words."""
    title: str = ""
    created: str = ""
    """When, for people."""
    counts_agree: bool | None = None
    score_says: str = ""
    """What the accuracy measures, in the words of whoever wrote the score function."""
    samples: tuple[SampleView, ...] = ()
    series: SeriesView = SeriesView()
    stages: tuple[StageView, ...] = ()
    plan: PlanView | None = None
    machine: MachineView | None = None
    commands: tuple[Command, ...] = ()
    problems: tuple[str, ...] = ()
    stopped: bool = False
    control: ControlView | None = None
    ceiling: CeilingView | None = None
    surge: SurgeView | None = None
    slowdown: float | None = None
    """How many times longer the models took than profiled, in the end."""
    others_cores: float | None = None
    """Cores that processes which have nothing to do with the run used meanwhile."""
    against: ReportDocument | None = None
    """The same load under another policy."""


def read_document(document: Mapping[str, object]) -> ReportDocument:
    """The document, checked; ConfigError says what does not fit."""
    try:
        return msgspec.convert(document, ReportDocument)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the document is not the JSON of a run: {error}; make one with `triscale demo --json`"
        ) from None
