"""How requests ended, in all and per window of arrival. Memory grows with the windows only: latencies are counted."""

from __future__ import annotations

import math
from collections import Counter

from triscale.core.request import Outcome, Reason
from triscale.dispatch.work import Request
from triscale.observe.quantiles import OFFSET, SCALE, SMALLEST_S, Durations, quantile_s

__all__ = ["Tally"]

_log = math.log


class Tally:
    """Counts the requests that arrive from `start` on."""

    __slots__ = (
        "_open",
        "_per_s",
        "_start",
        "accuracy",
        "accuracy_sum",
        "causes",
        "early",
        "latency",
        "latency_sum",
        "outcomes",
        "p99_ms",
        "windows",
    )

    def __init__(self, start: float, end: float, window_s: float) -> None:
        self._start = start
        self._per_s = 1.0 / window_s
        count = max(1, math.ceil((end - start) * self._per_s - 1e-9))
        self.outcomes = [0] * len(Outcome)
        self.early = [0] * len(Outcome)
        """Outcomes of requests that arrived before `start`."""
        self.causes: Counter[tuple[Outcome, int, Reason]] = Counter()
        """(outcome, stage or -1, reason) of those that were not answered in time."""
        self.latency = Durations()
        """Seconds from arrival to answer, late answers included."""
        self.latency_sum = 0.0
        self.accuracy = 0.0
        """Sum over the requests answered in time."""
        self.windows = [[0] * count for _ in Outcome]
        """Per outcome and window of arrival."""
        self.accuracy_sum = [0.0] * count
        self.p99_ms: list[float | None] = []
        """Of the windows that are settled."""
        self._open: list[dict[int, int]] = [{}]
        """The latencies of the windows behind those, as far as they have begun."""

    def ended(self, request: Request) -> None:
        """A request has its outcome."""
        outcome = request.outcome
        assert outcome is not None, "the dispatcher hands over ended requests only"
        since = request.arrived - self._start
        if since < 0.0:
            self.early[outcome] += 1
            return
        window = int(since * self._per_s)
        counts = self.windows[outcome]
        if window >= len(counts):
            window = len(counts) - 1  # only by rounding, at the very end
        counts[window] += 1
        self.outcomes[outcome] += 1
        if outcome:
            self.causes[outcome, request.stage, request.reason] += 1
            if outcome is not Outcome.LATE:
                return
        else:
            accuracy = request.accuracy_sum / request.answers if request.answers else 0.0
            self.accuracy += accuracy
            self.accuracy_sum[window] += accuracy
        # `Durations.observe`, written out: this is done for every request, and under one clock none is below 0.
        latency = request.ended - request.arrived
        self.latency_sum += latency
        number = int(_log(latency + SMALLEST_S) * SCALE + OFFSET)
        overall = self.latency.counts
        overall[number] = overall.get(number, 0) + 1
        latencies = self._open
        window -= len(self.p99_ms)
        while window >= len(latencies):
            latencies.append({})
        mine = latencies[window]
        mine[number] = mine.get(number, 0) + 1

    def settle(self, until: float | None = None) -> None:
        """All requests that arrived before `until` have ended (None: all of them): earlier windows are final."""
        settled = len(self.accuracy_sum)
        if until is not None:
            settled = min(settled, int((until - self._start) * self._per_s + 1e-9))
        while len(self.p99_ms) < settled:
            counts = self._open.pop(0) if self._open else {}
            p99 = quantile_s(counts, 0.99)
            self.p99_ms.append(None if p99 is None else 1000.0 * p99)
