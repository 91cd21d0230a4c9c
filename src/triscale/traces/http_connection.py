"""One HTTP/1.1 connection of a load generator, and one exchange on it: a request and what became of it.

A bare asyncio protocol on httptools: callbacks rather than tasks, so that one process can send many thousand requests
a second. One exchange at a time; whoever holds the connections (`http_client.py`) is told when it is free or gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from triscale.clock import monotonic

__all__ = ["Connection", "Exchange", "Holder"]

_NO_BODY = frozenset({204, 304})


class Exchange:
    """One request and, in the end, its response or the reason why there is none."""

    __slots__ = ("body", "connection", "deadline", "detail", "finished", "headers", "on_done", "reason", "request",
                 "sent", "status")  # fmt: skip

    def __init__(self, request: bytes, deadline: float, on_done: Callable[[Exchange], None]) -> None:
        self.request = request
        self.deadline = deadline
        """Monotonic seconds at which the client stops waiting."""
        self.on_done = on_done
        """Called exactly once, on the event loop."""
        self.sent = 0.0
        """Monotonic seconds at which its bytes went to the socket; 0 = never."""
        self.finished = 0.0
        self.status = 0
        """HTTP status; 0 = no response."""
        self.headers: dict[bytes, bytes] = {}
        """Response headers by lower-case name."""
        self.body = b""
        self.reason = ""
        """Why there is no response: timeout, stopped, no_connection, no_tls, connection_lost or bad_response."""
        self.detail = ""
        """More about the reason, for people."""
        self.connection: Connection | None = None

    def write(self, transport: asyncio.WriteTransport) -> None:
        """Write the request; `sent` is set."""
        transport.write(self.request)

    def finish(self, reason: str = "", detail: str = "") -> None:
        """End it, once."""
        if self.finished:
            return
        self.finished = monotonic()
        self.reason = reason
        self.detail = detail
        self.connection = None
        self.on_done(self)


class Holder(Protocol):
    """Who opened a connection."""

    def release(self, connection: Connection) -> None:
        """The connection is free for the next exchange."""

    def discard(self, connection: Connection) -> None:
        """The connection is gone."""


class Connection(asyncio.Protocol):
    """One keep-alive connection. httptools calls the `on_...` methods while it parses."""

    __slots__ = (
        "_body",
        "_complete",
        "_exchange",
        "_headers",
        "_holder",
        "_keep_alive",
        "_parser",
        "_status",
        "_to_the_end",
        "transport",
    )

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._exchange: Exchange | None = None
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._complete = False
        self._keep_alive = False
        self._to_the_end = False
        """The response says nothing about its length: it ends where the connection does (HTTP/1.0)."""
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection is open."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    @property
    def closing(self) -> bool:
        """Whether the server has closed it."""
        return self.transport is None or self.transport.is_closing()

    def send(self, exchange: Exchange) -> None:
        """Write the request; the response will finish the exchange."""
        assert self.transport is not None
        self._exchange = exchange
        exchange.connection = self
        exchange.sent = monotonic()
        exchange.write(self.transport)

    def abort(self) -> None:
        """Close at once, forgetting the exchange on it."""
        self._exchange = None
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes of a response."""
        exchange = self._exchange
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("bad_response")
            return
        if exchange is None:
            self._fail("bad_response")  # bytes that nobody asked for: what follows on this connection means nothing
        elif self._complete:
            self._respond(exchange)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: one header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Parser: the body follows, if there is one."""
        self._status = self._parser.get_status_code()
        headers = self._headers
        self._to_the_end = (
            b"content-length" not in headers and b"transfer-encoding" not in headers and self._status not in _NO_BODY
        )

    def on_body(self, chunk: bytes) -> None:
        """Parser: a part of the body."""
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        """Parser: the response is whole."""
        if self._status < 200:
            self._headers = {}  # interim: the response is still to come
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # the parser only knows it here

    def _respond(self, exchange: Exchange) -> None:
        exchange.status = self._status
        exchange.headers = self._headers
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._headers = {}
        self._body = []
        self._complete = False
        self._exchange = None
        if self._keep_alive:
            exchange.finish()
            self._holder.release(self)
        else:
            self.abort()
            exchange.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the connection is gone, whoever closed it."""
        exchange = self._exchange
        if exchange is not None:
            if self._to_the_end and exc is None and self._status >= 200:
                self._keep_alive = False
                self._respond(exchange)
            else:
                self._exchange = None
                exchange.finish("connection_lost")
        self._holder.discard(self)

    def _fail(self, reason: str) -> None:
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            exchange.finish(reason)
