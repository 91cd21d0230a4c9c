"""Time that goes slower: in a process that has called `dilate(k)`, a second of every clock and timer lasts k seconds.

A server in such a process, with replicas that sleep k times as long and a load k times as slow, has the very same
queues as one in plain time: every ratio of times is what it was. What is real and not slept, the work of the server
and the replicas themselves, weighs k times less. So a machine can stand for a cluster whose traffic is k times what
it could push.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["dilate", "run"]

T = TypeVar("T")

_real = time.monotonic
_factor = 1.0


def dilate(factor: float) -> None:
    """From now on, `time.monotonic` and the loops of `run` go `factor` times slower in this process. Call it first."""
    global _factor
    _factor = factor
    if factor != 1.0:
        time.monotonic = lambda: _real() / factor


def run(main: Coroutine[Any, Any, T]) -> T:
    """On an event loop that lives in this process's time: uvloop, as the server has it, where that is the plain one."""
    if _factor == 1.0:
        import uvloop

        result: T = uvloop.run(main)
        return result
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector())) as runner:
        return runner.run(main)


class _Selector(selectors.DefaultSelector):
    """Waits as long as the loop's timers mean: the loop itself reads `time.monotonic`."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(None if timeout is None else timeout * _factor)
        return found
