"""The client's half of the Open Inference Protocol v2: values in, request bytes out; response bytes in, arrays out.

Requests use the binary tensor extension and ask for binary outputs, or plain JSON for servers without the extension.
Responses are read in either form. No sockets here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from triscale.core.model import Data
from triscale.errors import WireError
from triscale.wire.payload import as_bytes, datatype_of, dtype_of, join_bytes, split_bytes

__all__ = ["Outputs", "decode_outputs", "encode_inputs", "encode_inputs_as_json"]

Array: TypeAlias = npt.NDArray[np.generic]
Outputs: TypeAlias = dict[str, Array]
"""Output tensors by name; a BYTES tensor is an object array of `bytes`."""


class _TensorIn(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: Mapping[str, object] = {}
    data: object = None


class _Response(msgspec.Struct):
    outputs: list[_TensorIn] = []


_encode_json = msgspec.json.Encoder().encode
_decode_response = msgspec.json.Decoder(_Response).decode


def encode_inputs(data: Data, batched: bool) -> tuple[bytes, bytes]:
    """(JSON head, raw tensors) of an infer request for `data`; TypeError for a value that is no tensor.

    Bytes and strings become BYTES tensors of shape [1], numbers and booleans tensors of shape [1]. `batched`
    adds the leading batch dimension (of one row) that pipelines with a `max_batch_size` take.
    """
    inputs = []
    buffers = []
    for name, array, shape in _tensors(data, batched):
        if array.dtype == object:
            datatype, raw = "BYTES", join_bytes(list(array.ravel()))
        else:
            datatype = datatype_of(array.dtype)
            raw = np.ascontiguousarray(array, dtype=dtype_of(datatype)).tobytes()
        tensor = {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
        inputs.append(tensor)
        buffers.append(raw)
    head = _encode_json({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head, b"".join(buffers)


def encode_inputs_as_json(data: Data, batched: bool) -> bytes:
    """Like `encode_inputs`, all in JSON. TypeError also for what JSON cannot say: bytes that are no text, NaN, FP16."""
    inputs = []
    for name, array, shape in _tensors(data, batched):
        datatype = "BYTES" if array.dtype == object else datatype_of(array.dtype)
        elements = (
            [_text(name, bytes(element)) for element in array.ravel().tolist()]
            if datatype == "BYTES"
            else _numbers(name, array)
        )
        inputs.append({"name": name, "shape": shape, "datatype": datatype, "data": elements})
    return _encode_json({"inputs": inputs})


def _tensors(data: Data, batched: bool) -> Iterator[tuple[str, Array, tuple[int, ...]]]:
    """(name, values, shape on the wire) of every input."""
    for name, value in data.items():
        array = _as_array(name, value)
        yield name, array, ((1, *array.shape) if batched else array.shape)


def _text(name: str, element: bytes) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise TypeError(
            f"input {name!r} holds bytes that are no text, which the protocol cannot say in JSON; it takes a server "
            "with the binary tensor extension"
        ) from None


def _numbers(name: str, array: Array) -> list[object]:
    if array.dtype.kind == "f" and (array.dtype.itemsize < 4 or not np.isfinite(array).all()):
        raise TypeError(
            f"input {name!r} holds 16-bit floats, NaN or infinity, which the protocol cannot say in JSON; it takes a "
            "server with the binary tensor extension"
        )
    values: list[object] = array.ravel().tolist()
    return values


def _as_array(name: str, value: object) -> Array:
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OSU":
            flat = [as_bytes(name, element) for element in value.ravel()]
            return _objects(flat).reshape(value.shape)
        return value
    if isinstance(value, str | bytes | bytearray | memoryview):
        return _objects([as_bytes(name, value)])
    if isinstance(value, bool | int | float | np.generic):
        return np.asarray([value])
    raise TypeError(
        f"input {name!r} is a {type(value).__name__}, which is no tensor: a sample sent over the Open Inference "
        "Protocol holds numpy arrays, bytes, strings, numbers or booleans"
    )


def _objects(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def decode_outputs(body: bytes, head_length: int | None, batched: bool) -> Outputs:
    """The output tensors of a response; WireError when it is none.

    `head_length` is the response's `Inference-Header-Content-Length`, None where it has none (all JSON).
    `batched` takes off the leading dimension of one row that `encode_inputs` added.
    """
    end = len(body) if head_length is None else head_length
    try:
        response = _decode_response(body[:end])
    except msgspec.DecodeError as error:
        raise WireError(f"the response is not one of the Open Inference Protocol: {error}") from None
    outputs: Outputs = {}
    at = end
    for tensor in response.outputs:
        size = tensor.parameters.get("binary_data_size")
        if isinstance(size, int):
            if size < 0 or at + size > len(body):
                raise WireError(f"output {tensor.name!r} claims {size} bytes where {len(body) - at} are left")
            raw = memoryview(body)[at : at + size]
            at += size
        else:
            raw = None
        array = _read(tensor, raw)
        outputs[tensor.name] = array.reshape(array.shape[1:]) if batched and array.shape[:1] == (1,) else array
    return outputs


def _read(tensor: _TensorIn, raw: memoryview | None) -> Array:
    try:
        if tensor.datatype == "BYTES":
            found = split_bytes(raw) if raw is not None else _json_bytes(tensor)
            return _objects(found).reshape(tensor.shape)
        dtype = dtype_of(tensor.datatype)
        flat = np.frombuffer(raw, dtype=dtype) if raw is not None else np.asarray(tensor.data, dtype=dtype)
        return flat.reshape(tensor.shape)
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"output {tensor.name!r} cannot be read: {error}") from None


def _json_bytes(tensor: _TensorIn) -> list[bytes]:
    flat = np.asarray(tensor.data, dtype=object).ravel()
    return [as_bytes(tensor.name, element) for element in flat]
