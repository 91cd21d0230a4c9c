"""What a running system shows of itself: it takes the history's samples, and answers the server's own pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

import triscale
from triscale.clock import Clock, wall
from triscale.control.actuator import Actuator
from triscale.control.loop import Controller
from triscale.observe.axes import Axes, CoreAxes
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.history import History
from triscale.observe.recorder import Recorder
from triscale.observe.status import Status
from triscale.observe.status_reading import status_of
from triscale.serve.runner import Runner
from triscale.serve.status_routes import Page

__all__ = ["LivePages"]

_SAMPLE_S = 1.0
_LATE_S = 0.5
"""A sample that is later is not made up for by one that covers next to no time."""
_DECISIONS_SHOWN = 10
"""In the status; the rest is at a route of its own."""

_encode = msgspec.json.Encoder().encode


class LivePages:
    """A `serve.status_routes.Pages` of one running pipeline."""

    def __init__(
        self,
        runner: Runner,
        recorder: Recorder,
        actuator: Actuator,
        controller: Controller | None,
        clock: Clock,
        page: Page | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.page = page
        self._runner = runner
        self._recorder = recorder
        self._actuator = actuator
        self._controller = controller
        self._clock = clock
        self._sleep = sleep
        self._axes = CoreAxes()
        self._started = clock.now()
        self._history = History(runner.dispatcher, recorder, self._held, self._started, wall())

    def open(self) -> None:
        """The first plan's replicas are there: what comes from now on is scaling."""
        self._held()
        self._axes.open()

    async def run(self) -> None:
        """Take a sample a second until cancelled."""
        due = self._clock.now()
        while True:
            due += _SAMPLE_S
            await self._sleep(max(0.0, due - self._clock.now()))
            now = self._clock.now()
            self._history.sample(now, wall())
            if now - due > _LATE_S:
                due = now  # what was missed while the machine was busy is in the sample just taken

    def current(self) -> Status:
        """What the pipeline is doing now."""
        log = None if self._controller is None else self._controller.decisions
        return status_of(
            self._runner.dispatcher,
            self._history,
            self._actuator.replicas,
            self._actuator.nodes,
            self._held(),
            [] if log is None else log.since(0, _DECISIONS_SHOWN),
            decisions_total=0 if log is None else log.total,
            policy="static" if self._controller is None else self._controller.decider.name,
            version=triscale.__version__,
            ready=self._runner.ready(),
            replica_exits=self._recorder.replica_exits,
            wall_s=wall(),
            uptime_s=self._clock.now() - self._started,
        )

    def status(self) -> bytes:
        """`current`, as JSON."""
        return _encode(self.current())

    def history(self, since: int) -> bytes:
        """The samples after number `since`, as JSON."""
        return _encode(self._history.since(since))

    def decisions(self, since: int) -> bytes:
        """The decisions after number `since`, as JSON."""
        log = None if self._controller is None else self._controller.decisions
        return _encode(
            DecisionsDocument(
                started_s=self._history.started_s,
                last=0 if log is None else log.total,
                decisions=[] if log is None else log.since(since),
            )
        )

    def _held(self) -> Axes:
        return self._axes.observe(self._actuator.replicas, self._actuator.grants)
