"""What a policy sees: an immutable picture of demand, queues and replicas at one instant.

The controller and the simulator take the same picture (`observe/snapshots.py`), so an autoscaler cannot tell which of
them asked.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from msgspec import Struct

from triscale.core.cluster import Node, NodeId, ReplicaSpec
from triscale.core.plan import Plan

__all__ = ["RECENT_S", "Phase", "ReplicaView", "Snapshot", "StageView"]

RECENT_S = 0.1
"""Length of the short windows in which arrivals are counted, in seconds."""


class Phase(enum.StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class ReplicaView(Struct, frozen=True, kw_only=True):
    """A replica as the controller knows it."""

    spec: ReplicaSpec
    """With the lanes, threads and variants that it has or, while they are being changed, is to have."""
    node: NodeId
    phase: Phase
    cores: int
    """Cores that it holds on its node now: while it is being resized, the larger of before and after."""
    loading: bool = False
    """It is being given other variants, and serves with what it still holds of the old ones, if anything."""
    tight: bool = False
    """It has been seen that its memory does not hold other variants beside those that it holds."""


class StageView(Struct, frozen=True, kw_only=True):
    """The items of one stage."""

    queued: int = 0
    running: int = 0
    entered: int = 0
    """Since the start; rates are differences."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """The world at `now`."""

    now: float
    """Seconds on the driver's clock."""
    plan: Plan
    """The plan in force."""
    nodes: Sequence[Node]
    replicas: Sequence[ReplicaView]
    per_second: Sequence[int]
    """Requests that reached the door in each whole second, oldest first; shed ones count."""
    recent: Sequence[int]
    """The same per `RECENT_S` seconds, for the last two seconds."""
    stages: Mapping[str, StageView] = {}
    drift: Mapping[tuple[str, str], float] = {}
    """(stage, variant) -> measured over profiled latency, where it is known and not 1."""
    fan_out: Mapping[tuple[str, str], Mapping[str, float]] = {}
    """(stage, variant) -> child -> measured mean items per item."""
    cold_start_s: float = 0.0
    """What a launch takes, as measured so far (or assumed)."""
    resize_s: float = 0.0
    """What a resize takes, likewise."""

    def rate(self, seconds: float) -> float:
        """Mean arrivals per second over the last `seconds`, from the short windows where they reach."""
        short = round(seconds / RECENT_S)
        if 0 < short <= len(self.recent):
            return sum(self.recent[-short:]) / (short * RECENT_S)
        whole = max(1, round(seconds))
        counts = self.per_second[-whole:]
        return sum(counts) / len(counts) if counts else 0.0

    def peak(self, seconds: int) -> float:
        """The most arrivals of one second among the last `seconds` whole ones."""
        return float(max(self.per_second[-seconds:], default=0))

    def of_stage(self, stage: str, *phases: Phase) -> list[ReplicaView]:
        """The replicas of a stage, of these phases if any are named."""
        return [r for r in self.replicas if r.spec.stage == stage and (not phases or r.phase in phases)]
