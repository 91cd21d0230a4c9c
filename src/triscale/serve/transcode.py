"""Compression on the way in and out of an exchange: small bodies at once, large ones in a thread.

A large body would hold up every other request for as long as it takes; zlib lets go of the interpreter's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from triscale.errors import RequestError
from triscale.serve.compression import WORTHWHILE_BYTES, compress, content_coding, inflate
from triscale.serve.exchange import Exchange
from triscale.wire.payload import Buffer

__all__ = ["compress_body", "inflate_body"]

_INLINE_INFLATE_BYTES = 2 * 1024
"""A compressed body of this size unfolds to 2 MiB at worst: a few milliseconds."""
_INLINE_COMPRESS_BYTES = 16 * 1024


class Then(Protocol):
    """What to do with a response's body once it is encoded."""

    def __call__(self, body: list[Buffer], coding: bytes = b"") -> None:
        """`coding` holds header lines that say how the body is encoded."""
        ...


def inflate_body(exchange: Exchange, limit: int, then: Callable[[Exchange], None]) -> None:
    """Decompress the exchange's body as its Content-Encoding says, and go on; or fail the exchange."""
    coding = exchange.headers[b"content-encoding"].decode("latin-1").strip().lower()
    if not exchange.body or coding in ("", "identity"):
        then(exchange)
    elif len(exchange.body) <= _INLINE_INFLATE_BYTES:
        try:
            exchange.body = inflate(exchange.body, coding, limit)
        except RequestError as error:
            exchange.fail(error)
            return
        then(exchange)
    else:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, inflate, exchange.body, coding, limit)
        work.add_done_callback(partial(_inflated, exchange, then))


def _inflated(exchange: Exchange, then: Callable[[Exchange], None], work: asyncio.Future[bytes]) -> None:
    try:
        exchange.body = work.result()
    except RequestError as error:
        exchange.fail(error)
    except Exception as error:  # noqa: BLE001 - whatever the thread raises is answered
        exchange.crash(error)
    else:
        if exchange.connection is not None:
            then(exchange)


def compress_body(exchange: Exchange, body: list[Buffer], then: Then) -> None:
    """Encode a response's body as its client accepts, where that is worthwhile, and go on."""
    size = sum(map(len, body))
    coding = content_coding(exchange.headers[b"accept-encoding"].decode("latin-1")) if size >= WORTHWHILE_BYTES else ""
    if not coding:
        then(body)
    elif size <= _INLINE_COMPRESS_BYTES:
        _encoded(body, coding, then, compress(body, coding))
    else:
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(None, compress, body, coding)
        except RuntimeError:  # the threads are gone: the process is ending
            then(body)
        else:
            work.add_done_callback(partial(_compressed, body, coding, then))


def _compressed(body: list[Buffer], coding: str, then: Then, work: asyncio.Future[bytes | None]) -> None:
    failed = work.cancelled() or work.exception() is not None
    _encoded(body, coding, then, None if failed else work.result())


def _encoded(body: list[Buffer], coding: str, then: Then, encoded: bytes | None) -> None:
    if encoded is None:
        then(body)
    else:
        then([encoded], f"content-encoding: {coding}\r\nvary: accept-encoding\r\n".encode())
