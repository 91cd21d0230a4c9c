"""A request's input tensors, checked against what the pipeline declares, as rows: what the pipeline runs on.

Without `max_batch_size` a request is one row. With it, the first dimension of every tensor counts rows, and each row
becomes a payload of its own: the pipeline forms its own batches out of rows of many requests. Nothing is copied:
the payloads are views of the body.

A BYTES tensor of shape [1] reaches the model as plain `bytes` (an image, a text); any other shape as a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from triscale.core.pipeline import DATATYPES, Pipeline, TensorSpec
from triscale.errors import InvalidRequest
from triscale.serve.inference_protocol import InputTensor
from triscale.wire.payload import Buffer, Field, Kind, Payload

__all__ = ["InputSchema", "raw_input"]

_encode_head = msgspec.msgpack.Encoder().encode

_REMEMBERED = 256
"""How many shapes of requests a schema remembers."""
_ADDRESSABLE = 2**62


class InputSchema:
    """The inputs of one pipeline: checks a request's tensors and cuts them into rows."""

    __slots__ = ("_heads", "_inputs", "_max_batch", "_model")

    def __init__(self, pipeline: Pipeline) -> None:
        self._model = pipeline.name
        self._inputs: Mapping[str, TensorSpec] = pipeline.inputs
        self._max_batch = pipeline.max_batch_size
        self._heads: dict[tuple[str, str, tuple[int, ...]], tuple[bytes, int]] = {}
        """Single tensors of fixed element size seen before, all checks passed: (head, bytes)."""

    def rows(self, tensors: Sequence[InputTensor]) -> list[Payload]:
        """One payload for each row. InvalidRequest names the input, what is wrong and what would be right."""
        if len(tensors) == 1 and not self._max_batch:
            tensor = tensors[0]
            known = self._heads.get((tensor.name, tensor.datatype, tensor.shape))
            if known is not None and known[1] == len(tensor.raw):
                return [Payload(known[0], (tensor.raw,), known[1])]
        self._check_names([tensor.name for tensor in tensors])
        for tensor in tensors:
            self._check(tensor)
        return self._cut(tensors) if self._max_batch else [self._one_row(tensors)]

    def _check_names(self, names: Sequence[str]) -> None:
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidRequest(f"input {twice!r} is given twice; send each input once")
        if not names:
            expected = f"; model {self._model!r} takes {_listed(self._inputs)}" if self._inputs else ""
            raise InvalidRequest(f"the request has no inputs{expected}")
        if not self._inputs:
            return
        for name in names:
            if name not in self._inputs:
                raise InvalidRequest(
                    f"input {name!r} is not one of model {self._model!r}; its inputs are {_listed(self._inputs)}"
                )
        for name in self._inputs:
            if name not in names:
                raise InvalidRequest(
                    f"input {name!r} of model {self._model!r} is missing; it takes {_listed(self._inputs)}"
                )

    def _check(self, tensor: InputTensor) -> None:
        spec = self._inputs.get(tensor.name)
        if spec is not None:
            self._check_declared(tensor, spec)
        shape = tensor.shape
        if self._max_batch:
            self._check_batch(tensor)
        if 0 in shape and math.prod(extent or 1 for extent in shape) * 8 > _ADDRESSABLE:
            raise InvalidRequest(f"input {tensor.name!r} has the impossible shape {list(shape)}")
        if tensor.datatype == "BYTES":
            count = math.prod(shape)
            found = len(_element_ends(tensor, count))
            if found != count:
                raise InvalidRequest(
                    f"input {tensor.name!r} has {found} elements, but shape {list(shape)} makes {count}"
                )
        elif len(tensor.raw) != tensor.expected_bytes:
            raise InvalidRequest(
                f"input {tensor.name!r} has {len(tensor.raw)} bytes, but {tensor.datatype} of shape {list(shape)} makes"
                f" {tensor.expected_bytes}"
            )

    def _check_declared(self, tensor: InputTensor, spec: TensorSpec) -> None:
        if tensor.datatype != spec.datatype:
            raise InvalidRequest(
                f"input {tensor.name!r} of model {self._model!r} has datatype {tensor.datatype}, where {spec.datatype}"
                " is declared; convert it"
            )
        declared = (-1, *spec.shape) if self._max_batch else spec.shape
        shape = tensor.shape
        if shape == declared:
            return
        if len(shape) != len(declared) or any(
            want not in (-1, have) for have, want in zip(shape, declared, strict=True)
        ):
            raise InvalidRequest(
                f"input {tensor.name!r} of model {self._model!r} has shape {list(shape)}, where {list(declared)} is"
                f" declared; reshape it (-1 stands for any extent{', here the batch' if self._max_batch else ''})"
            )

    def _check_batch(self, tensor: InputTensor) -> None:
        rows = tensor.shape[0] if tensor.shape else 0
        if not 1 <= rows <= self._max_batch:
            raise InvalidRequest(
                f"input {tensor.name!r} has shape {list(tensor.shape)}: its first dimension is the batch, and model"
                f" {self._model!r} takes 1 to {self._max_batch} rows; split the request"
            )

    def _one_row(self, tensors: Sequence[InputTensor]) -> Payload:
        fields: list[Field] = []
        buffers: list[Buffer] = []
        for tensor in tensors:
            field, buffer = self._value(tensor, tensor.shape, tensor.raw)
            fields.append(field)
            buffers.append(buffer)
        head = _encode_head(fields)
        nbytes = sum(field.nbytes for field in fields)
        if len(tensors) == 1 and tensors[0].datatype != "BYTES":
            if len(self._heads) >= _REMEMBERED:
                self._heads.clear()
            self._heads[tensors[0].name, tensors[0].datatype, tensors[0].shape] = (head, nbytes)
        return Payload(head, buffers, nbytes)

    def _cut(self, tensors: Sequence[InputTensor]) -> list[Payload]:
        count = tensors[0].shape[0]
        for tensor in tensors:
            if tensor.shape[0] != count:
                raise InvalidRequest(
                    f"input {tensor.name!r} has {tensor.shape[0]} rows where {tensors[0].name!r} has {count}; all"
                    " inputs must have the same"
                )
        cuts = [_row_buffers(tensor, count) for tensor in tensors]
        shapes = [tensor.shape[1:] for tensor in tensors]
        rows: list[Payload] = []
        head = b""
        sizes: list[int] = []
        for row in range(count):
            values = [
                self._value(tensor, shape, cut[row]) for tensor, shape, cut in zip(tensors, shapes, cuts, strict=True)
            ]
            row_sizes = [field.nbytes for field, _ in values]
            if row_sizes != sizes:
                head, sizes = _encode_head([field for field, _ in values]), row_sizes
            rows.append(Payload(head, [buffer for _, buffer in values], sum(row_sizes)))
        return rows

    def _value(self, tensor: InputTensor, shape: tuple[int, ...], raw: Buffer) -> tuple[Field, Buffer]:
        if tensor.datatype == "BYTES":
            spec = self._inputs.get(tensor.name)
            if (shape if spec is None else spec.shape) == (1,):
                element = memoryview(raw)[4:]
                return Field(tensor.name, Kind.BYTES, len(element)), element
        return Field(tensor.name, Kind.TENSOR, len(raw), tensor.datatype, shape), raw


def raw_input(pipeline: Pipeline, body: Buffer) -> InputTensor:
    """A body that is nothing but the one tensor of the pipeline's one input; at most one extent may be open.

    A BYTES input takes the body as its one element. With `max_batch_size` the body is one row.
    """
    if len(pipeline.inputs) != 1:
        raise InvalidRequest(
            f"a raw body (Inference-Header-Content-Length: 0) needs a model with one declared input; {pipeline.name!r}"
            f" declares {len(pipeline.inputs)}: send JSON, or JSON followed by binary tensors"
        )
    ((name, spec),) = pipeline.inputs.items()
    batch = (1,) if pipeline.max_batch_size else ()
    if spec.datatype == "BYTES":
        if any(extent not in (-1, 1) for extent in spec.shape):
            raise InvalidRequest(f"a raw body is one element, but input {name!r} has shape {list(spec.shape)}")
        shape = batch + (1,) * len(spec.shape)
        return InputTensor(name, spec.datatype, shape, b"".join((len(body).to_bytes(4, "little"), body)))
    size = DATATYPES[spec.datatype] * math.prod(extent for extent in spec.shape if extent != -1)
    if spec.shape.count(-1) > 1 or not size or len(body) % size:
        raise InvalidRequest(
            f"a raw body of {len(body)} bytes does not make input {name!r} of {spec.datatype} and shape"
            f" {list(spec.shape)}; send JSON followed by binary tensors, which states the shape"
        )
    shape = batch + tuple(len(body) // size if extent == -1 else extent for extent in spec.shape)
    return InputTensor(name, spec.datatype, shape, body)


def _listed(inputs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{name} ({spec.datatype} {list(spec.shape)})" for name, spec in inputs.items())


def _element_ends(tensor: InputTensor, count: int) -> list[int]:
    """Where each element of a BYTES tensor ends, in bytes; looks no further than one past `count` elements."""
    raw = memoryview(tensor.raw)
    ends: list[int] = []
    at = 0
    while at < len(raw) and len(ends) <= count:
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if end > len(raw) or at + 4 > len(raw):
            raise InvalidRequest(
                f"input {tensor.name!r}: element {len(ends)} runs past the end of the tensor's {len(raw)} bytes; each"
                " element follows its length, 4 bytes, little-endian"
            )
        ends.append(end)
        at = end
    return ends


def _row_buffers(tensor: InputTensor, rows: int) -> list[memoryview]:
    raw = memoryview(tensor.raw)
    if tensor.datatype != "BYTES":
        size = len(raw) // rows
        return [raw[row * size : (row + 1) * size] for row in range(rows)]
    each = math.prod(tensor.shape[1:])
    ends = [0, *_element_ends(tensor, rows * each)]
    return [raw[ends[row * each] : ends[(row + 1) * each]] for row in range(rows)]
