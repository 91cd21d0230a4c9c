"""Response heads as bytes, and errors as responses. Formatting only: `serve/http.py` decides what is sent and when."""

from __future__ import annotations

import http
from collections.abc import Mapping

import msgspec

from triscale.errors import NotReady, RequestError

__all__ = ["JSON", "OCTETS", "TEXT", "HttpError", "error_body", "error_headers", "head", "json_body"]

JSON = b"application/json"
OCTETS = b"application/octet-stream"
TEXT = b"text/plain; charset=utf-8"

json_body = msgspec.json.Encoder().encode

_STATUS_LINES: Mapping[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus
} | {499: b"HTTP/1.1 499 Client Closed Request\r\n"}


class HttpError(RequestError):
    """A request that HTTP itself refuses: a status of its own, and headers that belong to it."""

    def __init__(self, status: int, message: str, headers: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        """Complete header lines, each with its CRLF."""


def head(status: int, common: bytes, content_type: bytes, length: int, headers: bytes) -> bytes:
    """Everything before the body. `common` and `headers` are complete lines, each with its CRLF."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
        _STATUS_LINES[status],
        content_type,
        length,
        common,
        headers,
    )


def error_body(message: str, **extra: object) -> bytes:
    """`{"error": message}`, which is all that clients of the protocol rely on, and further keys of ours."""
    return json_body({"error": message, **extra})


def error_headers(error: RequestError) -> bytes:
    """The header lines that belong to an error: when to try again, what is allowed."""
    if isinstance(error, HttpError):
        return error.headers
    return b"retry-after: 1\r\n" if isinstance(error, NotReady) else b""
