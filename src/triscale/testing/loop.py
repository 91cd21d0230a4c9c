"""An event loop that lives on a manual clock: nothing waits, and the same test takes the same turns every time."""

from __future__ import annotations

import asyncio
import selectors

from triscale.testing.clock import ManualClock

__all__ = ["manual_loop"]


class _Selector(selectors.SelectSelector):
    """Does not wait: moves the clock to the loop's next timer."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.loop: asyncio.SelectorEventLoop
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is left to happen"
        if timeout > 0.0:
            # Exactly then: the loop's own sum of now and timeout may be off by a rounding error.
            self._clock.move_to(max(self._clock.now(), self.loop._scheduled[0].when()))  # type: ignore[attr-defined]  # noqa: SLF001
        return super().select(0)


def manual_loop(clock: ManualClock) -> asyncio.SelectorEventLoop:
    """The loop; close it in the end. What runs on it may wait for timers, but for no thread and no socket."""
    selector = _Selector(clock)
    loop = asyncio.SelectorEventLoop(selector)
    selector.loop = loop
    loop.time = clock.now  # type: ignore[method-assign]
    return loop
