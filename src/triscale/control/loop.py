"""The control loop: look, decide, act, on the autoscaler's clock.

One decision at a time, in a thread of its own so that requests flow while a plan is computed; acting returns at once
(`actuator.py`), so a cold start never holds the next decision up. What is done is worked out from what runs when the
decision is there, not from the picture that it was made from. Without a picture, or when deciding fails, the last plan
stays in force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from triscale.clock import Clock, wall
from triscale.control.actuator import Actuator
from triscale.core.plan import Plan
from triscale.core.snapshot import Snapshot
from triscale.observe.decisions import DecisionLog, decision_of
from triscale.observe.recorder import ControlRecorder
from triscale.policy.autoscalers.interface import Autoscaler, Provident

__all__ = ["Controller", "Think", "in_thread"]

_log = logging.getLogger("triscale.control")


_T = TypeVar("_T")


class Think(Protocol):
    """Where an autoscaler computes."""

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        """What `work` returns; cancelled, it is over when `work` is."""
        ...


async def in_thread(work: Callable[[], _T], /) -> _T:
    """In a thread, so that requests flow meanwhile."""
    computing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(computing)
    except asyncio.CancelledError:
        # A thread cannot be stopped, and whoever asks the same autoscaler next must find it idle.
        await asyncio.wait([computing])
        raise


class Controller:
    """Drives one autoscaler."""

    def __init__(
        self,
        autoscaler: Autoscaler,
        actuator: Actuator,
        look: Callable[[Plan], Snapshot],
        plan: Plan,
        clock: Clock,
        *,
        check: Callable[[Plan], list[str]] = lambda _plan: [],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        think: Think = in_thread,
        decisions: DecisionLog | None = None,
        recorder: ControlRecorder | None = None,
    ) -> None:
        """`look` takes a picture with the plan in force; `check` says what is impossible about a plan."""
        self.autoscaler = autoscaler
        self.plan = plan
        """In force."""
        self.decisions = decisions or DecisionLog()
        self.ticks = 0
        self.failures = 0
        """Ticks that something went wrong in: no picture, an error, or an impossible plan."""
        self._actuator = actuator
        self._look = look
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._think = think
        self._recorder = recorder or ControlRecorder()

    async def run(self) -> None:
        """Tick until cancelled."""
        due = self._clock.now()
        while True:
            due += self.autoscaler.tick_s
            await self._sleep(max(0.0, due - self._clock.now()))
            await self.tick()
            # Ticks that were missed while the machine was busy are not made up for.
            due = max(due, self._clock.now() - self.autoscaler.tick_s)

    async def _prepare(self) -> None:
        """Nothing has changed: let the autoscaler think ahead, so that it need not when something does."""
        if isinstance(self.autoscaler, Provident):
            try:
                await self._think(self.autoscaler.prepare)
            except Exception:  # noqa: BLE001 - as when deciding
                self.failures += 1
                _log.exception("policy %s could not prepare", self.autoscaler.name)

    async def tick(self) -> None:
        """Look once, decide once, act."""
        self.ticks += 1
        began = self._clock.now()
        try:
            snapshot = self._look(self.plan)
            plan = await self._think(partial(self.autoscaler.decide, snapshot))
        except Exception:  # noqa: BLE001 - whatever a policy does, requests go on being served
            self.failures += 1
            _log.exception("policy %s could not decide; the last plan stays in force", self.autoscaler.name)
            plan = self.plan
        took = self._clock.now() - began
        self._recorder.decide_s.observe(took)
        if plan is self.plan:
            await self._prepare()
        else:
            problems = self._check(plan)
            if problems:
                self.failures += 1
                _log.error(
                    "policy %s made an impossible plan, the last one stays in force: %s",
                    self.autoscaler.name,
                    "; ".join(problems),
                )
            else:
                number = self.decisions.total + 1
                self.decisions.add(decision_of(number, wall(), self.autoscaler.name, snapshot, plan, took))
                self.plan = plan
        try:
            self._actuator.pursue(self.plan)
        except Exception:  # noqa: BLE001 - the next tick tries again
            self.failures += 1
            _log.exception("the plan could not be pursued; it is tried again in %g s", self.autoscaler.tick_s)
