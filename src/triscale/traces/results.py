"""What a run of the load generator found, as JSON. Every figure is exact: no request is left out or estimated.

Words: a request is counted in the phase and second in which it was *meant* to be sent, and its latency counts from
that moment (so a server that stalls cannot hide behind a client that waits). Its outcome is what the server says in
the `triscale-outcome` header; a server without it is judged by status and latency. Percentiles are the smallest
observed value that at least so many percent of the observations do not exceed.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Lag", "Latency", "PhaseResult", "Reasons", "ReplayResult", "SampleAnswer", "Seconds"]


class Latency(Struct, frozen=True, kw_only=True):
    """Latency of the answered and late requests, in ms; None where there was none."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Lag(Struct, frozen=True, kw_only=True):
    """How far behind the intended moments something happened, in ms."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


class Reasons(Struct, frozen=True, kw_only=True):
    """How many requests ended in one way, for one reason, at one stage (empty: at the door, or at the client)."""

    outcome: str
    reason: str
    stage: str
    count: int


class PhaseResult(Struct, frozen=True, kw_only=True):
    """One phase of a run."""

    name: str
    seconds: float
    """As planned, or until the run was stopped."""
    rate_per_s: float
    """Intended mean rate."""
    sent: int
    answered: int
    late: int
    dropped: int
    shed: int
    failed: int
    cancelled: int
    attainment: float | None
    """answered / sent."""
    goodput_per_s: float
    """answered / seconds."""
    latency_ms: Latency
    accuracy: float | None = None
    """Mean score of the answers that were scored; None where there is no score function or no answer."""
    accuracy_error: float | None = None
    """Standard error of that mean; None where fewer than two different samples were scored."""
    scored: int = 0
    late_at_client: int = 0
    """Of those that the server counts as answered: how many took longer than the SLO as the client sees it."""
    behind_ms: Lag = Lag()
    """When the load generator turned to a request: what it added itself, being busy or not scheduled."""
    lag_ms: Lag = Lag()
    """When a request was sent: this and the wait for a connection."""
    reasons: tuple[Reasons, ...] = ()


class Seconds(Struct, frozen=True, kw_only=True):
    """The run second by second: entry i of every list is for [i, i + 1) seconds after the start."""

    sent: tuple[int, ...] = ()
    answered: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    shed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    p50_ms: tuple[float | None, ...] = ()
    p99_ms: tuple[float | None, ...] = ()


class SampleAnswer(Struct, frozen=True, kw_only=True):
    """One request's truth and the answer to it."""

    truth: object
    read: object
    """The output that is text, or else the first one, as JSON values."""
    score: float | None = None
    latency_ms: float = 0.0
    phase: str = ""
    image: str = ""
    """The input in base64, where it is a JPEG."""


class ReplayResult(Struct, frozen=True, kw_only=True):
    """A whole run."""

    pipeline: str
    slo_ms: float
    phases: tuple[PhaseResult, ...]
    trace: str = ""
    """The load that was replayed, where it was a trace."""
    deadline_ms: float | None = None
    """What each request told the server it had, from its intended moment on."""
    kept_up: bool = True
    """Whether the load generator was on time itself; if not, latencies and attainment are worse than the server's."""
    counts_agree: bool | None = None
    """Whether the server counted the same; None until someone asked it."""
    samples: tuple[SampleAnswer, ...] = ()
    series: Seconds = Seconds()
    latencies_ms: tuple[tuple[float, float], ...] = ()
    """(second, latency) of a regular choice of the requests that were answered or late."""
    score_says: str = ""
    """What the score measures: the first line of its function's documentation."""
    seed: int = 0
    stopped: bool = False
    """Ended before its phases did."""
    connections: int = 0
    """Most that were open."""
    problems: tuple[str, ...] = ()
    """What to know before trusting the figures."""
