"""Tiny ONNX files, written by hand: the few fields of the format that they need, so that no ONNX library is."""

from __future__ import annotations

from collections.abc import Sequence

FLOAT, INT64, STRING = 1, 7, 8


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; a string in the shape is a free dimension."""
    dimensions = b"".join(_field(1, _field(1 if isinstance(extent, int) else 2, extent)) for extent in shape)
    tensor = _field(1, kind) + _field(2, dimensions)
    return _field(1, name) + _field(2, _field(1, tensor))


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A NodeProto without attributes."""
    named = b"".join(_field(1, name) for name in inputs) + b"".join(_field(2, name) for name in outputs)
    return named + _field(4, operator)


def model(nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]) -> bytes:
    """A ModelProto of IR version 8 and operator set 13."""
    graph = b"".join(_field(1, each) for each in nodes) + _field(2, "graph")
    graph += b"".join(_field(11, each) for each in inputs) + b"".join(_field(12, each) for each in outputs)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))
