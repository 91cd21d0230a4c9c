"""A server under measurement: started on one core, watched for its CPU time, always stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "core_for_server",
    "cpu_seconds",
    "decider_of",
    "fetch_json",
    "free_port",
    "own_cpu_seconds",
    "pinned_server",
    "resident_bytes",
    "thread_cpu_seconds",
]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT_S = 60.0


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """CPU time so far of a process and all its living descendants, user and kernel."""
    total = 0.0
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        total += own_cpu_seconds(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            waiting += [int(child) for child in (task / "children").read_text().split()]
    return total


def own_cpu_seconds(pid: int) -> float:
    """CPU time so far of one process, all its threads, user and kernel; in steps of a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def thread_cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU time so far of a process's main thread, and of all its other living threads together."""
    main = others = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        if int(task.name) == pid:
            main = seconds
        else:
            others += seconds
    return main, others


def decider_of(pid: int) -> int | None:
    """The child of a server in which its autoscaler decides; None where there is none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"triscale.control.decider_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def resident_bytes(pid: int) -> int:
    """Memory of a process; what it shares with others counts in full."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fetch_json(port: int, target: str) -> Any:
    """What a server answers to a GET; OSError unless that is a 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=5.0) as response:
        return json.load(response)


@contextlib.contextmanager
def core_for_server() -> Iterator[int | None]:
    """A core that the server may have for itself, for this process keeps to another; None where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        yield None
        return
    os.sched_setaffinity(0, {allowed[1]})
    try:
        yield allowed[0]
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def pinned_server(command: Sequence[str], port: int, core: int | None) -> Iterator[int]:
    """Run a server on `core` (None: anywhere) until the block ends; yields its process id once it is ready."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # before it starts any thread or process of its own
        _wait_until_ready(process, port)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it was ready")
        with contextlib.suppress(OSError):
            fetch_json(port, "/v2/health/ready")
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready on port {port} within {_START_TIMEOUT_S:g} s")
