"""Which machine this is, as far as latencies depend on it, and what a process holds of its memory."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from triscale.clock import monotonic, wall
from triscale.core.profile import Machine
from triscale.engines.machine import memory_bytes, usable_cores

__all__ = ["OthersLoad", "process_memory", "this_machine", "today"]


def this_machine() -> Machine:
    """The processor, the cores this process may use, and the interpreter; `id` names the combination of these."""
    cpu = _cpu_model()
    cores = usable_cores()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    name = hashlib.sha256(f"{cpu}|{cores}|{platform.machine()}|{python}".encode()).hexdigest()[:12]
    return Machine(
        id=name,
        cpu=cpu,
        cores=cores,
        memory_bytes=memory_bytes(),
        python=python,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


class OthersLoad:
    """How busy other processes (or, on a virtual machine, other guests) kept the processors since it was made."""

    def __init__(self) -> None:
        self._started = monotonic()
        self._all, self._own = _all_cpu_s(), _own_cpu_s()

    def cores(self) -> float:
        """Cores on average; 0 where the kernel does not tell. Our own children count as others until they end."""
        elapsed = monotonic() - self._started
        if not self._all or elapsed <= 0.0:
            return 0.0
        return max(0.0, (_all_cpu_s() - self._all - (_own_cpu_s() - self._own)) / elapsed)


def _all_cpu_s() -> float:
    """Processor seconds that were not idle since the start of the machine; 0 where it cannot be known."""
    try:
        kinds = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, kinds[:8])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def today() -> str:
    """The present moment for people: UTC, ISO 8601, to the second."""
    return datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds")


def process_memory(pid: int) -> int:
    """Bytes that a process holds; 0 where the kernel does not tell.

    The proportional set size (`Pss` of /proc/PID/smaps_rollup, Linux 4.14): pages of its own in full, and of pages
    that several processes share (libraries, shared memory) its part. So the replicas of a node may be added up.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
