"""One row for every request of a run, in columns of machine numbers: 33 bytes a request, whatever the rate."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from triscale.core.request import Outcome, Reason
from triscale.traces.http_connection import Exchange

__all__ = ["OUTCOMES", "Records", "judge"]

OUTCOMES: tuple[str, ...] = tuple(outcome.label for outcome in Outcome)
"""Names by value of `Outcome`."""

_BY_LABEL = {outcome.label.encode(): outcome for outcome in Outcome}
_NO_RESPONSE = {
    # The client left a request that the server had: it counts it as cancelled, so it is one here.
    "timeout": Outcome.CANCELLED,
    "stopped": Outcome.CANCELLED,
}
_BY_STATUS = {408: Outcome.DROPPED, 429: Outcome.SHED, 503: Outcome.DROPPED, 504: Outcome.DROPPED}
"""408 is what Ray Serve answers when a deadline has passed."""


def judge(exchange: Exchange, latency: float, slo: float) -> tuple[Outcome, str, str]:
    """(outcome, reason, stage) of a finished exchange: the server's own word where it gives one."""
    if exchange.reason:
        return _NO_RESPONSE.get(exchange.reason, Outcome.FAILED), exchange.reason, ""
    headers = exchange.headers
    outcome = _BY_LABEL.get(headers.get(b"triscale-outcome", b""))
    if outcome is not None:
        reason = headers.get(b"triscale-reason", b"").decode("latin-1")
        return outcome, reason, headers.get(b"triscale-stage", b"").decode("latin-1")
    if exchange.status == 200:
        return (Outcome.ANSWERED if latency <= slo else Outcome.LATE), Reason.NONE, ""
    return _BY_STATUS.get(exchange.status, Outcome.FAILED), f"http_{exchange.status}", ""


class Records:
    """The requests of a run, in the order in which they ended."""

    __slots__ = ("_causes", "_names", "behind", "cause", "intended", "lag", "latency", "number", "outcome", "phase")

    def __init__(self) -> None:
        self.number = array("I")
        """In the order of their intended moments, from 0."""
        self.phase = array("H")
        self.intended = array("d")
        """Seconds after the start of the run."""
        self.behind = array("f")
        """Seconds from the intended moment to that at which the load generator turned to the request."""
        self.lag = array("f")
        """Seconds from the intended to the real sending, a connection included; NaN when it was never sent."""
        self.latency = array("d")
        """Seconds from the intended sending to the end."""
        self.outcome = array("B")
        self.cause = array("H")
        """Number of (reason, stage)."""
        self._causes: dict[tuple[str, str], int] = {}
        self._names: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.outcome)

    def add(
        self,
        *,
        number: int,
        phase: int,
        intended: float,
        behind: float,
        lag: float,
        latency: float,
        outcome: Outcome,
        reason: str,
        stage: str,
    ) -> None:
        """Append one request."""
        cause = self._causes.get((reason, stage))
        if cause is None:
            cause = self._name_cause(reason, stage)
        self.number.append(number)
        self.phase.append(phase)
        self.intended.append(intended)
        self.behind.append(behind)
        self.lag.append(lag)
        self.latency.append(latency)
        self.outcome.append(outcome)
        self.cause.append(cause)

    def _name_cause(self, reason: str, stage: str) -> int:
        # A server may write anything into its headers: past a thousand, reasons are no longer told apart.
        name = (reason, stage) if len(self._names) < 1000 else ("other", "")
        cause = self._causes.get(name)
        if cause is None:
            cause = self._causes[name] = len(self._names)
            self._names.append(name)
        return cause

    def cause_of(self, number: int) -> tuple[str, str]:
        """(reason, stage) of a number in `cause`."""
        return self._names[number]

    def finished(self, row: int) -> float:
        """Seconds after the start of the run at which a row's request ended; ascending."""
        return self.intended[row] + self.latency[row]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """All columns as numpy arrays, by name: views, so no row can be added while one of them lives."""
        names = ("number", "phase", "intended", "behind", "lag", "latency", "outcome", "cause")
        return {name: np.asarray(getattr(self, name)) for name in names}
