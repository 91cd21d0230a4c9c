"""A timer with microseconds where event loops round to milliseconds: the load generator's metronome.

Linux gives the time as a readable file (timerfd), which any event loop can watch; nothing spins and no thread wakes.
Elsewhere the loop's own timer, and its rounding, must do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

__all__ = ["Alarm"]

_CLOCK_MONOTONIC = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls `callback` on the running event loop some time after `set`; setting it again moves it."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._spec = _Itimerspec()
        self._libc = ctypes.CDLL(None, use_errno=True)
        # libc's call, because Python has os.timerfd_create only from 3.13 on.
        self._file = (
            self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else -1
        )
        if self._file >= 0:
            self._loop.add_reader(self._file, self._ring)

    def set(self, delay: float) -> None:
        """Ring in `delay` seconds (at once when it is not positive), and not at the time set before."""
        if self._file < 0:
            self._cancel_handle()
            self._handle = self._loop.call_later(max(0.0, delay), self._callback)
            return
        # A value of zero would disarm the timer.
        nanoseconds = max(1, int(delay * 1e9))
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._file, 0, ctypes.byref(self._spec), None)

    def close(self) -> None:
        """Never ring again. Idempotent."""
        self._cancel_handle()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # moved after it had rung
            os.read(self._file, 8)
            self._callback()

    def _cancel_handle(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
