"""A job run by a load generator process: shown while it runs, with what the server says of itself where it tells.

A server of ours tells most through its status (`StatusClient`); counts can be had from its metrics alone (`Scraper`).
Ctrl-C ends the load early, and what was sent is still reported; a second one, or SIGTERM, ends everything.
"""

from __future__ import annotations

import asyncio
import signal

from triscale.cli.live import View
from triscale.cli.live_state import LiveState, StageState
from triscale.cli.server_metrics import Scraper, ServerCounts, stage_states
from triscale.cli.status_client import StatusClient
from triscale.clock import monotonic, wall
from triscale.errors import TriscaleError
from triscale.observe.status import Status
from triscale.traces.job import Job
from triscale.traces.launch import ReplayProcess
from triscale.traces.messages import Finished, Preparing, Progress
from triscale.traces.results import ReplayResult

__all__ = ["LoadRun"]

_LOOK_S = 0.5
_SETTLE_S = 5.0
"""Longest wait for the server to be done with the last request."""


class LoadRun:
    """One run under load. Make it in the task that is to be cancelled when the run is interrupted for good."""

    def __init__(self, view: View, ceiling_per_s: float | None = None) -> None:
        """`ceiling_per_s`: what the most accurate variants carry, to be shown beside the arrivals."""
        self._view = view
        self._ceiling = ceiling_per_s
        self.history: list[ServerCounts] = []
        """The server's counts, from before the first request to after the last; empty where it has none."""
        self.statuses: list[Status] = []
        """What the server said of itself, twice a second; empty where it was not asked."""
        self.started = 0.0
        """Monotonic second at which the load began..."""
        self.started_wall = 0.0
        """...and as Unix time."""
        self._stages: tuple[StageState, ...] = ()
        self._generator: ReplayProcess | None = None
        self._main = asyncio.current_task()

    def heed_signals(self) -> None:
        """Let SIGINT and SIGTERM end the load, or everything."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._cancel)

    async def run(
        self, job: Job, scraper: Scraper | None = None, *, client: StatusClient | None = None
    ) -> ReplayResult:
        """Run a job to its end. `scraper` reads the server's counts: before it and, without a `client`, during it."""
        if scraper is not None:
            self.history.append(await scraper.scrape())
        async with ReplayProcess(job) as generator:
            watching = asyncio.create_task(self._watch(scraper, client))
            try:
                async for message in generator:
                    if isinstance(message, Preparing):
                        self._view.busy(f"making sample {message.made} of {message.total}")
                    elif isinstance(message, Progress):
                        self._generator = generator
                        self._show(message, job)
                    elif isinstance(message, Finished):
                        return message.result
            finally:
                self._generator = None
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        raise AssertionError("a load generator ends with its result or an error")

    async def settle(self, scraper: Scraper) -> str:
        """Take the server's counts when it is done with every request; what kept it from telling, if anything."""
        deadline = monotonic() + _SETTLE_S
        try:
            while (counts := await scraper.scrape()).live and monotonic() < deadline:
                await asyncio.sleep(0.05)
        except TriscaleError as error:
            return str(error)
        self.history.append(counts)
        return ""

    def _interrupt(self) -> None:
        generator, self._generator = self._generator, None
        if generator is not None:
            generator.stop()
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _show(self, progress: Progress, job: Job) -> None:
        if not self.started:
            self.started = monotonic() - progress.at_s
            self.started_wall = wall() - progress.at_s
        self._view.show(
            LiveState(
                slo_ms=job.slo_ms,
                progress=progress,
                ceiling_per_s=self._ceiling,
                stages=self._stages,
                status=self.statuses[-1] if self.statuses else None,
            )
        )

    async def _watch(self, scraper: Scraper | None, client: StatusClient | None) -> None:
        """Follow the server until cancelled, or until it does not answer (the client will see why)."""
        try:
            while client is not None or scraper is not None:
                await asyncio.sleep(_LOOK_S)
                if client is not None:
                    self.statuses.append(await client.status())
                elif scraper is not None:
                    counts = await scraper.scrape()
                    self._stages = stage_states(self.history[-1], counts)
                    self.history.append(counts)
        except TriscaleError:
            return
