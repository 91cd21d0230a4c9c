"""What the connections of one HTTP server share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from triscale.clock import monotonic
from triscale.serve.exchange import App
from triscale.serve.limits import Limits

__all__ = ["LARGE_BYTES", "Closable", "ServerState"]

_READ_BYTES = 64 * 1024
LARGE_BYTES = 64 * 1024
"""Bodies of this size and more are received straight into a buffer of their own."""


class Closable(Protocol):
    """A connection, as its server sees it."""

    def check(self, now: float) -> None:
        """Cut off a client that takes too long over what it is doing."""
        ...

    def drain(self) -> None:
        """Close now if nothing is in progress; otherwise after the response to what is."""
        ...

    def abort(self) -> None:
        """Close at once; what is in progress is cancelled."""
        ...


class ServerState:
    """What the connections of one server share."""

    __slots__ = (
        "app",
        "arriving",
        "closing",
        "common",
        "connections",
        "large_bytes",
        "limits",
        "now",
        "on_empty",
        "view",
    )

    def __init__(self, app: App, limits: Limits, now: Callable[[], float] = monotonic) -> None:
        self.app = app
        self.limits = limits
        self.large_bytes = min(LARGE_BYTES, limits.body_bytes + 1)
        """A body of this many bytes is received in its own way, or refused."""
        self.now = now
        self.connections: set[Closable] = set()
        self.arriving = 0
        """Bytes set aside for bodies that are being received (`Limits.arriving_bytes`)."""
        self.common = b""
        """Header lines of every response (date, server); renewed once a second."""
        self.closing = False
        """Draining: the next response of each connection is its last."""
        self.on_empty: Callable[[], None] = lambda: None
        """Called when the last connection is gone."""
        self.view = memoryview(bytearray(_READ_BYTES))
        """Reads of all connections land here: each is parsed before the next one is made."""
