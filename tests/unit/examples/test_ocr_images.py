from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from examples.ocr.images import decode, extent
from triscale import Rejected, Value

PIXELS = np.random.default_rng(1).integers(0, 256, (30, 50, 3)).astype(np.uint8)


def encoded(suffix: str, *options: int) -> bytes:
    _, data = cv2.imencode(suffix, PIXELS, list(options))
    return bytes(data.tobytes())


def png_of(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"


@pytest.mark.parametrize(
    "data",
    [
        encoded(".png"),
        encoded(".jpg"),
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    ],
    ids=["png", "baseline", "progressive", "restarts"],
)
def test_the_size_is_read_from_the_header_and_the_pixels_decoded(data: bytes) -> None:
    assert extent(data) == (50, 30)
    image = decode(data)
    assert not isinstance(image, Rejected)
    assert image.shape == (30, 50, 3)
    assert image.dtype == np.uint8


def test_bytes_may_come_as_a_tensor_of_one_element() -> None:
    tensor = np.empty(1, object)
    tensor[0] = encoded(".png")
    image = decode(tensor)
    assert not isinstance(image, Rejected)
    assert np.array_equal(image, PIXELS)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "`image` is not a JPEG or PNG file: its 0 bytes begin with b''"),
        (b"GIF89a....", "`image` is not a JPEG or PNG file: its 10 bytes begin with b'GIF89a..'"),
        (b"\xff\xd8\xff", "`image` is not a JPEG or PNG file: its 3 bytes begin with"),
        ("a string", "`image` must hold one JPEG or PNG file as bytes"),
        (np.zeros(3, np.uint8), "`image` must hold one JPEG or PNG file as bytes"),
        (png_of(100_000, 100_000), "`image` has 100000x100000 pixels where at most 40000000 are read"),
        (png_of(2_000_000, 10), "`image` is a damaged JPEG or PNG file of 29 bytes: it cannot be decoded"),
        (png_of(50, 30), "`image` is a damaged JPEG or PNG file of 29 bytes: it cannot be decoded"),
    ],
    ids=["nothing", "gif", "cut", "string", "tensor", "huge", "long", "damaged"],
)
def test_what_cannot_be_read_is_rejected_with_the_reason(value: Value, reason: str) -> None:
    answer = decode(value)
    assert isinstance(answer, Rejected)
    assert answer.reason.startswith(reason)


@pytest.mark.parametrize("cut", range(2, 200, 7))
def test_a_cut_header_never_raises(cut: int) -> None:
    assert extent(encoded(".jpg")[:cut]) in (None, (50, 30))
