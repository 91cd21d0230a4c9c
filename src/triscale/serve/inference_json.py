"""The protocol's REST form: JSON, and JSON followed by raw tensors (the binary tensor data extension). Pure.

A body is a JSON document, whose length the header `Inference-Header-Content-Length` tells when raw tensors follow it:
those of the tensors whose parameters hold `binary_data_size`, in order. A length of 0 means that the whole body is the
one tensor of a model with one input.

Every malformed body is an InvalidRequest that names the place and what would be right.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from triscale.core.pipeline import DATATYPES
from triscale.errors import InvalidRequest
from triscale.serve.elements import check_types, flatten, pack_elements, unpack_elements
from triscale.serve.inference_protocol import (
    VERSION,
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    Parameters,
)
from triscale.wire.payload import Buffer

__all__ = ["RestRequest", "decode", "encode"]

_Extent = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Shape = Annotated[tuple[_Extent, ...], Meta(max_length=32)]


class RestRequest(InferRequest, kw_only=True):
    """A request, and which form its client wants the outputs in."""

    binary: bool = False
    """Raw tensors rather than JSON, unless `binary_outputs` says otherwise for an output."""
    binary_outputs: Mapping[str, bool] = {}


class _InputParameters(Struct):
    binary_data_size: Annotated[int, Meta(ge=0)] | None = None
    shared_memory_region: str | None = None


class _Input(Struct, tag_field="datatype"):
    """One input tensor; each datatype has its own subclass, which knows the type of the elements of `data`."""

    name: str
    shape: _Shape
    parameters: _InputParameters | None = None
    data: Any = UNSET

    datatype: ClassVar[str]


def _input_type(datatype: str) -> type[_Input]:
    element = str if datatype == "BYTES" else bool if datatype == "BOOL" else float if datatype[:2] == "FP" else int
    data = list[element | list[Any]] | UnsetType  # type: ignore[valid-type]
    fields = [("data", data, UNSET)]
    found = msgspec.defstruct(
        f"{datatype}Input", fields, bases=(_Input,), tag=datatype, namespace={"datatype": datatype}
    )
    return cast("type[_Input]", found)


class _OutputParameters(Struct):
    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class _RequestedOutput(Struct):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(Struct):
    timeout: int | None = None
    binary_data_output: bool = False


_AnyInput = functools.reduce(operator.or_, map(_input_type, DATATYPES))


class _Request(Struct):
    inputs: list[_AnyInput]  # type: ignore[valid-type]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_RequestedOutput] | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


def decode(body: Buffer, json_length: int | None = None) -> RestRequest:
    """The request in a body whose first `json_length` bytes are JSON (None: all of it)."""
    raw: memoryview | None = None
    if json_length is not None:
        if json_length > len(body):
            raise InvalidRequest(
                f"header Inference-Header-Content-Length is {json_length}, but the body has only {len(body)} bytes"
            )
        view = memoryview(body)
        body, raw = view[:json_length], view[json_length:]
    try:
        request = _decode_request(body)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the request is not valid: {error}; {_hint(str(error))}") from None
    except RecursionError:
        raise InvalidRequest("the request is not valid: its JSON is nested too deeply") from None
    inputs, used = _tensors(request.inputs, raw)
    if raw is not None and used != len(raw):
        raise InvalidRequest(
            f"{len(raw) - used} bytes follow the last binary tensor; the sizes in `binary_data_size` must add up to the"
            f" {len(raw)} bytes behind the JSON"
        )
    found = RestRequest(inputs=inputs, id=request.id or "")
    if request.parameters is not None:
        found.timeout_us = request.parameters.timeout or 0
        found.binary = request.parameters.binary_data_output
    if request.outputs:
        _ask_for(found, request.outputs)
    return found


def _hint(message: str) -> str:
    if "datatype" in message:
        return f"datatype is one of {', '.join(DATATYPES)}"
    return "see the Open Inference Protocol, version 2, for the form of a request"


def _tensors(inputs: Sequence[_Input], raw: memoryview | None) -> tuple[list[InputTensor], int]:
    """The input tensors, and how many of the raw bytes they took."""
    found: list[InputTensor] = []
    at = 0
    for tensor in inputs:
        parameters = tensor.parameters
        size = None if parameters is None else parameters.binary_data_size
        if size is None:
            found.append(InputTensor(tensor.name, tensor.datatype, tensor.shape, _pack(tensor)))
            continue
        if tensor.data is not UNSET:
            raise InvalidRequest(f"input {tensor.name!r} has both data and binary_data_size; send one of them")
        end = at + size
        if raw is None or end > len(raw):
            left = 0 if raw is None else len(raw) - at
            raise InvalidRequest(
                f"input {tensor.name!r} has binary_data_size {size}, but {left} bytes are left in the body; check it,"
                " and the header Inference-Header-Content-Length"
            )
        found.append(InputTensor(tensor.name, tensor.datatype, tensor.shape, raw[at:end]))
        at = end
    return found, at


def _pack(tensor: _Input) -> bytes:
    data = tensor.data
    if data is UNSET:
        shared = tensor.parameters is not None and tensor.parameters.shared_memory_region is not None
        raise InvalidRequest(
            f"input {tensor.name!r} has no data; send `data`, or raw bytes and `binary_data_size`"
            + (" (shared memory is not supported)" if shared else "")
        )
    count = math.prod(tensor.shape)
    try:
        if data and type(data[0]) is list:
            data = flatten(data, tensor.shape)
            check_types(tensor.datatype, data)
        if len(data) != count:
            raise ValueError(f"data has {len(data)} elements, but shape {list(tensor.shape)} makes {count}")
        return pack_elements(tensor.datatype, data)
    except ValueError as error:
        raise InvalidRequest(f"input {tensor.name!r}: {error}") from None


def _ask_for(found: RestRequest, outputs: Sequence[_RequestedOutput]) -> None:
    found.outputs = tuple([output.name for output in outputs])
    choices: dict[str, bool] = {}
    for output in outputs:
        if output.parameters is None:
            continue
        if output.parameters.classification:
            raise InvalidRequest(
                f"output {output.name!r} asks for classification, which is not supported; ask for the tensor"
            )
        if output.parameters.shared_memory_region is not None:
            raise InvalidRequest(f"output {output.name!r} asks for shared memory, which is not supported")
        if output.parameters.binary_data is not None:
            choices[output.name] = output.parameters.binary_data
    found.binary_outputs = choices


class _BinarySize(Struct):
    binary_data_size: int


class _Output(Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _BinarySize | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class _Response(Struct, omit_defaults=True):
    model_name: str
    model_version: str
    parameters: Parameters
    outputs: list[_Output]
    id: str = ""


_encode_response = msgspec.json.Encoder().encode


def encode(response: InferResponse, request: RestRequest) -> tuple[bytes, list[Buffer]]:
    """The response as JSON, and the raw tensors that follow it, in the form that the request asked for.

    InvalidRequest where JSON cannot hold an output that was not asked for in binary.
    """
    outputs: list[_Output] = []
    raw: list[Buffer] = []
    for output in response.outputs:
        if request.binary_outputs.get(output.name, request.binary):
            size = _BinarySize(output.nbytes)
            outputs.append(_Output(output.name, output.datatype, output.shape, size))
            raw += output.buffers
        else:
            outputs.append(_Output(output.name, output.datatype, output.shape, UNSET, _elements(output)))
    document = _Response(response.model_name, VERSION, response.parameters, outputs, response.id)
    return _encode_response(document), raw


def _elements(output: OutputTensor) -> list[Any]:
    buffers = output.buffers
    try:
        raw = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        return unpack_elements(output.datatype, raw, math.prod(output.shape))
    except ValueError as error:
        raise InvalidRequest(
            f"output {output.name!r}: {error}, so JSON cannot hold it; ask for it with parameters.binary_data true"
        ) from None
