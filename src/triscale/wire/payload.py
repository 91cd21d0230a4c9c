"""Payloads: named values packed as a small head and raw buffers, so that most processes never unpack them.

The server forwards a payload from stage to stage without looking inside: the head stays encoded, the buffers stay
views of what was received. Only the two ends (a client's tensors, a model's `Item`) turn it into values. Nothing
here is pickled or evaluated.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from triscale.core.model import Data, Value
from triscale.errors import WireError

__all__ = [
    "Buffer",
    "Field",
    "Kind",
    "Payload",
    "as_bytes",
    "datatype_of",
    "dtype_of",
    "join_bytes",
    "pack",
    "split_bytes",
    "unpack",
]

Buffer: TypeAlias = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """What a field holds."""

    TENSOR = 0
    BYTES = 1
    TEXT = 2
    JSON = 3


class Field(msgspec.Struct, frozen=True, array_like=True):
    """The head of one named value: what it is and how many bytes of the body are its own."""

    name: str
    kind: int
    nbytes: int
    datatype: str = ""
    """Open Inference Protocol name of a tensor's elements."""
    shape: tuple[int, ...] = ()


class Payload:
    """Named values, packed: `head` is the msgpack of a list of Fields, `buffers` are their bytes, in order.

    `buffers` may be cut anywhere; only their concatenation counts. Immutable by convention.
    """

    __slots__ = ("buffers", "head", "nbytes")

    def __init__(self, head: bytes, buffers: Sequence[Buffer], nbytes: int) -> None:
        self.head = head
        self.buffers = buffers
        self.nbytes = nbytes

    def fields(self) -> list[Field]:
        """The decoded head; WireError when it is not one."""
        try:
            return _decode_head(self.head)
        except msgspec.DecodeError as error:
            raise WireError(f"a payload's head is not valid: {error}") from None

    def body(self) -> Buffer:
        """All buffers as one; no copy when there is only one."""
        return self.buffers[0] if len(self.buffers) == 1 else b"".join(self.buffers)

    def __repr__(self) -> str:
        return f"Payload({self.nbytes} bytes)"


_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES: Mapping[np.dtype[np.generic], str] = {dtype: name for name, dtype in _DTYPES.items()}

_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(list[Field]).decode
_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """The little-endian numpy type of an Open Inference Protocol datatype (not BYTES); KeyError when unknown."""
    return _DTYPES[datatype]


def datatype_of(dtype: np.dtype[np.generic]) -> str:
    """The Open Inference Protocol datatype of a numpy type; TypeError when it has none."""
    try:
        return _DATATYPES[dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"tensors of dtype {dtype} cannot be sent; use one of {', '.join(_DTYPES)} or bytes") from None


def pack(data: Data) -> Payload:
    """Pack named values. Tensors are not copied when they are contiguous. TypeError for what cannot be sent."""
    fields: list[Field] = []
    buffers: list[Buffer] = []
    total = 0
    for name, value in data.items():
        field, buffer = _pack_value(name, value)
        fields.append(field)
        buffers.append(buffer)
        total += field.nbytes
    return Payload(_encode_head(fields), buffers, total)


def _pack_value(name: str, value: object) -> tuple[Field, Buffer]:
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OSU":
            raw = join_bytes([as_bytes(name, element) for element in value.ravel()])
            return Field(name, Kind.TENSOR, len(raw), "BYTES", value.shape), raw
        datatype = datatype_of(value.dtype)
        array = np.ascontiguousarray(value, dtype=_DTYPES[datatype]).reshape(value.shape)
        flat = array.reshape(-1).view(np.uint8)
        return Field(name, Kind.TENSOR, array.nbytes, datatype, value.shape), flat.data
    if isinstance(value, bytes | bytearray | memoryview):
        view = memoryview(value).cast("B")
        return Field(name, Kind.BYTES, view.nbytes), view
    if isinstance(value, str):
        raw = value.encode()
        return Field(name, Kind.TEXT, len(raw)), raw
    try:
        raw = _encode_json(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, msgspec.MsgspecError, ValueError) as error:
        raise TypeError(f"value {name!r} of type {type(value).__name__} cannot be sent: {error}") from None
    return Field(name, Kind.JSON, len(raw)), raw


def unpack(payload: Payload) -> dict[str, Value]:
    """The values of a payload. Tensors and bytes are read-only views of its buffers. WireError when it is malformed."""
    body = memoryview(payload.body()).toreadonly()
    values: dict[str, Value] = {}
    at = 0
    for field in payload.fields():
        end = at + field.nbytes
        if field.nbytes < 0 or end > len(body):
            raise WireError(f"value {field.name!r} claims {field.nbytes} bytes where {len(body) - at} are left")
        values[field.name] = _unpack_value(field, body[at:end])
        at = end
    if at != len(body):
        raise WireError(f"{len(body) - at} bytes are left over after the last value")
    return values


def _unpack_value(field: Field, raw: memoryview) -> Value:
    try:
        if field.kind == Kind.TENSOR:
            return _unpack_tensor(field, raw)
        if field.kind == Kind.BYTES:
            return bytes(raw)
        if field.kind == Kind.TEXT:
            return str(raw, "utf-8")
        if field.kind == Kind.JSON:
            value: Value = _decode_json(raw)
            return value
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise WireError(f"value {field.name!r} cannot be read: {error}") from None
    raise WireError(f"value {field.name!r} is of the unknown kind {field.kind}")


def _unpack_tensor(field: Field, raw: memoryview) -> npt.NDArray[np.generic]:
    if field.datatype == "BYTES":
        elements = np.empty(len(found := split_bytes(raw)), dtype=object)
        elements[:] = found
        return elements.reshape(field.shape)
    return np.frombuffer(raw, dtype=_DTYPES[field.datatype]).reshape(field.shape)


def join_bytes(elements: Sequence[Buffer]) -> bytes:
    """The elements of a BYTES tensor as the protocol sends them: each behind its length (uint32, little-endian)."""
    parts: list[Buffer] = []
    for element in elements:
        parts.append(len(element).to_bytes(4, "little"))
        parts.append(element)
    return b"".join(parts)


def split_bytes(raw: Buffer) -> list[bytes]:
    """The elements of a BYTES tensor; ValueError when the lengths do not add up."""
    view = memoryview(raw)
    elements: list[bytes] = []
    at = 0
    while at < len(view):
        start = at + 4
        end = start + int.from_bytes(view[at:start], "little")
        if start > len(view) or end > len(view):
            raise ValueError(f"element {len(elements)} of a BYTES tensor runs past the end of its {len(view)} bytes")
        elements.append(bytes(view[start:end]))
        at = end
    return elements


def as_bytes(name: str, element: object) -> bytes:
    """An element of the BYTES tensor `name`; TypeError when it is neither bytes nor a string."""
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise TypeError(f"a BYTES tensor holds bytes or strings, but {name!r} has a {type(element).__name__}")
