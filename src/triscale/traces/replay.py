"""The open-loop load generator: requests leave at the moments that the load says, whatever the server does.

Latency counts from the intended moment, so a request that had to wait for a connection or for this process is not
flattered (no coordinated omission); how late this process was is recorded as lag. Requests sent at the same moment
never wait for each other.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from triscale.clock import monotonic
from triscale.core.request import Outcome
from triscale.errors import ConfigError
from triscale.traces.alarm import Alarm
from triscale.traces.answers import Answer, AnswerKeeper
from triscale.traces.endpoint import endpoint_of
from triscale.traces.http_client import ConnectionPool
from triscale.traces.http_connection import Exchange
from triscale.traces.job import Job
from triscale.traces.messages import PhaseCounts, Progress
from triscale.traces.peer import error_text
from triscale.traces.record_file import request_id
from triscale.traces.records import OUTCOMES, Records, judge
from triscale.traces.samples import Prepared
from triscale.traces.summary import percentile_ms
from triscale.traces.template import Template

__all__ = ["Replay"]

_LEAD_S = 0.1
"""From `run` to the start of the first phase."""
_BURST = 64
"""Most requests sent before the event loop gets to read answers."""
_KEPT_BYTES = 64 * 2**20
"""Most bytes of answers kept per phase."""
_KEPT_ERRORS = 20
"""Most reasons of which the first error's text is kept."""
_GRACE_S = 1.0
"""A stopped run waits so long, and two SLOs more, for the answers in flight."""
_WINDOW_S = 1.0
"""Length of the rolling window of `progress`."""


class _Request(Exchange):
    """An exchange that knows its place in the run."""

    __slots__ = ("behind", "intended", "number", "phase")

    def __init__(
        self,
        request: bytes,
        deadline: float,
        on_done: Callable[[Exchange], None],
        number: int,
        phase: int,
        intended: float,
        behind: float,
    ) -> None:
        super().__init__(request, deadline, on_done)
        self.number = number
        self.phase = phase
        self.intended = intended
        self.behind = behind


class _FilledRequest(_Request):
    """One whose id and time left are filled in when it is written."""

    __slots__ = ("due", "name", "template")

    template: Template
    name: bytes
    due: float
    """Monotonic seconds of its deadline."""

    def write(self, transport: asyncio.WriteTransport) -> None:
        """See `Exchange`."""
        transport.writelines(self.template.wire(self.name, self.due - self.sent))


class Replay:
    """One run of a job. `run` once; read `records`, `answers` and `ran` when it is over."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        self._job = job
        self._templates = prepared.templates
        self._arrivals = job.arrivals()
        self._fault: ConfigError | None = None
        self.parts = job.parts
        """What requests are counted by."""
        chooser = random.Random(job.seed + 1)  # noqa: S311 - a seeded experiment, no secret
        kept = job.keep_answers if prepared.samples else 0
        self.answers = [AnswerKeeper(kept, _KEPT_BYTES, chooser) for _ in self.parts]
        """Per phase: answers kept for scoring."""
        self.records = Records()
        self.errors: dict[str, str] = {}
        """Reason of failed requests -> what the server said of the first of them."""
        self.ran = 0.0
        """Seconds of sending: the length of the phases, or less when the run was stopped."""
        self.stopped = False
        self.most_connections = 0
        self._pool = ConnectionPool(endpoint_of(job.url), job.connections, job.trust)
        self._sending = True
        self._count = 0
        self._sent = [0] * len(self.parts)
        self._outcomes = [[0] * len(OUTCOMES) for _ in self.parts]
        self._in_flight = 0
        self._start = 0.0
        self._total = sum(phase.seconds for phase in self.parts)
        self._slo = job.slo_ms / 1000.0
        self._timeout = job.timeout_ms / 1000.0
        self._fills = bool(job.record) or job.deadline_ms is not None
        self._deadline = (job.deadline_ms or job.timeout_ms) / 1000.0
        self._sends: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._recent_row = 0
        self._alarm: Alarm | None = None
        self._over = asyncio.Event()
        self._upcoming = self._next()

    async def run(self) -> None:
        """Send everything and wait for the last answer; each waits at most its timeout.

        ConfigError when the trace's file has become unreadable on the way.
        """
        await self._pool.resolve()
        self._alarm = Alarm(self._send_due)
        try:
            if self._sending:
                self._start = monotonic() + _LEAD_S
                self._alarm.set(_LEAD_S)
            await self._over.wait()
        finally:
            self._alarm.close()
            await self._pool.close()
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Send no more. The first call waits a little for what is in flight, a second one not any longer."""
        if self.stopped:
            self._pool.abandon("stopped")
            return
        self.stopped = True
        if self._sending:
            self._finish_sending(min(self._total, self._elapsed()))
        asyncio.get_running_loop().call_later(_GRACE_S + 2.0 * self._slo, self._pool.abandon, "stopped")

    def _elapsed(self) -> float:
        """Seconds since the start of the first phase."""
        return max(0.0, monotonic() - self._start) if self._start else 0.0

    def _finish_sending(self, ran: float) -> None:
        self._sending = False
        self.ran = ran
        if not self._in_flight:
            self._over.set()

    def _next(self) -> tuple[float, int] | None:
        """The next arrival."""
        try:
            return next(self._arrivals, None)
        except ConfigError as error:
            # Raised by a callback it would be lost: the run ends, and says it then.
            self._fault = error
            return None

    def _send_due(self) -> None:
        if not self._sending:
            return
        now = monotonic() - self._start
        for _ in range(_BURST):
            if self._upcoming is None or self._upcoming[0] > now:
                break
            intended, phase = self._upcoming
            self._send(intended, phase)
            self._upcoming = self._next()
        if self._fault is not None:
            self._finish_sending(min(self._total, now))
            return
        # The last phase goes on after its last arrival.
        then = self._total if self._upcoming is None else self._upcoming[0]
        if self._upcoming is None and now >= then:
            self._finish_sending(self._total)
        elif self._alarm is not None:
            self._alarm.set(self._start + then - monotonic())

    def _send(self, intended: float, phase: int) -> None:
        number = self._count
        template = self._templates[number % len(self._templates)]
        self._count += 1
        self._sent[phase] += 1
        self._in_flight += 1
        at = self._start + intended
        kind = _FilledRequest if self._fills else _Request
        behind = monotonic() - at
        request = kind(template.plain, at + self._timeout, self._ended, number, phase, intended, behind)
        if isinstance(request, _FilledRequest):
            request.template = template
            request.name = request_id(self._job.seed, number) if self._job.record else b""
            request.due = at + self._deadline
        self._pool.submit(request)
        self.most_connections = max(self.most_connections, self._pool.size)

    def _ended(self, exchange: Exchange) -> None:
        assert isinstance(exchange, _Request)
        intended = self._start + exchange.intended
        latency = exchange.finished - intended
        outcome, reason, stage = judge(exchange, latency, self._slo)
        self.records.add(
            number=exchange.number,
            phase=exchange.phase,
            intended=exchange.intended,
            behind=exchange.behind,
            lag=exchange.sent - intended if exchange.sent else math.nan,
            latency=latency,
            outcome=outcome,
            reason=reason,
            stage=stage,
        )
        self._outcomes[exchange.phase][outcome] += 1
        if outcome <= Outcome.LATE and exchange.status == 200:
            length = exchange.headers.get(b"inference-header-content-length")
            head = int(length) if length is not None and length.isdigit() else None
            sample = exchange.number % len(self._templates)
            self.answers[exchange.phase].offer(Answer(sample, head, exchange.body, latency))
        elif outcome is Outcome.FAILED and reason not in self.errors and len(self.errors) < _KEPT_ERRORS:
            self.errors[reason] = error_text(exchange.body) if exchange.status else exchange.detail
        self._in_flight -= 1
        if not self._in_flight and not self._sending:
            self._over.set()

    def progress(self) -> Progress:
        """The run now; call it a few times a second."""
        now = self._elapsed()
        index, phase_start = self._phase_at(now)
        recent, goodput, behind = self._recent(now)
        return Progress(
            at_s=now,
            total_s=self._total,
            phase=index,
            phase_at_s=now - phase_start,
            phases=tuple(
                PhaseCounts(
                    name=phase.name,
                    seconds=phase.seconds,
                    rate_per_s=phase.rate_per_s,
                    sent=sent,
                    **dict(zip(OUTCOMES, outcomes, strict=True)),
                )
                for phase, sent, outcomes in zip(self.parts, self._sent, self._outcomes, strict=True)
            ),
            rate_per_s=self._sending_rate(now),
            goodput_per_s=goodput,
            p50_ms=percentile_ms(recent, 50),
            p99_ms=percentile_ms(recent, 99),
            connections=self._pool.size,
            behind_ms=behind,
        )

    def _phase_at(self, now: float) -> tuple[int, float]:
        start = 0.0
        for index, phase in enumerate(self.parts[:-1]):
            if now < start + phase.seconds:
                return index, start
            start += phase.seconds
        return len(self.parts) - 1, start

    def _recent(self, now: float) -> tuple[npt.NDArray[np.float64], float, float]:
        """Of what ended in the last window: latencies of the answers, rate of those in time, the most behind in ms."""
        records = self.records
        while self._recent_row < len(records) and records.finished(self._recent_row) <= now - _WINDOW_S:
            self._recent_row += 1
        recent = slice(self._recent_row, None)
        outcomes = np.array(records.outcome[recent], dtype=np.uint8)
        latencies = np.array(records.latency[recent], dtype=np.float64)
        goodput = float(np.count_nonzero(outcomes == Outcome.ANSWERED)) / (min(_WINDOW_S, now) or _WINDOW_S)
        return latencies[outcomes <= Outcome.LATE], goodput, max(records.behind[recent], default=0.0) * 1000.0

    def _sending_rate(self, now: float) -> float:
        self._sends.append((now, self._count))
        while len(self._sends) > 2 and self._sends[1][0] <= now - _WINDOW_S:
            self._sends.popleft()
        (then, before), (_, sent) = self._sends[0], self._sends[-1]
        return (sent - before) / (now - then) if now > then else 0.0
