"""The control loop: look, decide, act, on the autoscaler's clock.

One decision at a time, in a process of its own so that requests flow while a plan is computed (`process_decider.py`);
acting returns at once (`actuator.py`), so a cold start never holds the next decision up. What is done is worked out
from what runs when the decision is there, not from the picture that it was made from. Without a picture, when deciding
fails, and while nobody is there to decide, the last plan stays in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from triscale.clock import Clock, wall
from triscale.control.actuator import Actuator
from triscale.control.decider import Decider
from triscale.core.plan import Plan
from triscale.core.snapshot import Snapshot
from triscale.observe.decisions import DecisionLog, decision_of
from triscale.observe.recorder import ControlRecorder

__all__ = ["Controller"]

_log = logging.getLogger("triscale.control")


class Controller:
    """Drives one autoscaler."""

    def __init__(
        self,
        decider: Decider,
        actuator: Actuator,
        look: Callable[[Plan], Snapshot],
        plan: Plan,
        clock: Clock,
        *,
        check: Callable[[Plan], list[str]] = lambda _plan: [],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        decisions: DecisionLog | None = None,
        recorder: ControlRecorder | None = None,
    ) -> None:
        """`look` takes a picture with the plan in force; `check` says what is impossible about a plan."""
        self.decider = decider
        self.plan = plan
        """In force."""
        self.decisions = decisions or DecisionLog()
        self.ticks = 0
        """Times that it looked and asked; while the decider is not ready it does neither."""
        self._failures = 0
        self._actuator = actuator
        self._look = look
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._recorder = recorder or ControlRecorder()

    @property
    def failures(self) -> int:
        """Ticks that something went wrong in (no picture, an error, an impossible plan), and the decider's failures."""
        return self._failures + self.decider.failures

    def ask_another(self, decider: Decider) -> None:
        """From now on; failures so far stay counted."""
        self._failures += self.decider.failures
        self.decider = decider

    async def run(self) -> None:
        """Tick until cancelled."""
        self.decider.start()
        due = self._clock.now()
        while True:
            due += self.decider.tick_s
            await self._sleep(max(0.0, due - self._clock.now()))
            await self.tick()
            # Ticks that were missed while the machine was busy are not made up for.
            due = max(due, self._clock.now() - self.decider.tick_s)

    async def tick(self) -> None:
        """Look once, decide once, act."""
        if self.decider.ready:
            self.ticks += 1
            await self._decide()
        try:
            self._actuator.pursue(self.plan)
        except Exception:  # noqa: BLE001 - the next tick tries again
            self._failures += 1
            _log.exception("the plan could not be pursued; it is tried again in %g s", self.decider.tick_s)

    async def _decide(self) -> None:
        """Put another plan in force if the autoscaler wants one that is possible."""
        began = self._clock.now()
        try:
            snapshot = self._look(self.plan)
            plan = await self.decider.decide(snapshot)
        except Exception:  # noqa: BLE001 - whatever a policy does, requests go on being served
            self._failures += 1
            _log.exception("policy %s could not decide; the last plan stays in force", self.decider.name)
            plan = self.plan
        took = self._clock.now() - began
        self._recorder.decide_s.observe(took)
        if plan is self.plan:
            await self._prepare()
            return
        problems = self._check(plan)
        if problems:
            self._failures += 1
            _log.error(
                "policy %s made an impossible plan, the last one stays in force: %s",
                self.decider.name,
                "; ".join(problems),
            )
            return
        number = self.decisions.total + 1
        self.decisions.add(decision_of(number, wall(), self.decider.name, snapshot, plan, took))
        self.plan = plan

    async def _prepare(self) -> None:
        """Nothing has changed: let the autoscaler think ahead, so that it need not when something does."""
        try:
            await self.decider.prepare()
        except Exception:  # noqa: BLE001 - as when deciding
            self._failures += 1
            _log.exception("policy %s could not prepare", self.decider.name)
