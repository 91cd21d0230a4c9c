"""A tensor's elements as Python values (JSON's form) and as raw little-endian bytes (everyone else's).

Strict: an element that does not fit the datatype exactly (a string, 1.5 or 300 for UINT8, 1e300 for FP32) is a
ValueError whose text names it, never a silent conversion.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from triscale.wire.payload import Buffer, dtype_of, join_bytes, split_bytes

__all__ = ["check_types", "flatten", "pack_elements", "unpack_elements"]

_CODES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_JSON_TYPES: Mapping[str, frozenset[type]] = (
    {datatype: frozenset({int}) for datatype in _CODES}
    | {datatype: frozenset({int, float}) for datatype in _FLOATS}
    | {"BOOL": frozenset({bool}), "BYTES": frozenset({str})}
)
_SMALL = 256
"""Up to this many elements `struct` is faster than anything that builds an array first."""


def flatten(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Nested lists as one flat list, row-major. ValueError unless they nest exactly as `shape` says.

    The elements are of any type: see `check_types`.
    """
    for axis, extent in enumerate(shape[1:], start=1):
        if set(map(type, data)) != {list}:
            raise ValueError(f"data is nested unevenly at depth {axis}: some elements are lists and others are not")
        lengths = set(map(len, data))
        if lengths != {extent}:
            wrong = next(length for length in lengths if length != extent)
            raise ValueError(f"a list at depth {axis} of data has {wrong} elements where the shape says {extent}")
        data = list(chain.from_iterable(data))
    if list in set(map(type, data)):
        raise ValueError(f"data is nested deeper than its shape of {len(shape)} dimensions")
    return data


def check_types(datatype: str, values: list[Any]) -> None:
    """ValueError naming the first element that is not of the JSON type that holds this datatype."""
    allowed = _JSON_TYPES[datatype]
    if not allowed.issuperset(map(type, values)):
        index, value = next((i, value) for i, value in enumerate(values) if type(value) not in allowed)
        raise ValueError(f"element {index} is {str(value)[:40]!r}, which {datatype} cannot hold")


def pack_elements(datatype: str, values: list[Any]) -> bytes:
    """The elements as raw bytes; ValueError naming the first that is out of range. See `check_types`."""
    if datatype == "BYTES":
        return join_bytes([value.encode() for value in values])
    try:
        if len(values) <= _SMALL:
            return _packer(datatype, len(values))(*values)
        return _pack_many(datatype, values)
    except (struct.error, TypeError, ValueError, OverflowError):
        raise ValueError(_misfit(datatype, values)) from None


@lru_cache(maxsize=4096)
def _packer(datatype: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{_CODES[datatype]}").pack


def _pack_many(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BOOL":
        return bytes(values)
    if datatype not in _FLOATS:
        return _little_endian(array(_CODES[datatype], values))
    wide = np.frombuffer(_little_endian(array("d", values)), dtype="<f8")
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype_of(datatype))
    if not np.isfinite(narrow).all():  # JSON has no infinity, so this one is an overflow
        raise OverflowError
    return narrow.tobytes()


def _little_endian(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _misfit(datatype: str, values: list[Any]) -> str:
    """Which element does not fit; called only when one does not."""
    pack = _packer(datatype, 1)
    for index, value in enumerate(values):
        try:
            pack(value)
        except (struct.error, TypeError, ValueError, OverflowError):
            return f"element {index} is {str(value)[:40]}, which {datatype} cannot hold"
    return f"an element does not fit {datatype}"


def unpack_elements(datatype: str, raw: Buffer, count: int) -> list[Any]:
    """The elements as JSON can hold them. ValueError where a BYTES element is not text."""
    if datatype == "BYTES":
        return [_decoded(index, element) for index, element in enumerate(split_bytes(raw))]
    if count <= _SMALL:
        return list(_unpacker(datatype, count)(raw))
    found: list[Any] = np.frombuffer(raw, dtype=dtype_of(datatype)).tolist()
    return found


@lru_cache(maxsize=4096)
def _unpacker(datatype: str, count: int) -> Callable[[Buffer], tuple[Any, ...]]:
    return struct.Struct(f"<{count}{_CODES[datatype]}").unpack


def _decoded(index: int, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise ValueError(f"element {index} is not UTF-8 text") from None
