"""Which machine this is, as far as latencies depend on it."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from triscale.core.profile import Machine

__all__ = ["this_machine"]


def this_machine() -> Machine:
    """The processor, the cores this process may use, and the interpreter; `id` names the combination."""
    cpu = _cpu_model()
    cores = len(os.sched_getaffinity(0))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    name = hashlib.sha256(f"{cpu}|{cores}|{platform.machine()}|{python}".encode()).hexdigest()[:12]
    return Machine(id=name, cpu=cpu, cores=cores, memory_bytes=_memory_bytes(), python=python)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
