"""How payloads travel in a frame: small ones in its body, one behind the other, large ones in an arena.

Sans I/O; both ends use both classes, the server for batches out and results in, the replica the other way round.
"""

from __future__ import annotations

from triscale.errors import WireError
from triscale.wire.arena import Inbox, Outbox
from triscale.wire.frames import Part
from triscale.wire.payload import Buffer, Payload

__all__ = ["ARENA_FROM", "PartReader", "PartWriter"]

ARENA_FROM = 64 * 1024
"""Payloads of at least so many bytes go through an arena where there is one; below, a socket is as fast."""


class PartWriter:
    """Collects the payloads of one frame: `put` each, then send `buffers` (`nbytes` in all) as its body."""

    __slots__ = ("_outbox", "_slots", "buffers", "nbytes")

    def __init__(self, outbox: Outbox | None) -> None:
        self._outbox = outbox
        self._slots: list[int] = []
        self.buffers: list[Buffer] = []
        self.nbytes = 0

    def put(self, payload: Payload) -> Part:
        """Place a payload: what the message says of it."""
        nbytes = payload.nbytes
        if nbytes >= ARENA_FROM and self._outbox is not None:
            offset = self._outbox.put(payload.buffers, nbytes)
            if offset >= 0:
                self._slots.append(offset)
                return payload.head, nbytes, offset
        if nbytes:
            self.buffers += payload.buffers
            self.nbytes += nbytes
        return payload.head, nbytes, -1

    def discard(self) -> None:
        """The frame is not going to be sent: take everything back."""
        if self._outbox is not None:
            self._outbox.free(self._slots)
        self._slots, self.buffers, self.nbytes = [], [], 0


class PartReader:
    """Takes the payloads of one frame apart again, in the order in which they were put."""

    __slots__ = ("_at", "_body", "_inbox")

    def __init__(self, body: memoryview, inbox: Inbox | None) -> None:
        self._body = body
        self._inbox = inbox
        self._at = 0

    def take(self, part: Part) -> Payload:
        """The next payload; its buffers are views. WireError when the message and the bytes do not agree."""
        head, nbytes, offset = part
        if offset >= 0:
            if self._inbox is None:
                raise WireError("the peer sent a payload in an arena, but this connection has none")
            return Payload(head, (self._inbox.view(offset, nbytes),), nbytes)
        if nbytes == 0:
            return Payload(head, (), 0)
        end = self._at + nbytes
        if nbytes < 0 or end > len(self._body):
            raise WireError(f"a payload claims {nbytes} bytes where {len(self._body) - self._at} are left in its frame")
        view = self._body[self._at : end]
        self._at = end
        return Payload(head, (view,), nbytes)

    def finish(self) -> None:
        """All payloads are taken; WireError when bytes are left over."""
        if self._at != len(self._body):
            raise WireError(f"{len(self._body) - self._at} bytes are left over after the last payload of a frame")
