"""A load generator lighter than any server it may meet: raw sockets, one epoll, one request in flight per connection.

Every response is checked for its status and read to its end by its Content-Length. Latency runs from the send to the
last byte. Being closed-loop it measures capacity and per-request cost; it says nothing about overload.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from dataclasses import dataclass

__all__ = ["Load", "Request", "closed_loop", "post"]


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured; latencies in seconds, sorted."""

    requests: int
    seconds: float
    latencies: list[float]

    @property
    def per_s(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds

    def quantile(self, share: float) -> float:
        """The latency that `share` of the requests stayed within."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


Request = bytes
"""A complete HTTP request as it goes over the wire."""


def post(target: str, body: bytes, headers: dict[str, str]) -> Request:
    """A POST as common clients send it."""
    lines = {"host": "127.0.0.1", "user-agent": "bench/1", "accept": "*/*", "content-length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body


def closed_loop(port: int, request: Request, connections: int, seconds: float) -> Load:
    """Keep one `request` in flight on each of `connections` kept-alive connections for so long."""
    sockets = [_connect(port) for _ in range(connections)]
    by_fd = {opened.fileno(): opened for opened in sockets}
    started = dict.fromkeys(by_fd, 0)
    missing = dict.fromkeys(by_fd, 0)
    latencies: list[int] = []
    now = time.perf_counter_ns
    poll = select.epoll()
    gc.disable()
    try:
        begin = now()
        end = begin + int(seconds * 1e9)
        for fd, opened in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            started[fd] = now()
            opened.sendall(request)
        moment = begin
        while moment < end:
            for fd, _ in poll.poll():
                opened = by_fd[fd]
                data = opened.recv(262144)
                if not data:
                    raise RuntimeError("the server closed a connection in use")
                left = missing[fd] - len(data) if missing[fd] else _missing(data)
                missing[fd] = left
                if left == 0:
                    moment = now()
                    latencies.append(moment - started[fd])
                    started[fd] = moment
                    opened.send(request)
    finally:
        gc.enable()
        poll.close()
        for opened in sockets:
            opened.close()
    return Load(len(latencies), (moment - begin) / 1e9, [latency / 1e9 for latency in sorted(latencies)])


def _connect(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _missing(data: bytes) -> int:
    """Bytes of the response that have not arrived with its first piece, which must hold all headers."""
    if data[9:12] != b"200":
        raise RuntimeError(f"the server answered {data[:300]!r}")
    head = data.index(b"\r\n\r\n") + 4
    at = data.index(b"\r\ncontent-length: ", 0, head) + 18
    length = int(data[at : data.index(b"\r\n", at)])
    return head + length - len(data)
