"""Sockets for the addresses at which replicas listen: `unix:PATH`, `unix:@NAME` (no file) and `tcp:HOST:PORT`."""

from __future__ import annotations

import os
import socket
import struct

from triscale.core.cluster import Address
from triscale.errors import ConfigError, WireError

__all__ = ["bound", "check_peer", "parse", "tune"]

_BACKLOG = 16
_TCP_PATIENCE_MS = 10_000


def parse(address: Address) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """The socket family and address of an Address; ConfigError when it is not one."""
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        return socket.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if host and port.isdecimal() and int(port) < 2**16:
            host = host.strip("[]")
            return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port))
    raise ConfigError(f"{address!r} is not a replica's address; write unix:PATH, unix:@NAME or tcp:HOST:PORT")


def bound(address: Address) -> socket.socket:
    """A socket that listens at `address`; OSError when it is taken."""
    family, where = parse(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def tune(connection: socket.socket) -> None:
    """Have small frames sent at once and dead peers noticed (TCP), or a large frame under way (Unix)."""
    if connection.family == socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    else:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Beats are always under way, so a machine that is gone is noticed; the default would be a quarter of an hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_PATIENCE_MS)


def check_peer(connection: socket.socket) -> None:
    """WireError when the other end of a Unix socket belongs to another user. TCP has a token instead."""
    if connection.family != socket.AF_UNIX:
        return
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    if uid != os.getuid():
        raise WireError(f"process {pid} at the other end of the socket runs as user {uid}, not as {os.getuid()}")
