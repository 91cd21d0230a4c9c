"""A load generator's connections to one server: a pool of keep-alive connections, one exchange on each at a time.

The pool grows when an exchange finds no idle connection, up to a limit; beyond it exchanges wait their turn, which
their latency shows, because it counts from the moment they were meant to be sent. Nothing is ever tried again: an
exchange that fails is an observation, not something to repair.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque

from triscale.clock import monotonic
from triscale.traces.endpoint import Endpoint, Trust, endpoint_of, tls_context
from triscale.traces.http_connection import Connection, Exchange

__all__ = ["ConnectionPool", "Endpoint", "Exchange", "endpoint_of"]

_SMALL = 1000
_SWEEP_S = 0.05
"""How often exchanges are checked against their deadlines."""
_TRY_S = 2.0
"""How long one of several addresses of a name is tried."""


class ConnectionPool:
    """Connections to one endpoint. Use on one event loop; `close` when done. ConfigError for certificates unfit."""

    def __init__(self, endpoint: Endpoint, limit: int, trust: Trust | None = None) -> None:
        self._endpoint = endpoint
        self._limit = limit
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        # All timeouts are equal, so exchanges expire in the order in which they were submitted.
        self._outstanding: deque[Exchange] = deque()
        self._compact_at = _SMALL
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls = tls_context(trust or Trust()) if endpoint.tls else None
        self._address = endpoint.host

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._open)

    async def resolve(self) -> None:
        """Look the host's name up, once; OSError when it has no address.

        Of several addresses (localhost is often two) the first at which somebody listens is used for the whole run.
        """
        loop = asyncio.get_running_loop()
        host, port = self._endpoint.host, self._endpoint.port
        found = await loop.getaddrinfo(host, port, type=1)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._address = addresses[0]
        for address in addresses if len(addresses) > 1 else ():
            try:
                opening = loop.create_connection(asyncio.Protocol, address, port)
                transport, _ = await asyncio.wait_for(opening, _TRY_S)
            except (OSError, TimeoutError):
                continue
            transport.close()
            self._address = address
            return

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

    def release(self, connection: Connection) -> None:
        """A connection is free: give it the next waiting exchange."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.finished:
                connection.send(exchange)
                return
        self._idle.append(connection)

    def discard(self, connection: Connection) -> None:
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
                lambda: Connection(self),
                self._address,
                self._endpoint.port,
                ssl=self._tls,
                server_hostname=server_hostname,
            )
        except OSError as error:
            # One attempt speaks for one exchange, the oldest; the next one gets an attempt of its own.
            self._connecting.discard(asyncio.current_task())
            if self._waiting:
                self._waiting.popleft().finish(*_refusal(error, tls=self._tls is not None))
            self._grow()
            return
        if connection.closing:
            # Accepted and closed at once, before anything was sent: again one exchange, and no endless trying.
            if self._waiting:
                self._waiting.popleft().finish("no_connection", "it was closed at once")
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


def _refusal(error: OSError, *, tls: bool) -> tuple[str, str]:
    """(reason, detail) of an attempt to connect that failed. A peer that hangs up during the handshake has no TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "no_tls", f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no_tls", (error.reason or str(error)).lower().replace("_", " ")
    if tls and isinstance(error, ConnectionResetError):
        return "no_tls", "it hung up during the handshake"
    return "no_connection", os.strerror(error.errno) if error.errno else str(error)
