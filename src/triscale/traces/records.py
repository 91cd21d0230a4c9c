"""One row for every request of a run, in columns of machine numbers: about 40 bytes a request, whatever the rate."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from triscale.core.request import Outcome, Reason
from triscale.traces.http_client import Exchange

__all__ = ["OUTCOMES", "Records", "judge"]

OUTCOMES: tuple[str, ...] = tuple(outcome.label for outcome in Outcome)
"""Names by value of `Outcome`."""

_BY_LABEL = {outcome.label.encode(): outcome for outcome in Outcome}
_NO_RESPONSE = {
    # The client left a request that the server had: it counts it as cancelled, so it is one here.
    "timeout": Outcome.CANCELLED,
    "stopped": Outcome.CANCELLED,
}
_BY_STATUS = {429: Outcome.SHED, 503: Outcome.DROPPED, 504: Outcome.DROPPED}


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

    __slots__ = ("_causes", "_names", "cause", "finished", "intended", "lag", "latency", "outcome", "phase")

    def __init__(self) -> None:
        self.phase = array("H")
        self.intended = array("d")
        """Seconds after the start of the run."""
        self.finished = array("d")
        """Seconds after the start of the run; ascending."""
        self.lag = array("f")
        """Seconds from the intended to the real sending; NaN when it was never sent."""
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
        phase: int,
        intended: float,
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
        self.phase.append(phase)
        self.intended.append(intended)
        self.finished.append(intended + latency)
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

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of all columns as numpy arrays, by name."""
        return {
            "phase": np.array(self.phase, dtype=np.uint16),
            "intended": np.array(self.intended, dtype=np.float64),
            "finished": np.array(self.finished, dtype=np.float64),
            "lag": np.array(self.lag, dtype=np.float32),
            "latency": np.array(self.latency, dtype=np.float64),
            "outcome": np.array(self.outcome, dtype=np.uint8),
            "cause": np.array(self.cause, dtype=np.uint16),
        }
