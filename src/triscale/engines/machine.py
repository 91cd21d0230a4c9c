"""What of this machine is ours: the processors, the cores and the memory that a server here may plan with."""

from __future__ import annotations

import os
from pathlib import Path

from triscale.engines.own_group import quota_cores

__all__ = ["memory_bytes", "processors", "usable_cores"]


def processors() -> tuple[int, ...]:
    """The numbers of the processors that this process may run on, in order."""
    return tuple(sorted(os.sched_getaffinity(0)))


def usable_cores(root: Path = Path("/")) -> int:
    """Whole cores that this process may keep busy: its processors, or fewer where a container's quota is less.

    A part of a core is left out, because what uses it is stalled for the rest of each period; at least 1.
    `root`: where the kernel's `proc` and the mounts that it names are.
    """
    quota = quota_cores(root)
    here = len(processors())
    return here if quota is None else max(1, min(here, int(quota)))


def memory_bytes() -> int:
    """The memory of the machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
