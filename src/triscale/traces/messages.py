"""What a load generator process tells its parent: one JSON object a line, told apart by `type`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from triscale.traces.results import ReplayResult

__all__ = ["Finished", "Message", "PhaseCounts", "Preparing", "Progress", "Refused", "decode", "encode"]


class Preparing(Struct, frozen=True, kw_only=True, tag_field="type", tag="preparing"):
    """Samples are being made; the clock has not started."""

    made: int
    total: int


class PhaseCounts(Struct, frozen=True, kw_only=True):
    """One phase so far. Outcomes are of the requests that were to be sent in it, whenever they ended."""

    name: str
    seconds: float
    rate_per_s: float
    sent: int = 0
    answered: int = 0
    late: int = 0
    dropped: int = 0
    shed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def in_flight(self) -> int:
        """Sent and not ended."""
        ended = self.answered + self.late + self.dropped + self.shed + self.failed + self.cancelled
        return self.sent - ended


class Progress(Struct, frozen=True, kw_only=True, tag_field="type", tag="progress"):
    """The run at one moment."""

    at_s: float
    """Since the start."""
    total_s: float
    """Planned length."""
    phase: int
    """Index of the running phase; the last one while the last answers come in."""
    phase_at_s: float
    """Since the phase's start."""
    phases: tuple[PhaseCounts, ...]
    rate_per_s: float = 0.0
    """Sent in the last second."""
    goodput_per_s: float = 0.0
    """Answered in time in the last second."""
    p50_ms: float | None = None
    """Of the requests answered in the last second, late ones included; None when there were none."""
    p99_ms: float | None = None
    connections: int = 0
    behind_ms: float = 0.0
    """The most that the load generator was behind an intended moment, of the requests that ended in the last second."""

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return sum(phase.in_flight for phase in self.phases)


class Finished(Struct, frozen=True, kw_only=True, tag_field="type", tag="result"):
    """The run is over; the last message."""

    result: ReplayResult


class Refused(Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """The run could not be made; the last message."""

    message: str


Message: TypeAlias = Preparing | Progress | Finished | Refused

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode
