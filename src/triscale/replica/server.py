"""A replica's session with the server: frames in, batches through lanes, frames out. Blocking I/O, no event loop.

`Session` serves one connection until it ends. Whichever thread leads (see `lanes.py`) reads and acts on control
frames at once; batches go to the lanes; every lane answers for itself; a thread of its own sends a beat each second.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Collection, Sequence

from triscale.clock import monotonic
from triscale.errors import ModelError, WireError
from triscale.replica import batch
from triscale.replica.config import ReplicaConfig
from triscale.replica.connection import Connection
from triscale.replica.lanes import Lanes
from triscale.replica.process import resident_bytes, run_on
from triscale.replica.residents import NoRoom, Resident, Residents
from triscale.replica.resizing import Resizer
from triscale.wire.frames import (
    Beat,
    Done,
    DoneItem,
    Drain,
    Failed,
    Fatal,
    Free,
    Load,
    Loaded,
    Message,
    Ready,
    Resize,
    Run,
    Stop,
    Unload,
    Unloaded,
)
from triscale.wire.parts import PartReader, PartWriter
from triscale.wire.payload import Payload

__all__ = ["Session"]


class Job:
    """A batch that was received: the message, and per item its parts."""

    __slots__ = ("items", "resident", "run")

    def __init__(self, run: Run, items: Sequence[Sequence[Payload]], resident: Resident | None) -> None:
        self.run = run
        self.items = items
        self.resident = resident
        """Its variant, in use from now on: an Unload that comes later waits for it."""


class Session:
    """Serves the batches of one connection, which it owns."""

    def __init__(
        self,
        config: ReplicaConfig,
        residents: Residents,
        connection: Connection,
        pin: Callable[[Collection[int]], None] = run_on,
    ) -> None:
        self._config = config
        self._residents = residents
        self._connection = connection
        self._lanes: Lanes[Job] = Lanes(residents.resources.lanes, self._lead, self._execute, self._drop)
        self._resizer = Resizer(self._lanes, residents, pin, self._report)
        self._ended = threading.Event()
        self.drained = False
        """Whether it ended because it was asked to finish, and did."""
        self.stopped = False
        """Whether it ended because it was told to stop."""

    def serve(self) -> None:
        """Greet the server and serve it until the connection ends. WireError when it is not a server of ours."""
        try:
            early = self._connection.greet(self._config.token)
            self._connection.send(self._ready())
            for message, body in early:
                self._act(message, body)
            threading.Thread(target=self._beat, name="beat", daemon=True).start()
            self._lanes.start()
            self._ended.wait()
        except OSError:  # the server is gone already, which ends a session like any other
            self._connection.close()
        except WireError as error:
            self._refuse(error)
            self._connection.close()
            raise
        finally:
            self._ended.set()
            self._connection.hang_up()  # wakes the leader, which closes the connection

    def settle(self) -> None:
        """After the end: wait until no lane runs a batch any more."""
        idle = threading.Event()
        self._lanes.finish(idle.set)
        idle.wait()

    def drain(self) -> None:
        """Finish the batches received so far, then end the session. Does not wait for it."""
        self._lanes.finish(self._finished)

    def _finished(self) -> None:
        self.drained = True
        self._ended.set()

    def _ready(self) -> Ready:
        resources = self._residents.resources
        return Ready(
            variants=self._residents.load_times(),
            lanes=resources.lanes,
            threads=resources.threads,
            pid=os.getpid(),
            rss=resident_bytes(),
            children=len(self._residents.children),
            arena=self._connection.inbox is not None,
            fixed_threads=self._residents.fixed_threads(),
        )

    def _lead(self) -> bool:
        """Take in what arrives next; False at the end of the connection."""
        try:
            frames = self._connection.receive()
            for message, body in frames or ():
                self._act(message, body)
        except WireError as error:
            self._refuse(error)
            frames = None
        if frames is None or self._ended.is_set():
            self._ended.set()
            self._connection.close()
            return False
        return True

    def _act(self, message: Message, body: memoryview) -> None:
        match message:
            case Run():
                reader = PartReader(body, self._connection.inbox)
                items = [[reader.take(part) for part in parts] for parts in message.items]
                reader.finish()
                if not (self._config.join or all(items)):
                    raise WireError(f"batch {message.batch} has an item without parts")
                self._free(message.freed)
                self._lanes.submit(Job(message, items, self._residents.enter(message.variant)))
            case Free():
                self._free(message.freed)
            case Resize():
                self._resizer.start(message)
            case Load():
                threading.Thread(target=self._load, args=(message.variant,), name="load", daemon=True).start()
            case Unload():
                self._unload(message.variant)
            case Drain():
                self.drain()
            case Stop():
                self.stopped = True
                self._ended.set()
            case _:
                raise WireError(f"the server sent {type(message).__name__}, which is a replica's message")

    def _free(self, freed: list[int]) -> None:
        if not freed:
            return
        if self._connection.outbox is None:
            raise WireError("the server freed arena slots, but this connection has no arena")
        self._connection.outbox.free(freed)

    def _execute(self, job: Job) -> None:
        """Run one batch and answer it."""
        started = monotonic()
        run, writer = job.run, PartWriter(self._connection.outbox)
        answer: Failed | list[DoneItem]
        resident = job.resident
        if resident is None:
            held = ", ".join(self._residents.load_times()) or "none"
            text = f"variant {run.variant!r} is not resident in replica {self._config.spec.id}; it holds: {held}"
            answer = Failed(run.batch, "not_resident", text)
        else:
            answer = self._run(resident, job, writer)
            self._residents.leave(resident)
        # By now nothing refers to the batch's payloads, so their arena slots go back with the answer.
        freed = self._connection.take_freed()
        if not isinstance(answer, Failed):
            try:
                self._reply(Done(run.batch, monotonic() - started, answer, freed), writer)
                return
            except WireError as error:  # too many items; the batch's problem, not the connection's
                writer.discard()
                answer = Failed(
                    run.batch, "model_error", f"the results of variant {run.variant} cannot be sent: {error}"
                )
        answer.freed = freed
        self._reply(answer, writer)

    def _drop(self, job: Job) -> None:
        if job.resident is not None:
            self._residents.leave(job.resident)

    def _run(self, resident: Resident, job: Job, writer: PartWriter) -> Failed | list[DoneItem]:
        items, job.items = job.items, ()
        try:
            resident.use_threads(self._residents.resources.threads)
            packed = batch.predict(resident, self._residents.children, items, self._config.join)
            size, limit = sum(map(_size, packed)), self._config.max_body
            if size > limit:
                raise ModelError(f"{resident.title}: results of {size} bytes exceed the limit of {limit}")
        except ModelError as error:
            return Failed(job.run.batch, "model_error", str(error))
        except Exception as error:  # noqa: BLE001 - out of memory, say: a lane must outlive its batch
            traceback.print_exc()
            return Failed(job.run.batch, "model_error", f"{resident.title}: {type(error).__name__}: {error}")
        return [_put(writer, item) for item in packed]

    def _reply(self, message: Message, writer: PartWriter) -> None:
        try:
            self._connection.send(message, writer.buffers, writer.nbytes)
        except OSError:
            pass  # the server is gone; the leader sees it, too, and ends the session

    def _report(self, message: Message) -> None:
        self._reply(message, PartWriter(None))

    def _refuse(self, error: WireError) -> None:
        self._report(Fatal(f"replica {self._config.spec.id} ends the connection: {error}"))

    def _load(self, variant: str) -> None:
        load_s, problem, full = 0.0, "", False
        try:
            load_s = self._residents.load(variant).load_s
        except ModelError as error:
            problem, full = str(error), isinstance(error, NoRoom)
        self._report(Loaded(variant, load_s, resident_bytes(), problem, full))

    def _unload(self, variant: str) -> None:
        """Batches that come later do not find it any more; those received so far are waited for elsewhere."""
        try:
            resident = self._residents.withdraw(variant)
        except ModelError as error:
            self._report(Unloaded(variant, resident_bytes(), str(error)))
            return
        threading.Thread(target=self._release, args=(variant, resident), name="unload", daemon=True).start()

    def _release(self, variant: str, resident: Resident) -> None:
        problem = ""
        try:
            self._residents.release(resident)
        except Exception as error:  # noqa: BLE001 - a model's own close; the variant is gone all the same
            problem = str(error)
        self._report(Unloaded(variant, resident_bytes(), problem))

    def _beat(self) -> None:
        while not self._ended.wait(self._config.beat_s):
            self._report(Beat(self._lanes.running, resident_bytes(), self._connection.take_freed()))


def _size(item: batch.Packed) -> int:
    if isinstance(item, str):
        return 0
    output, emitted = item
    return (output.nbytes if output is not None else 0) + sum(payload.nbytes for child in emitted for payload in child)


def _put(writer: PartWriter, item: batch.Packed) -> DoneItem:
    if isinstance(item, str):
        return item
    output, emitted = item
    return (
        writer.put(output) if output is not None else None,
        [[writer.put(payload) for payload in child] for child in emitted],
    )
