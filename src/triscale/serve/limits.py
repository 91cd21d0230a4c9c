"""What one client may cost the front door: sizes, counts and times, in bytes, pieces and seconds.

Every limit has a response that names it (`serve/http.py`), so that a client learns which one it hit.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Limits"]

KIB = 1024
MIB = 1024 * KIB


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of one HTTP server."""

    connections: int = 4096
    """Open connections; one more is told 503 and closed."""
    target_bytes: int = 8 * KIB
    """A request's target (path and query); 414 beyond."""
    head_bytes: int = 32 * KIB
    """Request line and headers, counted by whole reads of at most 64 KiB; 431 beyond."""
    body_bytes: int = 64 * MIB
    """A body, as sent and after decompression; 413 beyond, before it is read."""
    arriving_bytes: int = 1024 * MIB
    """Bodies being received at once, over all connections, the first piece of each not counted; 503 beyond."""
    pipelined: int = 64
    """Requests of one connection in progress at once; while there are more, nothing is read from it."""
    head_timeout_s: float = 10.0
    """From a request's first byte (or the connection's start) to the end of its headers; 408 beyond."""
    body_window_s: float = 10.0
    """A body that is not complete after this long must have brought `body_bytes_per_s`; then the next window."""
    body_bytes_per_s: float = 1024.0
    """Slowest mean rate at which a body may arrive over one window; 408 below."""
    idle_timeout_s: float = 75.0
    """A kept-alive connection without requests is closed after this long."""
    write_timeout_s: float = 30.0
    """A client that does not read its responses is cut off after this long."""
    linger_s: float = 2.0
    """How long the rest of a refused request is read and thrown away, so that the client sees the refusal."""
