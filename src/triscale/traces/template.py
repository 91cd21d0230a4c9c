"""One HTTP request made in advance, but for the few bytes that differ each time it is sent.

What differs is an id, and the time that is left until the deadline. Both stand in the head of the request or near the
beginning of its body, in fields of fixed width, so that nothing is encoded or counted while requests are timed, and a
large body is never copied.

The time left is said in the two ways that servers understand: `parameters.timeout` in the body, microseconds (Triton,
triscale), and the header `x-request-timeout-seconds` (Ray Serve, triscale).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Body", "Template"]

_DIGITS = 10
"""Of a timeout in microseconds, padded with blanks, which JSON allows: up to 2.7 hours."""
_LEAST_S = 1e-6
"""Told to the server when nothing is left: 0 would mean no limit."""
_JSON = "application/json"
_OCTETS = "application/octet-stream"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, frozen=True):
    """The body of an infer request: JSON, and behind it the tensors in binary where there are any."""

    head: bytes
    """JSON; empty where the body is one raw tensor."""
    raw: bytes = b""
    binary: bool = False
    """Whether the server is to be told where the JSON ends (`Inference-Header-Content-Length`)."""


class Template:
    """A request to send many times. With an id, a deadline, or both, `wire` fills them in; else `plain` is all."""

    __slots__ = ("_before", "_deadline", "_rest", "_start", "plain")

    def __init__(self, host: str, path: str, body: Body, headers: Mapping[str, str], *, deadline: bool = False) -> None:
        timed = deadline and bool(body.head)
        before, after = _parted(body.head) if timed else (b"", body.head)
        length = len(before) + _DIGITS + len(after) if timed else len(body.head)
        given = {name.lower() for name in headers}
        lines = [f"POST {path} HTTP/1.1"]
        if "host" not in given:
            lines.append(f"Host: {host}")
        if "content-type" not in given:
            lines.append(f"Content-Type: {_OCTETS if body.binary else _JSON}")
        if body.binary:
            lines.append(f"Inference-Header-Content-Length: {length}")
        lines.append(f"Content-Length: {length + len(body.raw)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._start = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        self._deadline = deadline
        self._before = before if timed else None
        self._rest = after + body.raw
        self.plain = b"" if deadline else self._start + b"\r\n" + self._rest
        """The whole request, where it has neither id nor deadline."""

    def wire(self, name: bytes, left: float) -> tuple[bytes, bytes]:
        """The request in two parts. `name` is its id, empty for none; `left` the seconds until its deadline."""
        start = self._start
        if name:
            start += b"x-request-id: %b\r\n" % name
        if not self._deadline:
            return start + b"\r\n", self._rest
        left = max(left, _LEAST_S)
        start += b"x-request-timeout-seconds: %.6f\r\n\r\n" % left
        if self._before is not None:
            start += b"%b%10d" % (self._before, max(1, round(left * 1e6)))
        return start, self._rest


def _parted(head: bytes) -> tuple[bytes, bytes]:
    """The JSON with a timeout among its parameters, in two parts: between them go the timeout's digits."""
    document = _decode(head)
    parameters = _decode(document.pop("parameters", msgspec.Raw(b"{}")))
    parameters.pop("timeout", None)
    rest = _encode(parameters)[1:]
    others = _encode(document)[1:]
    after = (b"," if rest != b"}" else b"") + rest + (b"," if others != b"}" else b"") + others
    return b'{"parameters":{"timeout":', after
