"""The way out of one connection: responses, each in its request's turn, and the close after the last one.

Requests of one connection run side by side, but HTTP/1.1 wants their responses in order: one that is early waits here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from triscale.serve.exchange import Exchange
from triscale.serve.http_response import head
from triscale.serve.server_state import ServerState
from triscale.serve.transcode import compress_body
from triscale.wire.payload import Buffer

__all__ = ["Responses"]

_JOIN_BYTES = 16 * 1024
"""Responses up to this size are joined into one buffer; larger ones are written as they are, without a copy."""
_SCATTERED = 64
"""Responses of more pieces than this are joined whatever their size."""


class Responses:
    """The responses that one connection owes, in the order of the requests (`pending`)."""

    __slots__ = (
        "_blocked",
        "_lingers",
        "_paused",
        "_sent_at",
        "_state",
        "_transport",
        "_unsent",
        "last_taken",
        "pending",
        "quiet_since",
    )

    def __init__(self, transport: asyncio.Transport, state: ServerState) -> None:
        self._transport = transport
        self._state = state
        self.pending: deque[Exchange] = deque()
        """Requests whose responses are not written; the last one may still be arriving."""
        self.last_taken = False
        """No further request of this connection will be answered."""
        self.quiet_since = state.now()
        """When it last had nothing left to say."""
        self._lingers = False
        """The last response is written; the client has until `Limits.linger_s` to see it."""
        self._paused = False
        self._blocked = False
        """The client reads its responses too slowly."""
        self._unsent = 0
        """Bytes that the socket had not taken when it last took some..."""
        self._sent_at = 0.0
        """...and when that was found."""

    def send(self, exchange: Exchange, status: int, content_type: bytes, headers: bytes, body: list[Buffer]) -> None:
        """Take an exchange's response, and write all whose turn has come."""
        if b"accept-encoding" in exchange.headers:
            compress_body(exchange, body, partial(self._queue, exchange, status, content_type, headers))
        else:
            self._queue(exchange, status, content_type, headers, body)

    def _queue(
        self,
        exchange: Exchange,
        status: int,
        content_type: bytes,
        headers: bytes,
        body: list[Buffer],
        coding: bytes = b"",
    ) -> None:
        if exchange.connection is None:
            return
        state = self._state
        pending = self.pending
        if state.closing and pending[-1] is exchange:
            exchange.keep_alive = False
        common = state.common + coding
        if not exchange.keep_alive:
            common += b"connection: close\r\n"
        elif b"connection" in exchange.headers:
            common += b"connection: keep-alive\r\n"  # HTTP/1.0 clients wait for the close unless they are told
        length = sum(map(len, body))
        parts: list[Buffer] = [head(status, common, content_type, length, headers)]
        if exchange.method != b"HEAD":
            parts += body
        exchange.parts = [b"".join(parts)] if length <= _JOIN_BYTES or len(parts) > _SCATTERED else parts
        self._flush()

    def _flush(self) -> None:
        pending = self.pending
        while pending and (parts := pending[0].parts) is not None:
            exchange = pending.popleft()
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)
            if not exchange.keep_alive:
                self._hang_up(exchange.lingers)
                return
        if pending:
            self.say_continue()
        else:
            self.quiet_since = self._state.now()
        if self._paused:
            self.throttle()

    def say_continue(self) -> None:
        """Ask for the body of the request whose turn it is, if its client waits to be asked."""
        exchange = self.pending[0]
        if exchange.expects_continue:
            exchange.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hang_up(self, lingers: bool) -> None:
        """Close; only our side while the client may still be sending: its data would destroy the response."""
        self.last_taken = True
        self.abandon()
        self.quiet_since = self._state.now()
        if lingers and self._transport.can_write_eof():
            self._lingers = True
            self._transport.write_eof()
            self.throttle()
        else:
            self._transport.close()

    def abandon(self) -> None:
        """Nobody will read the responses that are still due."""
        while self.pending:
            self.pending.popleft().gone()

    def set_blocked(self, blocked: bool) -> None:
        """Whether the client reads its responses too slowly: while it does, take no more requests."""
        self._blocked = blocked
        self.throttle()

    def throttle(self) -> None:
        """Stop reading from a client that is owed too much, and start again when it is not."""
        paused = self._blocked or len(self.pending) >= self._state.limits.pipelined
        if paused != self._paused and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def overdue(self, now: float) -> bool:
        """Whether the client has not taken any of its responses for too long, or lingers after the last one."""
        limits = self._state.limits
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            self._unsent = 0
            return self._lingers and now - self.quiet_since > limits.linger_s
        if self._unsent == 0 or unsent < self._unsent:
            self._unsent = unsent
            self._sent_at = now
        return now - self._sent_at > limits.write_timeout_s
