"""One worker process on this machine: started, watched until it ends, its output in our log.

The event loop's thread must start it: the kernel kills the worker when the thread that started it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque

import msgspec

from triscale.replica.config import ReplicaConfig

__all__ = ["Child"]

_TAIL_LINES = 20
_LONGEST_LINE = 64 * 1024
_DRAIN_AT_EXIT = 2**20
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Threads that spin while they wait take the cores of the other lanes.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}


class Child:
    """A worker process that runs, or has run. `exited` resolves to its return code when it is gone and reaped."""

    def __init__(self, config: ReplicaConfig, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        """Its last lines of output."""
        self._log = logging.getLogger(f"triscale.replica.{config.spec.id}")
        self._partial = b""
        self._fatal = ""
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._process = _spawn(config, listener, output)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)
        self.pid = self._process.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self._process.kill()
            self._process.wait()
            os.close(self._output)
            raise
        self._loop.add_reader(self._pidfd, self._reap)
        self._loop.add_reader(self._output, self._read)

    def kill(self) -> None:
        """Kill it and every process of its group. No-op when it is gone."""
        if not self.exited.done():
            self._kill_group()
            self._process.kill()

    def kill_and_reap(self) -> None:
        """Kill it and wait, without the event loop: the last resort of a cancelled clean-up."""
        if not self.exited.done():
            self.kill()
            self._reap()

    def describe_exit(self) -> str:
        """How it ended, in words. Only when it has."""
        code = self.exited.result()
        how = f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return f"{how}; last log line: {line}" if (line := self.last_line()) else how

    def last_line(self) -> str:
        """The last line of output, or what the interpreter died of; empty if there is none."""
        return self._fatal or (self.tail[-1] if self.tail else "")

    def last_words(self) -> str:
        """Its last lines of output, to be appended to a message; empty if there are none."""
        return "".join(f"\n  {line}" for line in self.tail)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Until it is reaped its group cannot be another's: processes that the model started and left go with it.
        self._kill_group()
        code = self._process.wait()
        self._loop.remove_reader(self._output)
        for _ in range(_DRAIN_AT_EXIT // _LONGEST_LINE):
            if not self._read():
                break
        self._line(self._partial)
        os.close(self._output)
        self.exited.set_result(code)

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left in it, or nobody that is ours

    def _read(self) -> bool:
        """Log what was printed; whether there may be more."""
        try:
            data = os.read(self._output, _LONGEST_LINE)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._output)
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._partial) > _LONGEST_LINE:
            self._line(self._partial)
            self._partial = b""
        return True

    def _line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()
        if line:
            if line.startswith("Fatal Python error"):
                self._fatal = line  # a long dump of all threads follows
            self.tail.append(line)
            self._log.info("%s", line)


def _spawn(config: ReplicaConfig, listener: socket.socket, output: int) -> subprocess.Popen[bytes]:
    # A file for standard input, not a pipe: it takes a config of any size at once.
    stdin = os.memfd_create("triscale-config")
    try:
        os.write(stdin, msgspec.json.encode(config))
        os.lseek(stdin, 0, os.SEEK_SET)
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-X", "faulthandler", "-m", "triscale.replica", config.spec.id],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=[listener.fileno()],
            process_group=0,
        )
    finally:
        os.close(stdin)
