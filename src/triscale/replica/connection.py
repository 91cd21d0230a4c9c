"""The replica's end of a connection: blocking I/O on a socket, frames in and out, arenas in place.

One thread at a time receives; any thread may send.
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
from collections.abc import Sequence

from triscale.errors import WireError
from triscale.replica.address import check_peer, tune
from triscale.wire.arena import Inbox, Outbox
from triscale.wire.frames import MAX_BODY, Frame, FrameReader, Hello, Message, encode
from triscale.wire.payload import Buffer

__all__ = ["Connection"]

_JOIN_BELOW = 64 * 1024
"""One copy of so few bytes costs less than a system call with many buffers."""
_IOV_MAX = 1024
_HELLO_TIMEOUT = 5.0


class Connection:
    """Frames over a connected stream socket, which it owns."""

    def __init__(self, sock: socket.socket, max_body: int = MAX_BODY) -> None:
        self._sock = sock
        self._reader = FrameReader(max_body=max_body)
        self._sending = threading.Lock()
        self.inbox: Inbox | None = None
        self.outbox: Outbox | None = None

    def greet(self, token: str) -> list[Frame]:
        """Wait for the server's Hello and take the arenas that come with it.

        Returns the frames that followed at once. WireError when the peer may not connect or is gone.
        """
        check_peer(self._sock)
        tune(self._sock)
        self._sock.settimeout(_HELLO_TIMEOUT)
        frames: list[Frame] = []
        fds: list[int] = []
        try:
            while not frames:
                frames = self._receive_with_fds(fds)
            hello = frames[0][0]
            if not isinstance(hello, Hello):
                raise WireError(f"the peer's first frame is {type(hello).__name__}, not Hello")
            if not hmac.compare_digest(hello.token.encode(), token.encode()):
                raise WireError("the peer's token is not the one that this replica was configured with")
            if len(fds) == 2:
                self.inbox, self.outbox = Inbox(fds[0]), Outbox(fds[1])
            self._sock.settimeout(None)
        except TimeoutError:
            raise WireError(f"the peer said nothing for {_HELLO_TIMEOUT:g} s after it connected") from None
        finally:
            for fd in fds:
                os.close(fd)
        return frames[1:]

    def _receive_with_fds(self, fds: list[int]) -> list[Frame]:
        if self._sock.family == socket.AF_UNIX:
            data, new, _, _ = socket.recv_fds(self._sock, _JOIN_BELOW, 2 - len(fds), socket.MSG_CMSG_CLOEXEC)
            fds += new
        else:
            data = self._sock.recv(_JOIN_BELOW)
        if not data:
            raise WireError("the peer closed the connection before its Hello")
        return self._reader.feed(data)

    def receive(self) -> list[Frame] | None:
        """Block until bytes arrive: the frames that they complete (maybe none), or None at the end of the stream."""
        try:
            count = self._sock.recv_into(self._reader.buffer())
        except OSError:
            return None
        return self._reader.received(count) if count else None

    def send(self, message: Message, body: Sequence[Buffer] = (), nbytes: int = 0) -> None:
        """Send one frame; OSError when the peer is gone."""
        buffers = encode(message, body, nbytes)
        with self._sending:
            if nbytes < _JOIN_BELOW:
                self._sock.sendall(b"".join(buffers) if body else buffers[0])
            else:
                self._send_vector(buffers)

    def _send_vector(self, buffers: Sequence[Buffer]) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        first = 0
        while first < len(views):
            sent = self._sock.sendmsg(views[first : first + _IOV_MAX])
            while first < len(views) and sent >= len(views[first]):
                sent -= len(views[first])
                first += 1
            if sent:
                views[first] = views[first][sent:]

    def take_freed(self) -> list[int]:
        """Slots of the server's arena to give back with the next frame."""
        return self.inbox.take_freed() if self.inbox is not None else []

    def hang_up(self) -> None:
        """End the stream in both directions: whoever blocks on it returns."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Release the socket. Nobody may be receiving; who sends later gets an OSError."""
        with self._sending:
            self._sock.close()
