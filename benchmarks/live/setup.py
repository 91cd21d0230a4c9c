"""What the server process of a live run and whoever starts it tell each other."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Overheads", "Ready", "Report", "Setup"]


class Setup(Struct, frozen=True, kw_only=True):
    """One policy on one case."""

    case: str
    policy: str
    dilation: float
    first_demand: float
    """Requests/s that the first plan is made for."""
    first_moment: float
    """When the first request is due, in seconds from the start of the trace."""
    seconds: float
    """Length of the trace."""


class Ready(Struct, frozen=True, kw_only=True):
    """The server takes requests."""

    url: str
    replicas: int


class Overheads(Struct, frozen=True, kw_only=True):
    """What is real in a live run, in real time. Pairs are of the median and the 99th percentile."""

    front_end: float
    """Part of one processor that the server's event loop used."""
    deciding: float
    """The same, of the process in which the autoscaler decides."""
    replicas: float
    """The same, of all replicas."""
    loop_lag_ms: tuple[float, float]
    """How much too late the server's timers were."""
    batch_ms: tuple[float, float]
    """By how much batches took longer, seen from the dispatcher, than the replicas were to sleep."""
    batch_part: float
    """The same, all together, as a part of that sleep."""
    decide_ms: tuple[float, float]
    """Decisions that changed the plan, from looking to having one."""


class Report(Struct, frozen=True, kw_only=True):
    """What a live run came to, seen from the server."""

    requests: int
    outcomes: dict[str, int]
    accuracy: float | None
    """Mean of the requests answered in time."""
    mean_cores: float
    actions: dict[str, int]
    overheads: Overheads
    complaints: tuple[str, ...]
    """Warnings and errors of the server's log, and how often each came."""
