from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from triscale.core.model import Data
from triscale.errors import WireError
from triscale.traces.infer_codec import decode_outputs, encode_inputs, encode_inputs_as_json


def response(raw: bytes = b"", **tensor: object) -> tuple[bytes, int]:
    head = json.dumps({"model_name": "m", "outputs": [{"name": "y", **tensor}]}).encode()
    return head + raw, len(head)


def test_a_request_says_the_same_as_the_one_of_tritonclient() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    theirs = InferInput("x", [2, 3], "FP32")
    theirs.set_data_from_numpy(x)
    body, length = InferenceServerClient.generate_request_body([theirs])
    head, raw = encode_inputs({"x": x}, batched=False)
    assert raw == body[length:]
    assert json.loads(head) == json.loads(body[:length])


def test_scalars_and_text_become_tensors_of_one_element() -> None:
    head, raw = encode_inputs({"page": b"\xff\xd8", "lang": "de", "n": 3, "flag": True}, batched=False)
    inputs = json.loads(head)["inputs"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in inputs] == [
        ("page", "BYTES", [1]),
        ("lang", "BYTES", [1]),
        ("n", "INT64", [1]),
        ("flag", "BOOL", [1]),
    ]
    assert raw == struct.pack("<I2sI2sqB", 2, b"\xff\xd8", 2, b"de", 3, 1)


def test_batched_adds_a_row_and_takes_it_off_again() -> None:
    head, _ = encode_inputs({"x": np.zeros((4, 5), np.float32), "t": "a"}, batched=True)
    assert [i["shape"] for i in json.loads(head)["inputs"]] == [[1, 4, 5], [1, 1]]
    body, length = response(struct.pack("<2f", 1, 2), datatype="FP32", shape=[1, 2], parameters={"binary_data_size": 8})
    assert decode_outputs(body, length, batched=True)["y"].tolist() == [1.0, 2.0]


def test_strings_in_arrays_are_sent_as_bytes() -> None:
    _, from_text = encode_inputs({"x": np.array(["a", "bc"])}, batched=False)
    _, from_objects = encode_inputs({"x": np.array([b"a", "bc"], dtype=object)}, batched=False)
    assert from_text == from_objects == struct.pack("<I1sI2s", 1, b"a", 2, b"bc")


def test_what_is_no_tensor_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="input 'boxes' is a dict, which is no tensor"):
        encode_inputs({"boxes": {"a": 1}}, batched=False)
    with pytest.raises(TypeError, match="a BYTES tensor holds bytes or strings, but 'x' has a int"):
        encode_inputs({"x": np.array([1, "a"], dtype=object)}, batched=False)


@pytest.mark.parametrize("nested", [[[1, 2], [3, 4]], [1, 2, 3, 4]])
def test_json_outputs_are_read_nested_and_flat(nested: list[object]) -> None:
    body, _ = response(datatype="INT32", shape=[2, 2], data=nested)
    y = decode_outputs(body, None, batched=False)["y"]
    assert y.dtype == np.int32
    assert y.tolist() == [[1, 2], [3, 4]]


def test_text_reads_alike_from_json_and_binary() -> None:
    in_json, _ = response(datatype="BYTES", shape=[2], data=["grün", "b"])
    raw = b"".join(struct.pack("<I", len(t)) + t for t in ("grün".encode(), b"b"))
    binary, length = response(raw, datatype="BYTES", shape=[2], parameters={"binary_data_size": len(raw)})
    expected = ["grün".encode(), b"b"]
    assert decode_outputs(in_json, None, batched=False)["y"].tolist() == expected
    assert decode_outputs(binary, length, batched=False)["y"].tolist() == expected


@pytest.mark.parametrize(
    ("tensor", "raw", "message"),
    [
        ({"datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}, b"1234", "claims 8 bytes where 4"),
        ({"datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 4}}, b"1234", "'y' cannot be read"),
        ({"datatype": "FP31", "shape": [1], "data": [1]}, b"", "'y' cannot be read"),
        ({"datatype": "FP32", "shape": [1], "data": "x"}, b"", "'y' cannot be read"),
        ({"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4}}, b"\xff\0\0\0", "runs past"),
    ],
)
def test_a_malformed_output_is_a_wire_error(tensor: dict[str, object], raw: bytes, message: str) -> None:
    body, length = response(raw, **tensor)
    with pytest.raises(WireError, match=message):
        decode_outputs(body, length, batched=False)


def test_a_body_that_is_no_response_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="not one of the Open Inference Protocol"):
        decode_outputs(b"<html>", None, batched=False)


def test_in_json_the_same_is_said_without_binary() -> None:
    data: Data = {"x": np.arange(4, dtype=np.float32).reshape(2, 2), "t": "de", "flag": True}
    assert json.loads(encode_inputs_as_json(data, batched=True)) == {
        "inputs": [
            {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [0.0, 1.0, 2.0, 3.0]},
            {"name": "t", "shape": [1, 1], "datatype": "BYTES", "data": ["de"]},
            {"name": "flag", "shape": [1, 1], "datatype": "BOOL", "data": [True]},
        ]
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xd8", "input 'x' holds bytes that are no text"),
        (np.zeros(2, np.float16), "input 'x' holds 16-bit floats, NaN or infinity"),
        (np.array([np.nan], np.float32), "input 'x' holds 16-bit floats, NaN or infinity"),
    ],
)
def test_what_json_cannot_say_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encode_inputs_as_json({"x": value}, batched=False)
