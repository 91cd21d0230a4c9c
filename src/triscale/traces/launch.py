"""The parent's side of a load generator process: start it, follow its messages, stop it, never leave it behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import msgspec

from triscale.errors import TriscaleError
from triscale.traces.job import Job
from triscale.traces.messages import Finished, Message, Refused, decode

__all__ = ["ReplayProcess", "tail"]

_LONGEST_MESSAGE = 256 * 2**20
_KILL_AFTER_S = 5.0


class ReplayProcess:
    """A running load generator: `async with ReplayProcess(job) as generator: async for message in generator`.

    Leaving the block stops the process, whatever state it is in.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[bytes] | None = None
        self._finished = False

    @property
    def pid(self) -> int:
        """Of the process; 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "triscale.traces.replay_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_MESSAGE,
            # Ctrl-C in a terminal reaches the parent only, which decides how the run ends.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._errors = asyncio.create_task(tail(self._process.stderr))
        self._process.stdin.write(msgspec.json.encode(self._job) + b"\n")
        self._process.stdin.close()
        return self

    async def __aiter__(self) -> AsyncIterator[Message]:
        """The messages, up to and with `Finished`; TriscaleError when there can be no result."""
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = decode(line)
            if isinstance(message, Refused):
                raise TriscaleError(f"the load generator could not run: {message.message}")
            self._finished = isinstance(message, Finished)
            yield message
            if self._finished:
                return
        code = await self._process.wait()
        assert self._errors is not None
        text = (await self._errors).decode("utf-8", "replace").strip() or "it wrote nothing to standard error"
        raise TriscaleError(f"the load generator ended with status {code} and without a result:\n{text}")

    def stop(self) -> None:
        """Ask for the result of what was sent so far; the messages go on until `Finished`."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._errors is not None
        if self._process.returncode is None:
            try:
                if kind is not None or not self._finished:
                    self._process.kill()
                await asyncio.wait_for(self._process.wait(), _KILL_AFTER_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._errors


async def tail(stream: asyncio.StreamReader) -> bytes:
    """The last few thousand bytes of a stream, all of which are read."""
    last = b""
    while chunk := await stream.read(4096):
        last = (last + chunk)[-4000:]
    return last
