"""What the control loop asks for a plan: an autoscaler, and where it computes.

`LocalDecider` has it in this process: for autoscalers that exist as objects, and for tests on a manual clock.
`process_decider.ProcessDecider` has it in a process of its own, which is how a server runs.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Autoscaler, Provident

__all__ = ["Decider", "LocalDecider", "Think", "at_once", "in_thread"]

_SWITCH_S = 0.001
"""Python lets a thread compute for so long before the event loop has its turn. With the default of 5 ms, a plan that is
being made can be seen in the latency of requests."""

_T = TypeVar("_T")


class Decider(Protocol):
    """An autoscaler that can be awaited. One decision at a time."""

    @property
    def name(self) -> str:
        """The policy's."""
        ...

    @property
    def tick_s(self) -> float:
        """How often it wants to be asked."""
        ...

    @property
    def dispatch(self) -> Settings:
        """See `Autoscaler.dispatch`."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can be asked now; while it cannot, the plan in force stays."""
        ...

    @property
    def failures(self) -> int:
        """What went wrong between decisions or beside them, and was logged when it did."""
        ...

    def start(self) -> None:
        """Get ready, without waiting for it. Idempotent; on the event loop that `decide` is awaited on."""
        ...

    async def decide(self, snapshot: Snapshot) -> Plan:
        """What should run from now on; `snapshot.plan` itself for no change. Raises what the autoscaler raises."""
        ...

    async def prepare(self) -> None:
        """Nothing has changed: think ahead a little, where that does not happen by itself."""
        ...

    async def close(self) -> None:
        """Leave nothing behind. Idempotent."""
        ...


class Think(Protocol):
    """Where in this process an autoscaler computes."""

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        """What `work` returns; cancelled, it is over when `work` is."""
        ...


async def in_thread(work: Callable[[], _T], /) -> _T:
    """In a thread, so that requests flow meanwhile: in turns with it, for they share the interpreter."""
    computing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(computing)
    except asyncio.CancelledError:
        # A thread cannot be stopped, and whoever asks the same autoscaler next must find it idle.
        await asyncio.wait([computing])
        raise


async def at_once(work: Callable[[], _T], /) -> _T:
    """On the event loop, which does nothing else meanwhile: where the clock is moved by hand."""
    return work()


class LocalDecider:
    """An autoscaler of this process."""

    ready = True
    failures = 0

    def __init__(self, autoscaler: Autoscaler, think: Think = in_thread) -> None:
        self.autoscaler = autoscaler
        self.name = autoscaler.name
        self.tick_s = autoscaler.tick_s
        self.dispatch = autoscaler.dispatch
        self._think = think

    def start(self) -> None:
        """See `Decider`."""
        if self._think is in_thread:
            sys.setswitchinterval(_SWITCH_S)

    async def decide(self, snapshot: Snapshot) -> Plan:
        """See `Decider`."""
        return await self._think(partial(self.autoscaler.decide, snapshot))

    async def prepare(self) -> None:
        """See `Decider`."""
        if isinstance(self.autoscaler, Provident):
            await self._think(self.autoscaler.prepare)

    async def close(self) -> None:
        """Nothing to be done: whoever is cancelled while deciding waits for the thread."""
