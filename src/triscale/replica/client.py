"""The server's end of a connection to one replica: batches out, results in, on an asyncio event loop.

`ReplicaClient.connect` returns when the replica can take batches. Whoever runs batches sets `observer` and gets its
callbacks on the loop; whoever owns the process awaits `ended`. One connection carries data, control and heartbeats.
Payloads pass through undecoded: heads stay bytes, bodies stay views of what was received.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Sequence
from typing import Protocol, TypeVar, cast

from triscale.clock import monotonic
from triscale.core.cluster import Address, Resized, Resizing
from triscale.dispatch.results import ItemResult, Rejection
from triscale.errors import EngineError, WireError
from triscale.replica.address import check_peer, parse, tune
from triscale.wire import frames
from triscale.wire.arena import ARENA_BYTES, Inbox, Outbox, create_arena
from triscale.wire.frames import MAX_BODY, Beat, Done, DoneItem, Failed, Fatal, Frame, FrameReader, Message, Ready, Run
from triscale.wire.parts import PartReader, PartWriter
from triscale.wire.payload import Buffer, Payload

__all__ = ["HEARTBEAT_TIMEOUT", "BatchObserver", "ReplicaClient"]

HEARTBEAT_TIMEOUT = 3.0
"""Seconds without any frame after which a replica counts as hung."""
_CHECKS = 4
"""Looks per timeout. Only looks at which nothing had arrived count, so that a stall of this process is no evidence
against the other."""
_JOIN_BELOW = 64 * 1024

T = TypeVar("T")


class BatchObserver(Protocol):
    """Who is told what became of batches. Called on the event loop; must not raise."""

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[ItemResult]) -> None:
        """A batch is finished: one result for each of its items, in order. Payloads are `wire.Payload`s."""

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:
        """A batch could not be run; `kind` as in `frames.Failed`."""

    def lost(self, client: ReplicaClient, reason: str) -> None:
        """The connection is over; batches in flight must be run elsewhere. Called once, not after `close`."""


class ReplicaClient(asyncio.BufferedProtocol):
    """One connected replica. All methods are called on its event loop's thread."""

    def __init__(self, sock: socket.socket, heartbeat_timeout: float, max_body: int) -> None:
        self.ready: Ready
        """What the replica said of itself when it was ready."""
        self.busy = 0
        """Lanes at work, as of the last beat."""
        self.rss = 0
        """Resident memory in bytes, as of the last beat."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves to the reason when the connection is over, `close` included."""
        self.ended_by_peer = False
        """Whether it is over because the replica closed it (or died), rather than for what it sent or did not send."""
        self.in_flight: dict[int, int] = {}
        """Batch -> number of its items."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._observer: BatchObserver | None = None
        self._reader = FrameReader(max_body=max_body)
        self._max_body = max_body
        self._transport: asyncio.Transport | None = None
        self._inbox: Inbox | None = None
        self._outbox: Outbox | None = None
        self._outgoing: list[Buffer] = []
        self._outgoing_bytes = 0
        self._greeted: asyncio.Future[Ready] = self._loop.create_future()
        self._serials = itertools.count(1)
        self._resizes: dict[int, asyncio.Future[frames.Resized]] = {}
        self._loads: dict[tuple[type[Message], str], asyncio.Future[frames.Loaded | frames.Unloaded]] = {}
        self._draining = False
        self._heartbeat_timeout = heartbeat_timeout
        self._heard = True
        self._silent_checks = 0
        self._check: asyncio.TimerHandle | None = None

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
        family, where = parse(address)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_connect(sock, where)
            check_peer(sock)
            tune(sock)
            self = cls(sock, heartbeat_timeout, max_body)
            self._send_hello(token, arena_bytes if family == socket.AF_UNIX else 0)
            await self._take_over()
        except BaseException:
            sock.close()
            raise
        try:
            self.ready = await asyncio.shield(self._greeted)
        except BaseException:
            self.close()
            raise
        self._watch()
        return self

    def _send_hello(self, token: str, arena_bytes: int) -> None:
        hello = frames.encode(frames.Hello(token))
        if not arena_bytes:
            self._sock.send(hello[0])
            return
        fds: list[int] = []
        try:
            fds += [create_arena(arena_bytes), create_arena(arena_bytes)]
            self._outbox, self._inbox = Outbox(fds[0]), Inbox(fds[1])
            # The socket's buffer is empty, so this neither blocks nor sends less.
            socket.send_fds(self._sock, hello, fds)
        finally:
            for fd in fds:
                os.close(fd)

    async def _take_over(self) -> None:
        if self._sock.family == socket.AF_UNIX:
            await self._loop.create_unix_connection(lambda: self, sock=self._sock)
        else:
            await self._loop.create_connection(lambda: self, sock=self._sock)

    # What callers do.

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

        WireError when it exceeds the limit on frames; nothing is sent then. On a lost connection it is dropped.
        """
        size = sum(part.nbytes for parts in items for part in parts)
        if size > self._max_body:
            raise WireError(f"a batch of {size} bytes exceeds the limit of {self._max_body}")
        writer = PartWriter(self._outbox)
        placed = [[writer.put(part) for part in parts] for parts in items]
        self.in_flight[batch_id] = len(items)
        self._send(Run(batch_id, variant, placed, self._take_freed()), writer.buffers, writer.nbytes)

    async def resize(self, lanes: int, threads: int, cpus: Sequence[int] = ()) -> Resized:
        """Change lanes and threads in place; what is in force when it is done. The newest call's target wins.

        Empty `cpus` leave the processors as they are. EngineError when the connection ends first.
        """
        started = monotonic()
        serial = next(self._serials)
        answer: asyncio.Future[frames.Resized] = self._loop.create_future()
        self._resizes[serial] = answer
        try:
            self._send(frames.Resize(serial, lanes, threads, list(cpus)))
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

        EngineError when that fails.
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
        self._send(frames.Drain())
        await asyncio.shield(self.ended)
        return not self.in_flight

    def stop(self, reason: str) -> None:
        """Tell the replica to end now; the connection is lost for `reason`."""
        self._send(frames.Stop())
        self._flush()
        self.lose(reason)

    def lose(self, reason: str) -> None:
        """Give the connection up, as if it had been lost. Idempotent."""
        self._end(reason)

    def close(self) -> None:
        """End the connection without telling the observer. Idempotent."""
        self._observer = None
        self._end("closed")

    async def _ask(
        self, kind: type[frames.Loaded | frames.Unloaded], message: frames.Load | frames.Unload
    ) -> frames.Loaded | frames.Unloaded:
        answer = self._loads.get((kind, message.variant))
        if answer is None:
            answer = self._loads[kind, message.variant] = self._loop.create_future()
            self._send(message)
        done = await self._answered(answer)
        if done.error:
            raise EngineError(done.error)
        return done

    async def _answered(self, answer: asyncio.Future[T]) -> T:
        """The answer, or EngineError when the connection ends before it."""
        either: set[asyncio.Future[T] | asyncio.Future[str]] = {answer, self.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise EngineError(f"the connection to the replica ended: {self.ended.result()}")

    # Sending: frames of one loop turn go out together.

    def _send(self, message: Message, body: Sequence[Buffer] = (), nbytes: int = 0) -> None:
        if self.ended.done():
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += frames.encode(message, body, nbytes)
        self._outgoing_bytes += nbytes

    def _flush(self) -> None:
        outgoing, nbytes = self._outgoing, self._outgoing_bytes
        self._outgoing, self._outgoing_bytes = [], 0
        if not outgoing or self._transport is None:
            return
        if nbytes < _JOIN_BELOW:
            self._transport.write(b"".join(outgoing) if len(outgoing) > 1 else outgoing[0])
        else:
            self._transport.writelines(outgoing)

    def _take_freed(self) -> list[int]:
        return self._inbox.take_freed() if self._inbox is not None else []

    # Receiving.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop has the socket now."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        """Where the event loop receives the next bytes."""
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were received."""
        self._heard = True
        try:
            for frame in self._reader.received(nbytes):
                self._act(frame)
        except WireError as error:
            self._end(f"it sent what is not a valid frame: {error}")

    def eof_received(self) -> None:
        """The replica closed its end."""
        self._over("it closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The event loop gave the socket up."""
        self._over(f"the connection broke: {exc}" if exc is not None else "it closed the connection")

    def _over(self, reason: str) -> None:
        self.ended_by_peer = True
        if self._reader.inside:
            reason += " in the middle of a frame"
        elif self._draining and not self.in_flight:
            reason = "drained"
        self._end(reason)

    def _act(self, frame: Frame) -> None:
        message, body = frame
        match message:
            case Done():
                self._free(message.freed)
                self._done(message, body)
            case Failed():
                self._free(message.freed)
                if self.in_flight.pop(message.batch, None) is None:
                    raise WireError(f"an answer to batch {message.batch}, which is not in flight")
                if self._observer is not None:
                    self._observer.batch_failed(self, message.batch, message.kind, message.message)
            case Beat():
                self._free(message.freed)
                self.busy, self.rss = message.busy, message.rss
                # Where no batch went out to carry them.
                if freed := self._take_freed():
                    self._send(frames.Free(freed))
            case frames.Resized():
                for serial in [serial for serial in self._resizes if serial <= message.serial]:
                    _resolve(self._resizes.pop(serial), message)
            case frames.Loaded() | frames.Unloaded():
                _resolve(self._loads.pop((type(message), message.variant), None), message)
            case Ready():
                _resolve(self._greeted, message)
                self.rss = message.rss
                if not message.arena:
                    self._inbox = self._outbox = None
            case Fatal():
                if not self._greeted.done():
                    self._greeted.set_exception(EngineError(message.message))
                self._end(message.message)
            case _:
                raise WireError(f"{type(message).__name__}, which only a server sends")

    def _done(self, message: Done, body: memoryview) -> None:
        count = self.in_flight.pop(message.batch, None)
        if count != len(message.items):
            raise WireError(f"{len(message.items)} results for batch {message.batch}, of which {count} are expected")
        reader = PartReader(body, self._inbox)
        results = [self._result(reader, item) for item in message.items]
        reader.finish()
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

    def _free(self, freed: list[int]) -> None:
        if freed:
            if self._outbox is None:
                raise WireError("freed arena slots, but this connection has no arena")
            self._outbox.free(freed)

    # The end.

    def _watch(self) -> None:
        """Look whether anything arrived since the last look; too many times nothing is the end."""
        self._silent_checks = 0 if self._heard else self._silent_checks + 1
        self._heard = False
        if self._silent_checks >= _CHECKS:
            self._end(f"no heartbeat for {self._heartbeat_timeout:g} s")
        elif not self.ended.done():
            self._check = self._loop.call_later(self._heartbeat_timeout / _CHECKS, self._watch)

    def _end(self, reason: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        if not self._greeted.done():
            self._greeted.set_exception(ConnectionResetError(reason))
            self._greeted.exception()  # marks it as seen: nobody may be waiting
        if self._check is not None:
            self._check.cancel()
        if self._transport is not None:
            self._transport.close()
        self._inbox = self._outbox = None
        if self._observer is not None:
            self._observer.lost(self, reason)


def _resolve(answer: asyncio.Future[T] | None, result: T) -> None:
    if answer is not None and not answer.done():
        answer.set_result(result)
