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
    "Command",
    "LatencyView",
    "MachineView",
    "PhaseView",
    "PlanView",
    "ReasonView",
    "ReportDocument",
    "SampleView",
    "SeriesView",
    "StageView",
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
    scored: int = 0
    reasons: tuple[ReasonView, ...] = ()


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


def read_document(document: Mapping[str, object]) -> ReportDocument:
    """The document, checked; ConfigError says what does not fit."""
    try:
        return msgspec.convert(document, ReportDocument)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the document is not the JSON of a run: {error}; make one with `triscale demo --json`"
        ) from None
