from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triscale.errors import InvalidRequest
from triscale.serve.inference_json import RestRequest, decode, encode
from triscale.serve.inference_protocol import InferResponse, OutputTensor, Parameters
from triscale.wire.payload import datatype_of, dtype_of, join_bytes

DATATYPES = ["BOOL", "UINT8", "INT16", "INT64", "UINT64", "FP16", "FP32", "FP64"]


def tensors(datatype: str) -> st.SearchStrategy[Any]:
    dtype = dtype_of(datatype)
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return hnp.arrays(
        dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=hnp.from_dtype(dtype, **finite)
    )


def one_input(**fields: object) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", **fields}]}).encode()


def response(*outputs: OutputTensor, id: str = "") -> InferResponse:
    parameters = Parameters(triscale_outcome="answered", triscale_accuracy=1.0, triscale_slack_ms=5.0)
    return InferResponse(model_name="m", outputs=outputs, parameters=parameters, id=id)


def output(array: Any, name: str = "y") -> OutputTensor:
    return OutputTensor(name, datatype_of(array.dtype), array.shape, [array.tobytes()])


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@given(data=st.data())
def test_every_form_of_a_tensor_decodes_to_the_bytes_numpy_has(datatype: str, form: str, data: st.DataObject) -> None:
    array = data.draw(tensors(datatype))
    tensor: dict[str, Any] = {"name": "x", "shape": array.shape, "datatype": datatype}
    raw = b""
    if form == "binary":
        raw = array.tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = array.ravel().tolist() if form == "flat" else array.tolist()
    document = json.dumps({"inputs": [tensor]}).encode()
    (found,) = decode(document + raw, len(document) if form == "binary" else None).inputs
    assert (found.name, found.datatype, found.shape) == ("x", datatype, array.shape)
    assert bytes(found.raw) == array.tobytes()


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [False, True])
@given(data=st.data())
def test_every_form_of_an_output_reads_back_in_numpy(datatype: str, binary: bool, data: st.DataObject) -> None:
    array = data.draw(tensors(datatype))
    body, raw = encode(response(output(array)), RestRequest(inputs=[], binary=binary))
    (found,) = json.loads(body)["outputs"]
    assert (found["name"], found["datatype"], tuple(found["shape"])) == ("y", datatype, array.shape)
    if binary:
        assert found["parameters"] == {"binary_data_size": array.nbytes}
        back = np.frombuffer(b"".join(raw), array.dtype)
    else:
        assert raw == []
        back = np.array(found["data"], array.dtype)
    assert np.array_equal(back.reshape(array.shape), array)


def test_binary_tensors_are_views_of_the_body() -> None:
    document = one_input(parameters={"binary_data_size": 8})
    body = bytearray(document + bytes(8))
    (tensor,) = decode(body, len(document)).inputs
    body[-1] = 7
    assert tensor.raw[-1] == 7


def test_binary_and_json_inputs_mix_in_order() -> None:
    document = json.dumps(
        {
            "inputs": [
                {"name": "a", "shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 1}},
                {"name": "b", "shape": [2], "datatype": "UINT8", "data": [5, 6]},
                {"name": "c", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
            ]
        }
    ).encode()
    found = decode(document + b"\x01\x02\x03", len(document))
    assert [(tensor.name, bytes(tensor.raw)) for tensor in found.inputs] == [
        ("a", b"\x01"),
        ("b", b"\x05\x06"),
        ("c", b"\x02\x03"),
    ]


@pytest.mark.parametrize(
    ("extra", "timeout_us", "binary", "binary_outputs", "outputs", "id"),
    [
        ({}, 0, False, {}, (), ""),
        ({"id": "", "parameters": None, "outputs": None}, 0, False, {}, (), ""),
        ({"id": "42", "parameters": {"timeout": 5, "priority": 1, "other": "x"}}, 5, False, {}, (), "42"),
        ({"parameters": {"binary_data_output": True}}, 0, True, {}, (), ""),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
            },
            0,
            True,
            {"a": False},
            ("a", "b"),
            "",
        ),
    ],
)
def test_what_a_request_asks(
    extra: dict[str, object],
    timeout_us: int,
    binary: bool,
    binary_outputs: dict[str, bool],
    outputs: tuple[str, ...],
    id: str,
) -> None:
    found = decode(json.dumps({"inputs": [], **extra}).encode())
    assert (found.timeout_us, found.binary, found.binary_outputs) == (timeout_us, binary, binary_outputs)
    assert (found.outputs, found.id) == (outputs, id)


def test_an_output_s_own_form_wins_over_the_request_s() -> None:
    request = RestRequest(inputs=[], binary=True, binary_outputs={"a": False})
    one = np.ones(1, np.float32)
    body, raw = encode(response(output(one, "a"), output(one, "b")), request)
    a, b = json.loads(body)["outputs"]
    assert (a["data"], b["parameters"]["binary_data_size"]) == ([1.0], 4)
    assert raw == [one.tobytes()]


def test_the_response_says_how_it_came_about() -> None:
    found = response(id="42")
    found.parameters.triscale_variants = "s=big"
    found.parameters.triscale_partial = 3
    body, _ = encode(found, RestRequest(inputs=[]))
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "42",
        "outputs": [],
        "parameters": {
            "triscale_outcome": "answered",
            "triscale_accuracy": 1.0,
            "triscale_slack_ms": 5.0,
            "triscale_variants": "s=big",
            "triscale_partial": 3,
        },
    }


def test_an_id_that_was_not_given_is_not_made_up() -> None:
    assert "id" not in json.loads(encode(response(), RestRequest(inputs=[]))[0])


def test_an_output_in_several_buffers_is_one_tensor() -> None:
    tensor = OutputTensor("y", "UINT8", (2, 2), [b"\x01\x02", memoryview(b"\x03\x04")])
    assert json.loads(encode(response(tensor), RestRequest(inputs=[]))[0])["outputs"][0]["data"] == [1, 2, 3, 4]
    assert encode(response(tensor), RestRequest(inputs=[], binary=True))[1] == [b"\x01\x02", b"\x03\x04"]


def test_nan_becomes_null_as_json_has_no_other_word() -> None:
    body, _ = encode(response(output(np.array([math.nan, 1.0]))), RestRequest(inputs=[]))
    assert json.loads(body)["outputs"][0]["data"] == [None, 1.0]


def test_bytes_that_json_cannot_hold_must_be_asked_for_in_binary() -> None:
    tensor = OutputTensor("y", "BYTES", (1,), [join_bytes([b"\xff"])])
    with pytest.raises(
        InvalidRequest,
        match="output 'y': element 0 is not UTF-8 text, so JSON cannot hold it; ask for it with parameters",
    ):
        encode(response(tensor), RestRequest(inputs=[]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the request is not valid: Input data was truncated"),
        (b"{", "the request is not valid: Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "Object missing required field `inputs`; see the Open Inference Protocol"),
        (b'{"inputs": 1}', r"Expected `array`, got `int` - at `\$.inputs`"),
        (b'{"inputs": [{"name": "x", "shape": [1], "data": [1]}]}', "missing required field `datatype`"),
        (one_input(datatype="FP99"), r"Invalid value 'FP99' - at `\$.inputs\[0\].datatype`; datatype is one of BOOL, "),
        (one_input(shape=[-1]), r"Expected `int` >= 0 - at `\$.inputs\[0\].shape"),
        (one_input(shape=[2**31]), "Expected `int` <= 2147483647"),
        (one_input(shape=[1] * 33), "Expected `array` of length <= 32"),
        (one_input(shape="2"), "Expected `array`, got `str`"),
        (one_input(data=["1", "2"]), r"got `str` - at `\$.inputs\[0\].data\[0\]`"),
        (one_input(data=[True, 1.0]), "got `bool`"),
        (one_input(data=[None, 1.0]), "got `null`"),
        (one_input(datatype="INT8", data=[1.5, 1]), "got `float`"),
        (one_input(datatype="BYTES", data=[1, 2]), "got `int`"),
        (one_input(data=[1.0]), r"input 'x': data has 1 elements, but shape \[2\] makes 2"),
        (one_input(data=[[1.0], [2.0]]), "input 'x': data is nested deeper than its shape of 1 dimensions"),
        (one_input(shape=[2, 1], data=[[1.0], ["2"]]), "input 'x': element 1 is '2', which FP32 cannot hold"),
        (one_input(datatype="UINT8", data=[1, 256]), "input 'x': element 1 is 256, which UINT8 cannot hold"),
        (one_input(), "input 'x' has no data; send `data`, or raw bytes and `binary_data_size`"),
        (
            one_input(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 8}),
            "input 'x' has no data; .*shared memory is not supported",
        ),
        (one_input(data=[1, 2], parameters={"binary_data_size": 8}), "input 'x' has both data and binary_data_size"),
        (one_input(parameters={"binary_data_size": 8}), "input 'x' has binary_data_size 8, but 0 bytes are left"),
        (one_input(parameters={"binary_data_size": -1}), "Expected `int` >= 0"),
        (
            b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}',
            "output 'y' asks for classification, which is not supported; ask for the tensor",
        ),
        (
            b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}',
            "output 'y' asks for shared memory, which is not supported",
        ),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"inputs": [], "id": 7}', r"Expected `str \| null`, got `int` - at `\$.id`"),
        (b'{"inputs": [], "parameters": {"timeout": "soon"}}', r"at `\$.parameters.timeout`"),
    ],
)
def test_a_malformed_request_is_told_where_and_what(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        decode(body)


def test_a_json_length_beyond_the_body_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length is 99, but the body has only 2 bytes"):
        decode(b"{}", 99)


def test_raw_bytes_left_over_are_refused() -> None:
    document = one_input(parameters={"binary_data_size": 8})
    with pytest.raises(InvalidRequest, match=r"3 bytes follow the last binary tensor; .* add up to the 11 bytes"):
        decode(document + bytes(11), len(document))


def test_raw_bytes_that_are_missing_are_refused() -> None:
    document = one_input(parameters={"binary_data_size": 8})
    with pytest.raises(InvalidRequest, match="binary_data_size 8, but 5 bytes are left in the body"):
        decode(document + bytes(5), len(document))


@given(st.binary())
def test_no_body_gets_through_by_accident(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body)
