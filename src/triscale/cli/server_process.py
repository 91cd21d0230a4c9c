"""`triscale serve` as a child process: started, ready, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from triscale.cli.serve import Ready
from triscale.errors import TriscaleError
from triscale.traces.launch import tail

__all__ = ["ServerProcess"]

_PR_SET_PDEATHSIG = 1
_STOP_S = 10.0
_prctl = ctypes.CDLL(None).prctl


class ServerProcess:
    """`async with ServerProcess(arguments) as server`: a server that takes requests, until the block is left."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[bytes] | None = None
        self.killed = False
        """Whether it had to be killed, because it did not stop when it was told to."""
        self.ready: Ready
        """What the server said when it was ready."""

    @property
    def pid(self) -> int:
        """Of the server; 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "triscale", "serve", *self._arguments, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal reaches the parent only, which decides how things end.
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        assert self._process.stderr is not None
        self._errors = asyncio.create_task(tail(self._process.stderr))
        try:
            self.ready = await self._wait_until_ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _wait_until_ready(self) -> Ready:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._errors is not None
        line = await self._process.stdout.readline()
        if line:
            return msgspec.json.decode(line, type=Ready)
        code = await self._process.wait()
        text = (await self._errors).decode("utf-8", "replace").strip().removeprefix("error: ")
        raise TriscaleError(f"the server did not start (status {code}):\n{text or 'it said nothing'}")

    async def _stop(self) -> None:
        assert self._process is not None
        assert self._errors is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            except TimeoutError:
                self.killed = True
            finally:
                if self._process.returncode is None:
                    self._process.kill()
                    await self._process.wait()
        await self._errors


def _end_with_parent() -> None:
    """In the child, before it becomes the server: a parent that is killed takes it along."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
