"""What a live view shows: one moment of a run under load, as plain numbers."""

from __future__ import annotations

from msgspec import Struct

from triscale.observe.status import Status
from triscale.traces.messages import PhaseCounts, Progress

__all__ = ["LiveState", "StageState"]


class StageState(Struct, frozen=True, kw_only=True):
    """One stage at one moment."""

    name: str
    queue: int
    """Items waiting."""
    busy_cores: float
    items_per_s: float


class LiveState(Struct, frozen=True, kw_only=True):
    """A run at one moment; `progress` is what the client sees, the rest what the server says."""

    slo_ms: float
    progress: Progress
    ceiling_per_s: float | None = None
    """What the most accurate variants can carry."""
    stages: tuple[StageState, ...] = ()
    """Where only the server's metrics are read."""
    status: Status | None = None
    """Where the server is asked what it is doing."""

    @property
    def phase(self) -> PhaseCounts:
        """The running phase."""
        return self.progress.phases[self.progress.phase]

    @property
    def left_s(self) -> float:
        """Seconds until the phase ends; 0 while the last answers come in."""
        return max(0.0, self.phase.seconds - self.progress.phase_at_s)

    @property
    def attainment(self) -> float | None:
        """Share of the ended requests that were answered in time; None before any ended."""
        ended = self.total("sent") - self.progress.in_flight
        return self.total("answered") / ended if ended else None

    def total(self, outcome: str) -> int:
        """Requests of all phases with this outcome; `sent` counts as one."""
        return sum(getattr(phase, outcome) for phase in self.progress.phases)
