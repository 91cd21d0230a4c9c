"""The open-loop load generator: requests leave at the moments that the arrival processes say, whatever the server does.

Latency counts from the intended moment, so a request that had to wait for a connection or for this process is not
flattered (no coordinated omission); how late this process was is recorded as lag. Requests sent at the same moment
never wait for each other.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from urllib.parse import quote

import numpy as np

from triscale.clock import monotonic
from triscale.core.request import Outcome
from triscale.errors import ConfigError
from triscale.traces.alarm import Alarm
from triscale.traces.answers import Answer, AnswerKeeper
from triscale.traces.arrivals import arrivals
from triscale.traces.http_client import ConnectionPool, Exchange, endpoint_of
from triscale.traces.job import Job
from triscale.traces.messages import PhaseCounts, Progress
from triscale.traces.records import OUTCOMES, Records, judge
from triscale.traces.samples import Prepared
from triscale.traces.summary import percentile_ms

__all__ = ["Replay", "probe"]

_LEAD_S = 0.1
"""From `run` to the start of the first phase."""
_BURST = 64
"""Most requests sent before the event loop gets to read answers."""
_KEPT_BYTES = 64 * 2**20
"""Most bytes of answers kept per phase."""
_GRACE_S = 1.0
"""A stopped run waits so long, and two SLOs more, for the answers in flight."""
_WINDOW_S = 1.0
"""Length of the rolling window of `progress`."""


class _Request(Exchange):
    """An exchange that knows its place in the run."""

    __slots__ = ("intended", "phase", "sample")

    def __init__(
        self,
        request: bytes,
        deadline: float,
        on_done: Callable[[Exchange], None],
        phase: int,
        sample: int,
        intended: float,
    ) -> None:
        super().__init__(request, deadline, on_done)
        self.phase = phase
        self.sample = sample
        self.intended = intended


class Replay:
    """One run of a job. `run` once; read `records`, `answers` and `ran` when it is over."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        self._job = job
        self._requests = prepared.requests
        self._arrivals = arrivals(job.phases, random.Random(job.seed))  # noqa: S311 - a seeded experiment, no secret
        self._upcoming = next(self._arrivals, None)
        chooser = random.Random(job.seed + 1)  # noqa: S311 - as above
        self.answers = [AnswerKeeper(job.keep_answers, _KEPT_BYTES, chooser) for _ in job.phases]
        """Per phase: answers kept for scoring."""
        self.records = Records()
        self.ran = 0.0
        """Seconds of sending: the length of the phases, or less when the run was stopped."""
        self.stopped = False
        self.most_connections = 0
        self._pool = ConnectionPool(endpoint_of(job.url), job.connections)
        self._sending = True
        self._count = 0
        self._sent = [0] * len(job.phases)
        self._outcomes = [[0] * len(OUTCOMES) for _ in job.phases]
        self._in_flight = 0
        self._start = 0.0
        self._total = sum(phase.seconds for phase in job.phases)
        self._slo = job.slo_ms / 1000.0
        self._timeout = job.timeout_ms / 1000.0
        self._sends: deque[tuple[float, int]] = deque()
        self._alarm: Alarm | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Send everything and wait for the last answer; each waits at most its timeout."""
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

    def _send_due(self) -> None:
        if not self._sending:
            return
        now = monotonic() - self._start
        for _ in range(_BURST):
            if self._upcoming is None or self._upcoming[0] > now:
                break
            intended, phase = self._upcoming
            self._send(intended, phase)
            self._upcoming = next(self._arrivals, None)
        # The last phase goes on after its last arrival.
        then = self._total if self._upcoming is None else self._upcoming[0]
        if self._upcoming is None and now >= then:
            self._finish_sending(self._total)
        elif self._alarm is not None:
            self._alarm.set(self._start + then - monotonic())

    def _send(self, intended: float, phase: int) -> None:
        sample = self._count % len(self._requests)
        self._count += 1
        self._sent[phase] += 1
        self._in_flight += 1
        deadline = self._start + intended + self._timeout
        self._pool.submit(_Request(self._requests[sample], deadline, self._ended, phase, sample, intended))
        self.most_connections = max(self.most_connections, self._pool.size)

    def _ended(self, exchange: Exchange) -> None:
        assert isinstance(exchange, _Request)
        intended = self._start + exchange.intended
        latency = exchange.finished - intended
        outcome, reason, stage = judge(exchange, latency, self._slo)
        self.records.add(
            phase=exchange.phase,
            intended=exchange.intended,
            lag=exchange.sent - intended if exchange.sent else float("nan"),
            latency=latency,
            outcome=outcome,
            reason=reason,
            stage=stage,
        )
        self._outcomes[exchange.phase][outcome] += 1
        if outcome <= Outcome.LATE and exchange.status == 200:
            length = exchange.headers.get(b"inference-header-content-length")
            head = int(length) if length is not None and length.isdigit() else None
            self.answers[exchange.phase].offer(Answer(exchange.sample, head, exchange.body, latency))
        self._in_flight -= 1
        if not self._in_flight and not self._sending:
            self._over.set()

    def progress(self) -> Progress:
        """The run now; call it a few times a second."""
        now = self._elapsed()
        index, phase_start = self._phase_at(now)
        recent, goodput = self._recent(now)
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
                for phase, sent, outcomes in zip(self._job.phases, self._sent, self._outcomes, strict=True)
            ),
            rate_per_s=self._sending_rate(now),
            goodput_per_s=goodput,
            p50_ms=percentile_ms(recent, 50),
            p99_ms=percentile_ms(recent, 99),
            connections=self._pool.size,
        )

    def _phase_at(self, now: float) -> tuple[int, float]:
        start = 0.0
        for index, phase in enumerate(self._job.phases[:-1]):
            if now < start + phase.seconds:
                return index, start
            start += phase.seconds
        return len(self._job.phases) - 1, start

    def _recent(self, now: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]:
        """Latencies of the answers of the last window, and the rate of those in time."""
        records = self.records
        first = bisect_right(records.finished, now - _WINDOW_S)
        outcomes = np.array(records.outcome[first:], dtype=np.uint8)
        latencies = np.array(records.latency[first:], dtype=np.float64)
        window = min(_WINDOW_S, now) or _WINDOW_S
        return latencies[outcomes <= Outcome.LATE], float(np.count_nonzero(outcomes == Outcome.ANSWERED)) / window

    def _sending_rate(self, now: float) -> float:
        self._sends.append((now, self._count))
        while len(self._sends) > 2 and self._sends[1][0] <= now - _WINDOW_S:
            self._sends.popleft()
        (then, before), (_, sent) = self._sends[0], self._sends[-1]
        return (sent - before) / (now - then) if now > then else 0.0


async def probe(job: Job) -> None:
    """Ask the server for the job's model; ConfigError says what is amiss."""
    endpoint = endpoint_of(job.url)
    pool = ConnectionPool(endpoint, 1)
    done = asyncio.Event()
    lines = [f"GET /v2/models/{quote(job.model, safe='')} HTTP/1.1", f"Host: {endpoint.authority}"]
    lines += [f"{name}: {value}" for name, value in job.headers.items()]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    exchange = Exchange(request, monotonic() + 5.0, lambda _: done.set())
    try:
        await pool.resolve()
        pool.submit(exchange)
        await done.wait()
    except OSError as error:
        raise ConfigError(f"url: cannot find {endpoint.host!r} ({error.strerror or error})") from None
    finally:
        await pool.close()
    if exchange.reason:
        raise ConfigError(
            f"url: no server answers at {job.url} ({exchange.reason}); start one with `triscale serve`, or correct it"
        )
    if exchange.status != 200:
        text = exchange.body[:200].decode("utf-8", "replace")
        raise ConfigError(f"model: {job.url} does not serve {job.model!r} (HTTP {exchange.status}: {text})")
