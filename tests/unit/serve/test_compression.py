from __future__ import annotations

import gzip
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import InvalidRequest, TooLarge
from triscale.serve.compression import compress, content_coding, inflate

MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


@given(st.binary())
def test_what_was_compressed_comes_back(data: bytes) -> None:
    assert inflate(gzip.compress(data), "gzip", MIB) == data
    assert inflate(zlib.compress(data), "deflate", MIB) == data
    assert inflate(raw_deflate(data), "deflate", MIB) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@given(data=st.binary())
def test_garbage_is_refused(coding: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=coding):
        inflate(b"\xff" + data, coding, MIB)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50 * MIB))
    with pytest.raises(TooLarge, match="unfolds to more than 1048576 bytes, this server's limit; send less at once"):
        inflate(bomb, "gzip", MIB)


def test_exactly_the_limit_is_allowed() -> None:
    assert len(inflate(gzip.compress(bytes(MIB)), "gzip", MIB)) == MIB


def test_a_truncated_body_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="the gzip body ends too early; send all of it, or send it plain"):
        inflate(gzip.compress(b"hello")[:-4], "gzip", MIB)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 bytes follow the end of the gzip body; send one stream"):
        inflate(gzip.compress(b"hello") + b"xyz", "gzip", MIB)


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Content-Encoding 'br' is not supported; use gzip, deflate or none"):
        inflate(b"x", "br", MIB)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("GZIP;q=0.5, br", "gzip"),
        ("gzip;q=0, deflate;q=1.0", "deflate"),
        ("gzip; q=0.000", ""),
        ("br, zstd", ""),
    ],
)
def test_the_coding_that_the_client_accepts(accept: str, coding: str) -> None:
    assert content_coding(accept) == coding


@given(st.lists(st.binary(max_size=2000)))
def test_compressed_parts_are_one_body(parts: list[bytes]) -> None:
    body = compress(parts, "gzip")
    if body is not None:
        assert gzip.decompress(body) == b"".join(parts)
        assert len(body) <= 0.9 * sum(map(len, parts))


def test_noise_is_sent_as_it_is() -> None:
    assert compress([os.urandom(10_000)], "deflate") is None
    assert zlib.decompress(compress([b"a" * 10_000], "deflate") or b"") == b"a" * 10_000
