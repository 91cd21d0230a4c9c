"""The server's side of an autoscaler that has a process of its own: start, ask, replace, never leave behind.

Making a plan takes up to tenths of a second of pure computing. In a thread it would take turns with the event loop for
the one interpreter lock, and requests would wait; another process has a lock of its own.

A process that dies, or does not answer for `patience_s`, costs no request: the last plan stays in force, and another
one is started, with less and less haste if it happens again and again. It remembers nothing of what the lost one had
seen, which an autoscaler sees again within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Self

from triscale.control.backoff import Backoff
from triscale.control.decider_messages import Answer, Ask, Decided, Failed, Ready, Recipe, Unprepared, frame, receive
from triscale.core.plan import Plan
from triscale.core.snapshot import Snapshot

__all__ = ["DecisionError", "ProcessDecider"]

_log = logging.getLogger("triscale.control")

_HEALTHY_AFTER_S = 10.0
"""A process that lived so long before it was lost starts with a clean record."""
_EXIT_S = 1.0
"""A process that has closed its socket is gone by then, or is killed."""
_ENVIRONMENT = {
    # One thread computes: others of numpy's would only take cores from the replicas.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class DecisionError(Exception):
    """The autoscaler raised; the text is the traceback of its process."""


class ProcessDecider:
    """See the module, and `decider.Decider`."""

    def __init__(self, recipe: Recipe, *, patience_s: float = 10.0, start_patience_s: float = 60.0) -> None:
        """`patience_s`: an answer that takes longer will not come; `start_patience_s`: nor will a process be ready.

        TypeError, AttributeError or PicklingError when the recipe holds what cannot be told to another process.
        """
        self.name = recipe.name
        self.tick_s = recipe.tick_s
        self.dispatch = recipe.dispatch
        self.failures = 0
        """Processes that were lost or could not be started, and errors while they thought ahead."""
        self._recipe = frame(recipe)
        self._patience_s = patience_s
        self._start_patience_s = start_patience_s
        self._running: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._child: _Child | None = None
        """The process, once it is ready."""
        self._latest: _Child | None = None
        """The latest that was started, whatever has become of it."""
        self._number = 0
        """Of the latest ask: what answers an earlier one, which was given up, comes too late."""
        self._answer: asyncio.Future[Plan | None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a process that can be asked."""
        return self._child is not None

    @property
    def pid(self) -> int:
        """Of the process that can be asked; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """See `Decider`."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._keep_running())

    async def close(self) -> None:
        """See `Decider`."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._latest is not None:
            await self._latest.close()  # its end may have been waited for when that was cancelled

    async def decide(self, snapshot: Snapshot) -> Plan:
        """See `Decider`; DecisionError when the autoscaler raises. No change while there is no process to ask."""
        child = self._child
        if child is None:
            return snapshot.plan
        self._number += 1
        self._answer = answer = asyncio.get_running_loop().create_future()
        child.ask(self._number, snapshot)
        try:
            async with asyncio.timeout(self._patience_s):
                wanted = await answer
        except TimeoutError:
            child.give_up(f"did not answer for {self._patience_s:g} s and was killed")
            return snapshot.plan
        finally:
            self._answer = None
        return snapshot.plan if wanted is None else wanted

    async def prepare(self) -> None:
        """Nothing to be done: the process thinks ahead by itself."""

    async def _keep_running(self) -> None:
        """One process after the other, until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            how = await self._live()
            self.failures += 1
            if now() - began >= _HEALTHY_AFTER_S:
                self._backoff.lived(self.name)
            failures, delay = self._backoff.failed(self.name, now())
            _log.error(
                "the process in which policy %s decides %s; the last plan stays in force and requests are served on; "
                "%s",
                self.name,
                how,
                f"failure {failures} in a row, another one is started in {delay:.1f} s"
                if delay
                else "another one is started now",
            )
            await asyncio.sleep(delay)

    async def _live(self) -> str:
        """The life of one process, to its end; how that came, in words."""
        try:
            child = self._latest = await _Child.start()
        except OSError as error:
            return f"could not be started: {error}"
        try:
            await self._talk(child)
        except (asyncio.IncompleteReadError, ConnectionError):
            await child.exited(_EXIT_S)
        except Exception as error:  # noqa: BLE001 - such as a child of a version that was installed meanwhile
            child.give_up(f"said what cannot be understood ({error!r}; if triscale was upgraded, restart the server)")
        finally:
            self._child = None
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(None)
            await child.close()
        return child.how_it_ended()

    async def _talk(self, child: _Child) -> None:
        """Hear what it says, until it is gone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        child.send(self._recipe)
        try:
            async with asyncio.timeout(self._start_patience_s):
                await child.hear()
        except TimeoutError:
            child.give_up(f"was not ready after {self._start_patience_s:g} s and was killed")
            return
        self._child = child
        again = self.failures > 0
        _log.log(
            logging.WARNING if again else logging.INFO,
            "policy %s decides%s, in process %d, which took %.2f s to be ready",
            self.name,
            " again" if again else "",
            child.pid,
            loop.time() - began,
        )
        while True:
            self._heard(await child.hear())

    def _heard(self, message: Answer) -> None:
        match message:
            case Decided(number, plan):
                if (answer := self._awaited(number)) is not None:
                    answer.set_result(plan)
            case Failed(number, why):
                if (answer := self._awaited(number)) is not None:
                    answer.set_exception(DecisionError(f"in its process:\n{why}"))
            case Unprepared(why):
                self.failures += 1
                _log.error("policy %s could not prepare:\n%s", self.name, why)
            case Ready():
                pass

    def _awaited(self, number: int) -> asyncio.Future[Plan | None] | None:
        """What waits for the answer to that ask; None when nobody does any more."""
        answer = self._answer
        return answer if answer is not None and number == self._number and not answer.done() else None


class _Child:
    """One process, and the server's end of the sockets to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._plan: Plan | None = None
        """In force, as far as it has been told."""
        self._why = ""

    @classmethod
    async def start(cls) -> Self:
        """OSError when that cannot be done."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                # Nothing is awaited from here on but this: a process that runs is one that will be closed.
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "triscale.control.decider_process",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # standard output is the command's own
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **_ENVIRONMENT},
                    start_new_session=True,  # not of the terminal's group, which a Ctrl-C goes to
                )
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer)

    def send(self, message: bytes) -> None:
        """Without waiting: one ask at most is under way, and what cannot be sent is not answered."""
        self._writer.write(message)

    def ask(self, number: int, snapshot: Snapshot) -> None:
        """Its answer is heard later."""
        self.send(frame(Ask.about(number, snapshot, self._plan)))
        self._plan = snapshot.plan

    async def hear(self) -> Answer:
        """The next thing that it says; IncompleteReadError or ConnectionError when nothing more will come."""
        return await receive(self._reader)

    async def exited(self, seconds: float) -> None:
        """Wait so long for it to be gone."""
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            self.give_up("closed its socket, did not end and was killed")

    def give_up(self, why: str) -> None:
        """Kill it; `why` is how it ended."""
        self._why = why
        self._kill()

    async def close(self) -> None:
        """Kill it unless it is gone, and wait for that: it holds nothing that would be lost. Idempotent."""
        self._writer.close()
        self._kill()
        await self._process.wait()

    def how_it_ended(self) -> str:
        """In words; only when it has."""
        code = self._process.returncode or 0
        how = f"exited with code {code}, and says why on standard error"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        return f"(pid {self.pid}) {self._why or how}"

    def _kill(self) -> None:
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass  # gone, and about to be noticed
