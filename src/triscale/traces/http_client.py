"""HTTP/1.1 connections for a load generator: a pool of keep-alive connections, one exchange on each at a time.

The pool grows when an exchange finds no idle connection, up to a limit; beyond it exchanges wait their turn, which
their latency shows, because it counts from the moment they were meant to be sent. Nothing is ever tried again: an
exchange that fails is an observation, not something to repair. Callbacks rather than tasks, so that one process can
send many thousand requests a second.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from triscale.clock import monotonic
from triscale.errors import ConfigError

__all__ = ["ConnectionPool", "Endpoint", "Exchange", "endpoint_of"]

_SMALL = 1000
_SWEEP_S = 0.05
"""How often exchanges are checked against their deadlines."""


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of `http://host:port`; ConfigError when the URL is anything else."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or parts.path not in {"", "/"}:
        raise ConfigError(f"url: {url!r} is not a server's address; write it like http://127.0.0.1:8000")
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname, port or (443 if tls else 80), tls)


class Exchange:
    """One request and, in the end, its response or the reason why there is none."""

    __slots__ = ("body", "connection", "deadline", "finished", "headers", "index", "on_done", "reason", "request",
                 "sent", "status")  # fmt: skip

    def __init__(self, request: bytes, deadline: float, on_done: Callable[[Exchange], None], index: int = 0) -> None:
        self.request = request
        self.deadline = deadline
        """Monotonic seconds at which the client stops waiting."""
        self.on_done = on_done
        """Called exactly once, on the event loop."""
        self.index = index
        """The caller's own number."""
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
        self.connection: _Connection | None = None

    def finish(self, reason: str = "") -> None:
        """End it, once."""
        if self.finished:
            return
        self.finished = monotonic()
        self.reason = reason
        self.connection = None
        self.on_done(self)


class _Connection(asyncio.Protocol):
    """One keep-alive connection. httptools calls the `on_...` methods while it parses."""

    __slots__ = ("_body", "_complete", "_exchange", "_headers", "_keep_alive", "_parser", "_pool", "transport")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._complete = False
        self._keep_alive = False
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
        self.transport.write(exchange.request)

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

    def on_body(self, chunk: bytes) -> None:
        """Parser: a part of the body."""
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        """Parser: the response is whole."""
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # the parser only knows it here

    def _respond(self, exchange: Exchange) -> None:
        exchange.status = self._parser.get_status_code()
        exchange.headers = self._headers
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._headers = {}
        self._body = []
        self._complete = False
        self._exchange = None
        if self._keep_alive:
            exchange.finish()
            self._pool.release(self)
        else:
            self.abort()
            exchange.finish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio: the connection is gone, whoever closed it."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.finish("connection_lost")
        self._pool.discard(self)

    def _fail(self, reason: str) -> None:
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            exchange.finish(reason)


class ConnectionPool:
    """Connections to one endpoint. Use on one event loop; `close` when done."""

    def __init__(self, endpoint: Endpoint, limit: int) -> None:
        self._endpoint = endpoint
        self._limit = limit
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        # All timeouts are equal, so exchanges expire in the order in which they were submitted.
        self._outstanding: deque[Exchange] = deque()
        self._compact_at = _SMALL
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls = ssl.create_default_context() if endpoint.tls else None
        self._address = endpoint.host

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._open)

    async def resolve(self) -> None:
        """Look the host's name up, once; OSError when it has no address."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._endpoint.host, self._endpoint.port, type=1)
        self._address = str(found[0][4][0])

    def submit(self, exchange: Exchange) -> None:
        """Send it now on an idle or new connection, or as soon as one is free. Never blocks, never raises."""
        self._outstanding.append(exchange)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        while self._idle:
            # The most recently used one: surplus connections stay idle and may be closed by the server.
            connection = self._idle.pop()
            if not connection.closing:
                connection.send(exchange)
                return
        self._waiting.append(exchange)
        self._grow()

    def release(self, connection: _Connection) -> None:
        """A connection is free: give it the next waiting exchange."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.finished:
                connection.send(exchange)
                return
        self._idle.append(connection)

    def discard(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._grow()

    def abandon(self, reason: str) -> None:
        """Finish everything that is still out, for `reason`."""
        while self._outstanding:
            self._give_up(self._outstanding.popleft(), reason)

    async def close(self) -> None:
        """Close all connections; what is still out ends as `stopped`."""
        self.abandon("stopped")
        self._waiting.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _grow(self) -> None:
        if len(self._connecting) < len(self._waiting) and len(self._open) + len(self._connecting) < self._limit:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        server_hostname = self._endpoint.host if self._tls else None
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self),
                self._address,
                self._endpoint.port,
                ssl=self._tls,
                server_hostname=server_hostname,
            )
        except OSError as error:
            # One attempt speaks for one exchange, the oldest; the next one gets an attempt of its own.
            self._connecting.discard(asyncio.current_task())
            if self._waiting:
                self._waiting.popleft().finish("no_tls" if isinstance(error, ssl.SSLError) else "no_connection")
            self._grow()
            return
        self._open.add(connection)
        self.release(connection)

    def _sweep(self) -> None:
        now = monotonic()
        outstanding = self._outstanding
        while outstanding and (outstanding[0].finished or outstanding[0].deadline <= now):
            self._give_up(outstanding.popleft(), "timeout")
        if len(outstanding) > self._compact_at:
            # One that hangs must not keep all the finished ones behind it in memory.
            outstanding = self._outstanding = deque(e for e in outstanding if not e.finished)
            self._compact_at = 2 * len(outstanding) + _SMALL
        again = bool(outstanding)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if again else None

    @staticmethod
    def _give_up(exchange: Exchange, reason: str) -> None:
        if exchange.finished:
            return
        connection = exchange.connection
        # Never sent: the server cannot know of it.
        exchange.finish(reason if exchange.sent else "no_connection")
        if connection is not None:
            connection.abort()
