"""One value that a model emitted, as a piece of an output tensor; and pieces joined into the tensor.

Rows of a row-major tensor lie one behind the other, so joining along the first dimension is joining bytes: numpy is
needed only where a datatype has to be converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from triscale.core.pipeline import Datatype, TensorSpec
from triscale.errors import ModelError
from triscale.serve.elements import check_types, flatten, pack_elements
from triscale.serve.inference_protocol import OutputTensor
from triscale.wire.payload import Buffer, Field, Kind, dtype_of, join_bytes

__all__ = ["Piece", "infer_spec", "join_pieces", "piece_of"]

_decode_json = msgspec.json.Decoder().decode


class Piece(NamedTuple):
    """A tensor with at most as many dimensions as declared, in the declared datatype."""

    shape: tuple[int, ...]
    raw: Buffer


def infer_spec(values: Sequence[tuple[Field, memoryview]]) -> TensorSpec:
    """The declaration that fits the values of an output that has none."""
    fields = [field for field, _ in values]
    if all(field.kind == Kind.TENSOR for field in fields):
        ndim = max(1, *(len(field.shape) for field in fields))
        return TensorSpec(datatype=cast("Datatype", fields[0].datatype), shape=(-1,) * ndim)
    datatype: Datatype = "BYTES"
    if all(field.kind == Kind.JSON for field in fields):
        kinds = {type(_decode_json(raw)) for _, raw in values}
        if kinds == {bool}:
            datatype = "BOOL"
        elif kinds == {int}:
            datatype = "INT64"
        elif kinds <= {int, float}:
            datatype = "FP64"
    return TensorSpec(datatype=datatype, shape=(-1,))


def piece_of(spec: TensorSpec, field: Field, raw: memoryview) -> Piece:
    """The value in the declared datatype; ModelError when it cannot be brought into it without loss."""
    try:
        if field.kind == Kind.TENSOR:
            return _tensor_piece(spec, field, raw)
        if spec.datatype == "BYTES":
            return Piece((), join_bytes([raw]))
        if field.kind == Kind.JSON:
            return _json_piece(spec, _decode_json(raw))
    except ValueError as error:
        raise ModelError(f"output {field.name!r}, declared as {spec.datatype}: {error}") from None
    given = "a string" if field.kind == Kind.TEXT else "bytes"
    raise ModelError(f"output {field.name!r} is declared as {spec.datatype}, but a model emitted {given}")


def _tensor_piece(spec: TensorSpec, field: Field, raw: memoryview) -> Piece:
    if field.datatype == spec.datatype:
        return Piece(field.shape, raw)
    if "BYTES" in (field.datatype, spec.datatype):
        raise ValueError(f"a model emitted a tensor of {field.datatype}")
    given = np.frombuffer(raw, dtype=dtype_of(field.datatype))
    target = dtype_of(spec.datatype)
    with np.errstate(all="ignore"):  # what does not fit is found below, or is a float's infinity
        converted = given.astype(target)
    exact = np.can_cast(given.dtype, target, "same_kind" if target.kind == "f" else "safe")
    if not exact and not np.array_equal(converted, given):
        raise ValueError(f"a model emitted a tensor of {field.datatype} with values that {spec.datatype} cannot hold")
    return Piece(field.shape, converted.tobytes())


def _json_piece(spec: TensorSpec, value: Any) -> Piece:
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    elements = flatten(value, shape) if shape else [value]
    check_types(spec.datatype, elements)
    return Piece(tuple(shape), pack_elements(spec.datatype, elements))


def join_pieces(name: str, spec: TensorSpec, pieces: Sequence[Piece]) -> OutputTensor:
    """All pieces as one tensor with the declared number of dimensions; ModelError when they do not fit together."""
    ndim = len(spec.shape)
    if ndim == 0:
        if len(pieces) == 1 and not pieces[0].shape:
            return OutputTensor(name, spec.datatype, (), [pieces[0].raw])
        raise ModelError(
            f"output {name!r} is declared as a single value, but a request made {len(pieces)}; declare the shape [-1]"
        )
    if not pieces:
        return OutputTensor(name, spec.datatype, (0, *(max(extent, 0) for extent in spec.shape[1:])), [])
    count = 0
    rest: tuple[int, ...] | None = None
    for piece in pieces:
        shape = piece.shape if len(piece.shape) == ndim else (1, *piece.shape)
        if len(shape) != ndim:
            raise ModelError(
                f"output {name!r} is declared with shape {list(spec.shape)}, but a model emitted {list(piece.shape)};"
                f" it must have {ndim} dimensions, or {ndim - 1} to be stacked"
            )
        if rest is None:
            rest = shape[1:]
        elif shape[1:] != rest:
            raise ModelError(
                f"output {name!r}: items emitted tensors of shapes {[-1, *rest]} and {list(shape)}, which cannot be"
                " joined; make their dimensions after the first equal"
            )
        count += shape[0]
    return OutputTensor(name, spec.datatype, (count, *(rest or ())), [piece.raw for piece in pieces])
