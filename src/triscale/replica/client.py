"""What the server knows of one replica: batches out, results in, on an asyncio event loop.

`ReplicaClient.connect` returns when the replica can take batches. Whoever runs batches sets `observer` and gets its
callbacks on the loop; whoever owns the process looks at `ended`. One connection carries data, control and heartbeats.
Payloads pass through undecoded: heads stay bytes, bodies stay views of what was received.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar

from triscale.clock import monotonic
from triscale.core.cluster import Address, Resized, Resizing
from triscale.dispatch.results import ItemResult, Rejection
from triscale.errors import EngineError, WireError
from triscale.replica.link import Link
from triscale.wire import frames
from triscale.wire.arena import ARENA_BYTES
from triscale.wire.frames import MAX_BODY, Beat, Done, DoneItem, Failed, Fatal, Frame, Ready, Run
from triscale.wire.parts import PartReader, PartWriter
from triscale.wire.payload import Payload

__all__ = ["HEARTBEAT_TIMEOUT", "BatchObserver", "DoesNotFit", "ReplicaClient"]

HEARTBEAT_TIMEOUT = 3.0
"""Seconds without any byte after which a replica counts as hung."""

T = TypeVar("T")


class DoesNotFit(EngineError):
    """A variant exceeds the replica's memory beside what it holds; unloading others may help."""


class BatchObserver(Protocol):
    """Who is told what became of batches. Called on the event loop; must not raise."""

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[ItemResult]) -> None:
        """A batch is finished: one result for each of its items, in order. Payloads are `wire.Payload`s."""

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:
        """A batch could not be run; `kind` as in `frames.Failed`."""

    def lost(self, client: ReplicaClient, reason: str) -> None:
        """The connection is over; batches in flight must be run elsewhere. Called once, and not after `close`.

        `drained` is the reason when the replica was drained and answered everything.
        """


class ReplicaClient:
    """One connected replica. All methods are called on its event loop's thread."""

    def __init__(self, max_body: int) -> None:
        self.ready: Ready
        """What the replica said of itself when it was ready."""
        self.busy = 0
        """Lanes at work, as of the last beat."""
        self.rss = 0
        """Resident memory in bytes, as of the last beat."""
        self.in_flight: dict[int, int] = {}
        """Batch -> number of its items."""
        self.drained = False
        """Whether it is over because the replica was drained and had answered everything."""
        self._link = Link(max_body, self._act, self._lost)
        self._max_body = max_body
        self._observer: BatchObserver | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Resolves to the reason when the connection is over, `close` included. Not to be cancelled: shield it."""
        self._greeted: asyncio.Future[Ready] = self._loop.create_future()
        self._draining = False
        self._serials = itertools.count(1)
        self._resizes: dict[int, asyncio.Future[frames.Resized]] = {}
        self._loads: dict[tuple[type[frames.Message], str], asyncio.Future[frames.Loaded | frames.Unloaded]] = {}

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        token: str = "",
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        arena_bytes: int = ARENA_BYTES,
        max_body: int = MAX_BODY,
    ) -> ReplicaClient:
        """Connect and wait until the replica is ready, however long its models take: put a timeout around it.

        Over a Unix socket, large payloads go through shared memory of `arena_bytes` each way (0: never). EngineError
        in the replica's own words when it cannot serve; OSError when nobody listens or the connection ends early.
        """
        self = cls(max_body)
        try:
            await self._link.connect(address, token, arena_bytes)
            self.ready = await self._greeted
        except BaseException:
            self.close()
            raise
        self._link.watch(heartbeat_timeout)
        return self

    @property
    def ended_by_peer(self) -> bool:
        """Whether it is over because the replica closed it or died, rather than for what it sent or did not send."""
        return self._link.ended_by_peer

    @property
    def observer(self) -> BatchObserver | None:
        """Who is told of results. One that is set after the end is told of the end soon."""
        return self._observer

    @observer.setter
    def observer(self, observer: BatchObserver) -> None:
        self._observer = observer
        if self.ended.done():
            self._loop.call_soon(observer.lost, self, self.ended.result())

    def run(self, batch_id: int, variant: str, items: Sequence[Sequence[Payload]]) -> None:
        """Send a batch: per item its parts (one, or at a joining stage several). The observer hears of its end.

        WireError when it exceeds a limit on frames; nothing is sent then. On a lost connection it is dropped.
        """
        size = sum(part.nbytes for parts in items for part in parts)
        if size > self._max_body:
            raise WireError(f"a batch of {size} bytes exceeds the limit of {self._max_body}")
        writer = PartWriter(self._link.outbox)
        placed = [[writer.put(part) for part in parts] for parts in items]
        message = Run(batch_id, variant, placed, self._link.take_freed())
        try:
            self._link.send(message, writer.buffers, writer.nbytes)
        except WireError:
            writer.discard()
            raise
        self.in_flight[batch_id] = len(items)

    async def resize(self, lanes: int, threads: int, cpus: Sequence[int] = ()) -> Resized:
        """Change lanes and threads in place; what is in force when it is done. The newest call's target wins.

        Empty `cpus` leave the processors as they are. EngineError when the connection ends first.
        """
        started = monotonic()
        serial = next(self._serials)
        answer: asyncio.Future[frames.Resized] = self._loop.create_future()
        self._resizes[serial] = answer
        try:
            self._link.send(frames.Resize(serial, lanes, threads, list(cpus)))
            actual = await self._answered(answer)
        finally:
            self._resizes.pop(serial, None)
        status, reason = Resizing.APPLIED, ""
        if actual.serial == serial and actual.error:
            status, reason = Resizing.INFEASIBLE, actual.error
        elif (actual.lanes, actual.threads) != (lanes, threads):
            status, reason = Resizing.DEFERRED, "overtaken by a newer resize"
        return Resized(
            status=status,
            lanes=actual.lanes,
            threads=actual.threads,
            seconds=monotonic() - started,
            reason=reason,
        )

    async def load(self, variant: str) -> float:
        """Make another variant of the stage resident while batches go on: the seconds it took.

        EngineError when that fails; DoesNotFit when the replica's memory does not suffice.
        """
        loaded = await self._ask(frames.Loaded, frames.Load(variant))
        assert isinstance(loaded, frames.Loaded)
        return loaded.load_s

    async def unload(self, variant: str) -> None:
        """Have a variant closed when its last batch is done. EngineError when it is not resident."""
        await self._ask(frames.Unloaded, frames.Unload(variant))

    async def drain(self) -> bool:
        """Have the batches in flight finished and the replica end.

        Returns when the connection is over: whether every batch was answered.
        """
        self._draining = True
        self._link.send(frames.Drain())
        await asyncio.shield(self.ended)
        return self.drained

    def stop(self, reason: str) -> None:
        """Tell the replica to end now; the connection is lost for `reason`."""
        self._link.send(frames.Stop())
        self._link.flush()
        self._link.end(reason)

    def lose(self, reason: str) -> None:
        """Give the connection up, as if it had been lost. Idempotent."""
        self._link.end(reason)

    def close(self) -> None:
        """End the connection without telling the observer. Idempotent."""
        self._observer = None
        self._link.end("closed")

    async def _ask(
        self, kind: type[frames.Loaded | frames.Unloaded], message: frames.Load | frames.Unload
    ) -> frames.Loaded | frames.Unloaded:
        answer = self._loads.get((kind, message.variant))
        if answer is None:
            answer = self._loads[kind, message.variant] = self._loop.create_future()
            self._link.send(message)
        done = await self._answered(answer)
        if done.error:
            raise (DoesNotFit if isinstance(done, frames.Loaded) and done.full else EngineError)(done.error)
        return done

    async def _answered(self, answer: asyncio.Future[T]) -> T:
        """The answer, or EngineError when the connection ends before it."""
        either: set[asyncio.Future[T] | asyncio.Future[str]] = {answer, self.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise EngineError(f"the connection to the replica ended: {self.ended.result()}")

    def _act(self, frame: Frame) -> None:
        message, body = frame
        match message:
            case Done():
                self._link.free(message.freed)
                self._done(message, body)
            case Failed():
                self._link.free(message.freed)
                self._failed(message)
            case Beat():
                self._link.free(message.freed)
                self.busy, self.rss = message.busy, message.rss
                # Where no batch went out to carry them.
                if freed := self._link.take_freed():
                    self._link.send(frames.Free(freed))
            case frames.Resized():
                for serial in [serial for serial in self._resizes if serial <= message.serial]:
                    _resolve(self._resizes.pop(serial), message)
            case frames.Loaded() | frames.Unloaded():
                _resolve(self._loads.pop((type(message), message.variant), None), message)
            case Ready():
                self.rss = message.rss
                if not message.arena:
                    self._link.drop_arenas()
                _resolve(self._greeted, message)
            case Fatal():
                if not self._greeted.done():
                    self._greeted.set_exception(EngineError(message.message))
                self._link.end(message.message)
            case _:
                raise WireError(f"{type(message).__name__}, which only a server sends")

    def _done(self, message: Done, body: memoryview) -> None:
        count = self.in_flight.get(message.batch)
        if count != len(message.items):
            raise WireError(f"{len(message.items)} results for batch {message.batch}, of which {count} are expected")
        reader = PartReader(body, self._link.inbox)
        results = [self._result(reader, item) for item in message.items]
        reader.finish()
        del self.in_flight[message.batch]
        if self._observer is not None:
            self._observer.batch_done(self, message.batch, message.service_s, results)

    def _result(self, reader: PartReader, item: DoneItem) -> ItemResult:
        if isinstance(item, str):
            return Rejection(item)
        output, emitted = item
        if len(emitted) != self.ready.children:
            raise WireError(f"items for {len(emitted)} child stages, of which there are {self.ready.children}")
        return (
            reader.take(output) if output is not None else None,
            tuple([reader.take(part) for part in child] for child in emitted),
        )

    def _failed(self, message: Failed) -> None:
        if self.in_flight.pop(message.batch, None) is None:
            raise WireError(f"an answer to batch {message.batch}, which is not in flight")
        if self._observer is not None:
            self._observer.batch_failed(self, message.batch, message.kind, message.message)

    def _lost(self, reason: str) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(ConnectionResetError(reason))
            self._greeted.exception()  # marks it as seen: nobody may be waiting
        if self._draining and self.ended_by_peer and not self.in_flight:
            self.drained, reason = True, "drained"
        self.ended.set_result(reason)
        if self._observer is not None:
            self._observer.lost(self, reason)


def _resolve(answer: asyncio.Future[T] | None, result: T) -> None:
    if answer is not None and not answer.done():
        answer.set_result(result)
