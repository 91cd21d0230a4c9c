"""The server's end of the wire: an event-loop protocol that sends and receives frames and notices the end.

It knows no batches; `client.py` gives messages their meaning. Frames sent in one turn of the loop go out together.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

from triscale.core.cluster import Address
from triscale.errors import WireError
from triscale.replica.address import check_peer, parse, tune
from triscale.wire.arena import Inbox, Outbox, create_arena
from triscale.wire.frames import Frame, FrameReader, Hello, Message, encode
from triscale.wire.payload import Buffer

__all__ = ["Link"]

_CHECKS = 4
"""Looks per heartbeat timeout. Only looks at which nothing had arrived count, so that a stall of this process is no
evidence against the other."""
_JOIN_BELOW = 64 * 1024
"""One copy of so few bytes costs less than a system call with many buffers."""


class Link(asyncio.BufferedProtocol):
    """One connection to a replica."""

    def __init__(self, max_body: int, on_frame: Callable[[Frame], None], on_end: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.over = False
        """Whether the connection has ended."""
        self.ended_by_peer = False
        """Whether it is over because the peer closed it (or died), rather than for what it sent or did not send."""
        self.inbox: Inbox | None = None
        self.outbox: Outbox | None = None
        self._on_frame = on_frame
        self._on_end = on_end
        self._reader = FrameReader(max_body=max_body)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[Buffer] = []
        self._outgoing_bytes = 0
        self._heard = False
        self._silent_checks = 0
        self._check: asyncio.TimerHandle | None = None

    async def connect(self, address: Address, token: str, arena_bytes: int) -> None:
        """Connect and say Hello. OSError when nobody listens, WireError when somebody else's process does."""
        family, where = parse(address)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            await self._loop.sock_connect(sock, where)
            check_peer(sock)
            tune(sock)
            # File descriptors can only be sent before the event loop takes the socket over.
            self._send_hello(sock, token, arena_bytes if family == socket.AF_UNIX else 0)
            if family == socket.AF_UNIX:
                await self._loop.create_unix_connection(lambda: self, sock=sock)
            else:
                await self._loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def _send_hello(self, sock: socket.socket, token: str, arena_bytes: int) -> None:
        # The socket's buffer is empty: this neither blocks nor sends less.
        hello = encode(Hello(token))
        if not arena_bytes:
            sock.send(hello[0])
            return
        fds: list[int] = []
        try:
            fds += [create_arena(arena_bytes)]
            fds += [create_arena(arena_bytes)]
            self.outbox, self.inbox = Outbox(fds[0]), Inbox(fds[1])
            socket.send_fds(sock, hello, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def drop_arenas(self) -> None:
        """The peer could not map them: everything travels inline."""
        self.inbox = self.outbox = None

    def take_freed(self) -> list[int]:
        """Slots of the peer's arena to give back with the next frame."""
        return self.inbox.take_freed() if self.inbox is not None else []

    def free(self, freed: Sequence[int]) -> None:
        """The peer gave slots of ours back."""
        if freed:
            if self.outbox is None:
                raise WireError("arena slots are freed, but this connection has no arena")
            self.outbox.free(freed)

    def send(self, message: Message, body: Sequence[Buffer] = (), nbytes: int = 0) -> None:
        """Send a frame by the end of this turn of the loop. Dropped when the connection is over."""
        if self.over:
            return
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing += encode(message, body, nbytes)
        self._outgoing_bytes += nbytes

    def flush(self) -> None:
        """Hand what was sent to the socket now."""
        outgoing, nbytes = self._outgoing, self._outgoing_bytes
        self._outgoing, self._outgoing_bytes = [], 0
        if not outgoing or self._transport is None:
            return
        if nbytes < _JOIN_BELOW:
            self._transport.write(b"".join(outgoing) if len(outgoing) > 1 else outgoing[0])
        else:
            self._transport.writelines(outgoing)

    def watch(self, timeout: float) -> None:
        """From now on, `timeout` seconds without a byte are the end."""
        self._silent_checks = 0 if self._heard else self._silent_checks + 1
        self._heard = False
        if self._silent_checks >= _CHECKS:
            self.end(f"no heartbeat for {timeout:g} s")
        elif not self.over:
            self._check = self._loop.call_later(timeout / _CHECKS, self.watch, timeout)

    def end(self, reason: str) -> None:
        """Close the connection and tell the owner why, once. Idempotent."""
        if self.over:
            return
        self.over = True
        if self._check is not None:
            self._check.cancel()
        if self._transport is not None:
            self._transport.close()
        self.inbox = self.outbox = None
        self._on_end(reason)

    # Called by the event loop.

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
                if self.over:
                    return
                self._on_frame(frame)
        except WireError as error:
            self.end(f"it sent what is not a valid frame: {error}")

    def eof_received(self) -> None:
        """The peer closed its end."""
        self._over("it closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The event loop gave the socket up."""
        self._over(f"the connection broke: {exc}" if exc is not None else "it closed the connection")

    def _over(self, reason: str) -> None:
        if not self.over:
            self.ended_by_peer = True
            self.end(reason + " in the middle of a frame" if self._reader.inside else reason)
