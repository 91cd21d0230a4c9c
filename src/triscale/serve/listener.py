"""An HTTP server: sockets that listen, the connections they accept, and the end of both.

Starting and stopping are separate steps, as an orderly shutdown needs them: `stop_accepting` keeps every open
connection served, `close` lets requests in progress finish and tells their clients to come again elsewhere.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import resource
import socket
import ssl
from collections.abc import Callable

from triscale.clock import monotonic, wall
from triscale.errors import ConfigError
from triscale.serve.exchange import App
from triscale.serve.http import Connection
from triscale.serve.limits import Limits
from triscale.serve.server_state import ServerState

__all__ = ["HttpServer", "open_sockets"]

_TICK_S = 1.0
_BACKLOG = 2048
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_SPARE_FILES = 512
"""File descriptors that the rest of the process may need."""


class HttpServer:
    """Serves an `App` over HTTP/1.1, with TLS if given a context."""

    def __init__(
        self,
        app: App,
        limits: Limits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._state = ServerState(app, limits or Limits(), now)
        self._state.on_empty = self._last_connection_gone
        self._tls = tls
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self.port = 0
        """The port that is listened on, once started."""

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._state.connections)

    async def start(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Listen on every address of `host`; port 0 picks a free one. ConfigError when that cannot be had."""
        loop = asyncio.get_running_loop()
        _allow_files(self._state.limits.connections + _SPARE_FILES)
        sockets = open_sockets(host, port)
        self.port = sockets[0].getsockname()[1]
        for listening in sockets:
            self._listeners.append(
                await loop.create_server(
                    lambda: Connection(self._state),
                    sock=listening,
                    ssl=self._tls,
                    backlog=_BACKLOG,
                    ssl_handshake_timeout=self._state.limits.head_timeout_s if self._tls else None,
                )
            )
        self._tick()

    def stop_accepting(self) -> None:
        """Take no new connections; the open ones are served on."""
        for listener in self._listeners:
            listener.close()

    async def close(self, grace: float = 0.0) -> None:
        """Stop: idle connections at once, the others after their response, all after `grace` seconds. Idempotent."""
        self.stop_accepting()
        self._state.closing = True
        for connection in list(self._state.connections):
            connection.drain()
        await self._wait_until_empty(grace)
        for connection in list(self._state.connections):
            connection.abort()
        await self._wait_until_empty(1.0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait_until_empty(self, seconds: float) -> None:
        if self._state.connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                pass

    def _last_connection_gone(self) -> None:
        self._empty.set()

    def _tick(self) -> None:
        """Once a second: the Date header, and clients that take too long."""
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        date = email.utils.formatdate(wall(), usegmt=True)
        self._state.common = f"date: {date}\r\nserver: triscale\r\n".encode()
        self.check()

    def check(self) -> None:
        """Cut off clients that take too long over what they do."""
        now = self._state.now()
        for connection in list(self._state.connections):
            connection.check(now)


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Bound sockets for every address of `host`, all on one port. ConfigError says what is in the way."""
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host!r}: {error.strerror or error}; give a name or address of here"
        ) from None
    sockets: list[socket.socket] = []
    failure = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        try:
            sockets.append(_open_socket(family, kind, protocol, (address[0], port, *address[2:])))
        except OSError as error:
            failure = error
            if error.errno in _NOT_HERE:
                continue  # a name may stand for an address (::1) that this machine does not have
            break
        port = sockets[0].getsockname()[1]
    else:
        if sockets:
            return sockets
    for opened in sockets:
        opened.close()
    advice = "give an address of this machine" if failure.errno in _NOT_HERE else "stop what uses it, or choose another"
    if failure.errno == errno.EACCES:
        advice = "ports below 1024 are the system's: choose another"
    raise ConfigError(f"cannot listen on {host}:{port}: {failure.strerror}; {advice}")


def _open_socket(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[object, ...]
) -> socket.socket:
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it. Without it a response in two segments waits 40 ms for the first one's ACK.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


def _allow_files(wanted: int) -> None:
    """Raise the soft limit on open files as far as that is allowed and needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
