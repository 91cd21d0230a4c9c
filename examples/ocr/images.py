"""From the bytes that a client sent to pixels, refusing what is no picture or too large before decoding it."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from triscale import Rejected, Value

__all__ = ["MAX_PIXELS", "Image", "decode", "extent"]

Image: TypeAlias = npt.NDArray[np.uint8]
"""[height, width, 3], BGR."""

MAX_PIXELS = 40_000_000
"""A4 at 600 dpi has 35 million; decoded, 40 million pixels are 115 MiB."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The JPEG segments that state the size (start of frame, baseline to arithmetic)."""
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers that no length follows."""


def decode(value: Value) -> Image | Rejected:
    """The picture, turned as its EXIF data says; Rejected with the reason when it is none that we read."""
    data = _as_bytes(value)
    if data is None:
        return Rejected("`image` must hold one JPEG or PNG file as bytes")
    size = extent(data)
    if size is None:
        return Rejected(f"`image` is not a JPEG or PNG file: its {len(data)} bytes begin with {data[:8]!r}")
    width, height = size
    if width * height > MAX_PIXELS:
        return Rejected(f"`image` has {width}x{height} pixels where at most {MAX_PIXELS} are read; make it smaller")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # raised for some damage, and for a side of more than a million pixels
        image = None
    if image is None:
        return Rejected(f"`image` is a damaged JPEG or PNG file of {len(data)} bytes: it cannot be decoded")
    return np.asarray(image, np.uint8)


def extent(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the file's header states them; None when it is no JPEG or PNG."""
    if data.startswith(_PNG) and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return _jpeg_extent(data) if data.startswith(_JPEG) else None


def _jpeg_extent(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _as_bytes(value: Value) -> bytes | None:
    """The one element of a BYTES tensor, or bytes as they are."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    return value if isinstance(value, bytes) else None
