"""What a running pipeline is doing now, as one document: for `triscale status`, `triscale top` and the dashboard.

`status_reading.py` fills it. "Recent" is the last ten samples of the history, about ten seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from triscale.observe.causes import Cause
from triscale.observe.decisions import Decision

__all__ = [
    "Cause",
    "CoresStatus",
    "LanesStatus",
    "PlanStatus",
    "Quantiles",
    "RequestsStatus",
    "StageStatus",
    "Status",
    "VariantStatus",
    "Window",
]


class Quantiles(Struct, frozen=True, kw_only=True):
    """Of a duration, in milliseconds; None where there was nothing to measure."""

    p50: float | None = None
    p99: float | None = None


class Window(Struct, frozen=True, kw_only=True):
    """The requests of the last seconds."""

    seconds: float
    """That it spans: less than its name while the server is young."""
    arrived: int
    outcomes: Mapping[str, int]
    """Outcome -> requests that ended so, whenever they arrived."""
    attainment: float | None
    """Answered in time over all that ended; None without any."""
    accuracy: float | None
    """Mean expected accuracy of the requests answered in time."""


class RequestsStatus(Struct, frozen=True, kw_only=True):
    """All requests since the start."""

    live: int
    """In the system."""
    arrived: int
    outcomes: Mapping[str, int]
    partial: int
    """Answered with some items given up."""
    causes: Sequence[Cause]
    """Of all that were not answered in time, the most frequent first..."""
    recent_causes: Sequence[Cause]
    """...and of those that ended recently."""


class PlanStatus(Struct, frozen=True, kw_only=True):
    """The plan in force."""

    mode: str
    """`hardware`, `accuracy` or `overload`: which aim of the planner is being met."""
    reason: str
    demand: float
    """Requests/s that it was made for; 0 = for no demand in particular."""
    capacity: float | None
    """Requests/s that it can carry; None where it does not say."""
    cores: float
    accuracy: float
    served_fraction: float
    feasible: bool
    solver: str


class CoresStatus(Struct, frozen=True, kw_only=True):
    """Cores of all nodes together."""

    total: float
    """That may be used."""
    held: float
    """By replicas or, where lanes share cores, granted to the lanes of nodes; the sum of the next three."""
    start: float
    up: float
    out: float
    busy: int
    """On which a batch runs at this moment."""
    shared: bool
    """Whether the lanes of a node share its cores; they then belong to no stage."""


class LanesStatus(Struct, frozen=True, kw_only=True):
    """Lanes of one stage, and their cores (lanes times threads)."""

    wanted: int
    """By the plan."""
    granted: int
    """That can take work."""
    running: int
    """That run a batch."""
    cores_wanted: int
    cores_granted: int
    """Of replicas in every phase; where lanes share cores, that they could use at most."""
    cores_running: int


class VariantStatus(Struct, frozen=True, kw_only=True):
    """One variant of a stage."""

    name: str
    accuracy: float
    share: float
    """Part of the stage's items that it is to run, by the plan."""
    mix: float | None
    """Part of the recent items that it ran; None where there were none."""
    items: int
    """Run since the start, retries included."""
    batch: int
    """Largest batch, by the plan."""
    resident: bool
    """Whether some open lane holds it."""
    drift: float | None
    """Measured over profiled latency; None where either is not known."""


class StageStatus(Struct, frozen=True, kw_only=True):
    """One stage."""

    name: str
    after: Sequence[str]
    """The stages that emit its items."""
    emits: Mapping[str, float]
    """Child -> mean items emitted per item, with the recent mix of variants."""
    queued: int
    running: int
    """Items in batches now."""
    items_per_s: float
    """Completed, recently."""
    busy_cores: float
    """At work on average, recently."""
    attainment: float | None
    """Of the admitted requests that ended recently, the part that was not lost at this stage."""
    replicas: Mapping[str, int]
    """Phase (starting, ready, draining) -> replicas."""
    lanes: LanesStatus
    queue_ms: Quantiles
    """Recent waits of batches, by their oldest item."""
    service_ms: Quantiles
    """Recent times of batches on a lane."""
    given_up: Mapping[str, int]
    """Reason -> items not completed since the start..."""
    recent_given_up: Mapping[str, int]
    """...and recently."""
    rescued: int
    """Items run on a faster variant than planned, since the start."""
    requeued: int
    """Items run again after a failure, since the start."""
    variants: Sequence[VariantStatus]


class Status(Struct, frozen=True, kw_only=True):
    """A running pipeline."""

    pipeline: str
    version: str
    """Of triscale."""
    wall_s: float
    """When this was read, as Unix time."""
    started_s: float
    uptime_s: float
    ready: bool
    """Whether requests are accepted and every stage has a lane."""
    slo_ms: float
    policy: str
    plan: PlanStatus
    cores: CoresStatus
    requests: RequestsStatus
    windows: Sequence[Window]
    """The last ten seconds, minute and ten minutes."""
    latency_ms: Quantiles
    """Of recent answers, late ones included."""
    arrivals_per_s: float
    """Recently."""
    stages: Sequence[StageStatus]
    """In topological order, the root first."""
    replica_exits: int
    """Replicas that died without being asked to, since the start."""
    decisions: Sequence[Decision]
    """The latest, oldest first."""
    decisions_total: int
