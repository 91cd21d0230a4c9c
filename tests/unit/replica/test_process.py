"""What the worker does to its own process."""

from __future__ import annotations

import os
import threading

import pytest

from triscale.replica.process import resident_bytes, run_on


def test_every_thread_moves_not_only_the_caller() -> None:
    before = os.sched_getaffinity(0)
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        target = {min(before)}
        run_on(target)
        assert os.sched_getaffinity(0) == target
        assert os.sched_getaffinity(thread.native_id or 0) == target
    finally:
        run_on(before)
        end.set()
        thread.join()
    assert os.sched_getaffinity(0) == before


def test_processors_that_do_not_exist_are_an_os_error() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        run_on({1023})


def test_resident_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    ballast = bytearray(os.urandom(32 * 2**20))
    assert resident_bytes() - before > 30 * 2**20
    del ballast
