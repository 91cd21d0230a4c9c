"""Keeps what runs equal to the plan: carries out a plan's actions, and replaces replicas that die.

A replica that dies again and again is relaunched more and more slowly, and never takes the others down with it.
Requests are not this file's business: the dispatcher requeues what a lost replica ran.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from triscale.clock import Clock
from triscale.core.cluster import Replica, ReplicaId, ReplicaSpec
from triscale.core.plan import Drain, Launch, Plan, Resize, Route, actions
from triscale.core.ports import Engine, ReplicaExited
from triscale.errors import EngineError

__all__ = ["Fleet", "Keeper"]

_log = logging.getLogger("triscale.control")

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 30.0
_HEALTHY_AFTER_S = 10.0
"""A replica that lived so long before it died starts with a clean record."""


class Fleet(Protocol):
    """The serving side, as far as replicas come, change and go."""

    def attach(self, replica: Replica) -> None:
        """It can take work."""
        ...

    def detach(self, replica: ReplicaId, reason: str) -> None:
        """It is gone. Idempotent."""
        ...

    def follow(self, plan: Plan) -> None:
        """Use this plan's shares, batch sizes and admission."""
        ...

    def resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        """Use so many lanes from now on."""
        ...

    def lanes_closed(self, replica: ReplicaId) -> Awaitable[None]:
        """Done when the next shrink has taken effect. Ask before shrinking."""
        ...

    def drain(self, replica: ReplicaId) -> Awaitable[None]:
        """Give it no new work; done when it is idle."""
        ...


class Keeper:
    """Carries out plans on an engine and tells the fleet; relaunches what dies."""

    def __init__(
        self,
        engine: Engine,
        fleet: Fleet,
        clock: Clock,
        *,
        drain_grace_s: float = 30.0,
        on_crash: Callable[[ReplicaId, str], None] = lambda _replica, _reason: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._fleet = fleet
        self._clock = clock
        self._grace = drain_grace_s
        self._on_crash = on_crash
        self._sleep = sleep
        self._ids = itertools.count(1)
        self._running: dict[ReplicaId, Replica] = {}
        self._since: dict[ReplicaId, float] = {}
        self._failures: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def running(self) -> tuple[Replica, ...]:
        """The replicas that take work."""
        return tuple(self._running.values())

    async def apply(self, plan: Plan) -> None:
        """Make what runs follow `plan`. Launches run side by side; EngineError when one fails."""
        steps = actions(self._running.values(), plan, self._ids)
        launched = False
        for step in steps:
            match step:
                case Resize(replica, lanes, threads):
                    await self.resize(replica, lanes, threads)
                case Launch():
                    if not launched:
                        launched = True
                        await _all([self._launch(other.spec) for other in steps if isinstance(other, Launch)])
                case Route(routed):
                    self._fleet.follow(routed)
                case Drain(replica):
                    await self.drain(replica)

    async def resize(self, replica: ReplicaId, lanes: int, threads: int = 1) -> None:
        """Change a live replica in place: cores before lanes to grow, lanes before cores to shrink.

        EngineError when the engine cannot; the lanes then stay as the engine says they are.
        """
        known = self._running.get(replica)
        if known is None:
            raise EngineError(f"there is no running replica {replica!r} to resize")
        shrinking = lanes * threads < known.spec.cores
        if shrinking:
            closed = self._fleet.lanes_closed(replica)
            self._fleet.resize(replica, min(lanes, known.spec.lanes), known.spec.threads)
            await closed
        result = await self._engine.resize(replica, lanes, threads)
        self._fleet.resize(replica, result.lanes, result.threads)
        if replica in self._running:
            spec = replace(known.spec, lanes=result.lanes, threads=result.threads)
            self._running[replica] = replace(known, spec=spec)
        if (result.lanes, result.threads) != (lanes, threads):
            raise EngineError(
                f"replica {replica!r} has {result.lanes} lanes of {result.threads} threads, not {lanes} of {threads}: "
                f"{result.reason or result.status}"
            )

    async def drain(self, replica: ReplicaId) -> None:
        """Let a replica finish its batches, then stop it. No request is lost."""
        if self._running.pop(replica, None) is not None:
            await self._fleet.drain(replica)
            await self._engine.drain(replica, self._grace)

    async def watch(self) -> None:
        """Follow the engine's events until cancelled: a replica that dies unasked is replaced."""
        async for event in self._engine.events():
            if isinstance(event, ReplicaExited):
                self._exited(event)

    async def close(self) -> None:
        """Stop replacing replicas."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _launch(self, spec: ReplicaSpec) -> None:
        replica = await self._engine.launch(spec)
        self._running[spec.id] = replica
        self._since[spec.id] = self._clock.now()
        self._fleet.attach(replica)
        _log.info("replica %s is ready after %.2f s", spec.id, replica.ready_after_s)

    def _exited(self, event: ReplicaExited) -> None:
        self._fleet.detach(event.replica, event.reason)
        replica = self._running.pop(event.replica, None)
        lived = self._clock.now() - self._since.pop(event.replica, self._clock.now())
        if replica is None or event.expected or self._closing:
            return
        _log.warning("replica %s died: %s; a new one is launched", event.replica, event.reason)
        self._on_crash(event.replica, event.reason)
        if lived >= _HEALTHY_AFTER_S:
            self._failures.pop(replica.spec.stage, None)
        task = asyncio.get_running_loop().create_task(self._replace(replica.spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, old: ReplicaSpec) -> None:
        while True:
            failures = self._failures.get(old.stage, 0)
            self._failures[old.stage] = failures + 1
            if failures:
                delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** (failures - 1))
                _log.warning("stage %s: relaunch in %.1f s (death %d in a row)", old.stage, delay, failures + 1)
                await self._sleep(delay)
            spec = replace(old, id=ReplicaId(f"{old.stage}-{next(self._ids)}"), cpus=())
            try:
                await self._launch(spec)
            except EngineError as error:
                _log.error("stage %s: a new replica could not be launched: %s", old.stage, error)
                continue
            return


async def _all(launches: list[Awaitable[None]]) -> None:
    """Wait for all; the first error is raised when all are done, so that none is left half-way."""
    results = await asyncio.gather(*launches, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
