"""What the worker does to its own process: processors, memory, life and death."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

__all__ = ["die_with_parent", "give_back_memory", "resident_bytes", "run_on"]

_PR_SET_PDEATHSIG = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent dies; False when the parent is dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def run_on(cpus: Collection[int]) -> None:
    """Keep every thread of this process, and those they start, on these processors; OSError when it cannot be."""
    done: set[str] = set()
    # A thread born between the listing and the call has the mask of its creator, old or new: list until stable.
    while waiting := {task.name for task in Path("/proc/self/task").iterdir()} - done:
        for thread in waiting:
            try:
                os.sched_setaffinity(int(thread), cpus)
            except ProcessLookupError:
                pass  # it ended in between
        done |= waiting


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def give_back_memory() -> None:
    """Return to the system what was freed but kept for later, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
