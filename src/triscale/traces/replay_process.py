"""A load generator as a process of its own: `python -m triscale.traces.replay_process [JOB.json]`.

The job comes from the named file or from standard input (one line); messages (`messages.py`) go to standard output.
SIGINT or SIGTERM ends the run early, with the result of what was sent; a second one does not wait for answers. When
nobody reads the messages any more (the parent is gone) the process ends at once.

A process of its own, because a client in the server's process would slow down exactly when the server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import io
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from triscale.clock import monotonic
from triscale.errors import ConfigError
from triscale.traces.conclude import result_of
from triscale.traces.job import Job
from triscale.traces.messages import Finished, Message, Preparing, Refused, encode
from triscale.traces.peer import Peer
from triscale.traces.record_file import open_record, write_record
from triscale.traces.replay import Replay
from triscale.traces.results import ReplayResult
from triscale.traces.samples import Prepared, encoded, prepare

__all__ = ["agreed", "main", "replay"]

_PERIOD_S = 0.25
"""Between two progress messages."""
_BACKLOG = 20
"""Messages waiting for a slow reader before progress is left out."""


class _Reporter:
    """Writes messages from a thread, so that a slow reader never holds up the sending of requests."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="reporter", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Queue a message; all but the last one may be left out."""
        if isinstance(message, Finished | Refused) or self._lines.qsize() < _BACKLOG:
            self._lines.put(encode(message) + b"\n")

    def close(self) -> None:
        """Wait until everything is written."""
        self._lines.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            view = memoryview(line)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                # The parent is gone without having stopped us: nobody wants the load or the result.
                os._exit(1)


async def replay(
    job: Job,
    prepared: Prepared,
    on_progress: Callable[[Replay], None],
    stop_on: tuple[signal.Signals, ...] = (),
    record: IO[str] | None = None,
) -> ReplayResult:
    """Run a prepared job on this event loop. `on_progress` is called four times a second and at the end.

    The first of the signals `stop_on` ends the run early; all of them are ignored once it is over. A row for each
    request is written to `record` after the last one.
    """
    prepared = await agreed(job, prepared)
    gc.collect()
    gc.freeze()  # what is prepared stays: the collector need not walk it while requests are timed
    run = Replay(job, prepared)
    loop = asyncio.get_running_loop()
    for number in stop_on:
        loop.add_signal_handler(number, run.stop)
    ticker = loop.create_task(_tick(run, on_progress))
    try:
        await run.run()
        on_progress(run)
        if record is not None:
            payloads, as_csv = len(prepared.templates), job.record.lower().endswith(".csv")
            write_record(record, run.records, run.parts, payloads, job.seed, as_csv=as_csv)
        return result_of(job, prepared, run)
    finally:
        ticker.cancel()
        for number in stop_on:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # too late to stop anything but the writing of the result


async def agreed(job: Job, prepared: Prepared) -> Prepared:
    """What was prepared, written as the server takes it; ConfigError when it is not there or lacks the model.

    A server that does not say whether it takes binary tensors is sent one request to find out.
    """
    async with Peer(job.url, job.headers, job.trust) as peer:
        await peer.inputs(job.model)
        if job.encoding != "auto" or not prepared.samples:
            return prepared
        binary = await peer.takes_binary()
        if binary is None:
            binary = await peer.accepts(prepared.templates[0], job.timeout_ms / 1000.0)
    return prepared if binary else encoded(job, prepared, "json")


async def _tick(run: Replay, on_progress: Callable[[Replay], None]) -> None:
    while True:
        await asyncio.sleep(_PERIOD_S)
        on_progress(run)


def main() -> int:
    """Run the job that the arguments or standard input give; 0, or 2 when it cannot be run."""
    messages = os.dup(1)
    os.dup2(2, 1)  # what the user's functions print must not get between the messages
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # nor be lost when the process is killed
    reporter = _Reporter(messages)
    try:
        result = _run(_read_job(), reporter)
    except ConfigError as error:
        reporter.send(Refused(message=str(error)))
        return 2
    except KeyboardInterrupt:
        reporter.send(Refused(message="stopped before the first request was sent"))
        return 2
    else:
        reporter.send(Finished(result=result))
        return 0
    finally:
        reporter.close()


def _read_job() -> Job:
    source = sys.argv[1] if len(sys.argv) > 1 else "standard input"
    try:
        text = Path(source).read_bytes() if len(sys.argv) > 1 else sys.stdin.buffer.readline()
        return msgspec.json.decode(text, type=Job)
    except OSError as error:
        raise ConfigError(f"the job cannot be read: {error}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"the job ({source}) is not valid: {error}") from None


def _run(job: Job, reporter: _Reporter) -> ReplayResult:
    with open_record(job.record) if job.record else contextlib.nullcontext() as file:
        prepared = prepare(job, _preparing(job.samples, reporter))
        run = replay(job, prepared, lambda run: reporter.send(run.progress()), (signal.SIGINT, signal.SIGTERM), file)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(run)


def _preparing(total: int, reporter: _Reporter) -> Callable[[int], None]:
    """Tells the parent how many samples are made, as often as it hears of the progress later."""
    due = 0.0

    def made(count: int) -> None:
        nonlocal due
        if count == total or monotonic() >= due:
            due = monotonic() + _PERIOD_S
            reporter.send(Preparing(made=count, total=total))

    return made


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop where it is installed; None is asyncio's own."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
