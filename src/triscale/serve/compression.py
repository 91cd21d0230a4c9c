"""Request bodies in, response bodies out, through gzip or deflate. Pure functions, safe to run in a thread.

A small compressed body may unfold to gigabytes, so inflating stops at a limit instead of trusting the sender.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from triscale.errors import InvalidRequest, TooLarge
from triscale.wire.payload import Buffer

__all__ = ["WORTHWHILE_BYTES", "compress", "content_coding", "inflate"]

WORTHWHILE_BYTES = 1400
"""Smaller responses fit one network packet as they are: compressing them would only cost time."""

_LEVEL = 1
"""Fastest: on this path latency counts more than the last bytes."""
_GZIP_WBITS = 31
_ZLIB_WBITS = 15
_RAW_WBITS = -15
_CODINGS = {"gzip": _GZIP_WBITS, "x-gzip": _GZIP_WBITS, "deflate": _ZLIB_WBITS}


def inflate(body: Buffer, coding: str, limit: int) -> bytes:
    """The decompressed body.

    InvalidRequest when it is broken or `coding` is unknown; TooLarge when it unfolds to more than `limit` bytes.
    """
    wbits = _CODINGS.get(coding)
    if wbits is None:
        raise InvalidRequest(f"Content-Encoding {coding!r} is not supported; use gzip, deflate or none")
    if wbits == _ZLIB_WBITS and not _is_zlib(body):
        wbits = _RAW_WBITS  # some senders take the name "deflate" literally and leave the zlib wrapper out
    inflater = zlib.decompressobj(wbits)
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not valid {coding}: {error}; compress it again, or send it plain") from None
    if len(found) > limit:
        raise TooLarge(f"the body unfolds to more than {limit} bytes, this server's limit; send less at once")
    if not inflater.eof:
        raise InvalidRequest(f"the {coding} body ends too early; send all of it, or send it plain")
    if inflater.unused_data:
        raise InvalidRequest(f"{len(inflater.unused_data)} bytes follow the end of the {coding} body; send one stream")
    return found


def _is_zlib(body: Buffer) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def content_coding(accept: str) -> str:
    """The coding to answer with, by an Accept-Encoding header: gzip, deflate, or "" for none."""
    accepted: set[str] = set()
    for part in accept.lower().split(","):
        coding, _, parameters = part.partition(";")
        name, _, weight = parameters.partition("=")
        if name.strip() == "q" and not weight.strip().strip("0."):
            continue
        accepted.add(coding.strip())
    if "gzip" in accepted:
        return "gzip"
    return "deflate" if "deflate" in accepted else ""


def compress(parts: Iterable[Buffer], coding: str) -> bytes | None:
    """The parts as one compressed body, or None where that saves less than a tenth."""
    deflater = zlib.compressobj(_LEVEL, wbits=_CODINGS[coding])
    total = 0
    found: list[bytes] = []
    for part in parts:
        total += len(part)
        found.append(deflater.compress(part))
    found.append(deflater.flush())
    body = b"".join(found)
    return body if len(body) <= 0.9 * total else None
