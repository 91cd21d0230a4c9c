from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.serve.conftest import declare, payload, pipeline
from triscale.core.pipeline import TensorSpec
from triscale.errors import InvalidRequest, ModelError
from triscale.serve.gather import OutputSchema
from triscale.serve.inference_protocol import OutputTensor
from triscale.wire.payload import Field, Kind, Payload, dtype_of, split_bytes


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


def read(tensor: OutputTensor) -> Any:
    """The tensor as numpy would have it; fails unless its bytes make its shape."""
    raw = b"".join(tensor.buffers)
    assert tensor.nbytes == len(raw)
    if tensor.datatype == "BYTES":
        elements = np.empty(len(found := split_bytes(raw)), object)
        elements[:] = found
        return elements.reshape(tensor.shape)
    return np.frombuffer(raw, dtype_of(tensor.datatype)).reshape(tensor.shape)


def gather(spec: TensorSpec | None, *row: Payload) -> Any:
    """What the values of output y become."""
    outputs = {} if spec is None else {"y": spec}
    (tensor,) = OutputSchema(pipeline(outputs=outputs)).gather([list(row)])
    assert tensor.name == "y"
    if spec is not None:
        assert tensor.datatype == spec.datatype
    return read(tensor)


@pytest.mark.parametrize(
    ("declared", "emitted", "expected"),
    [
        ((-1, 2), [f32([1, 2])], [[1, 2]]),
        ((-1, 2), [f32([1, 2], [3, 4]), f32([5, 6])], [[1, 2], [3, 4], [5, 6]]),
        ((-1, 2), [f32(1, 2), f32(3, 4)], [[1, 2], [3, 4]]),
        ((-1, 2), [f32([1, 2]), f32(3, 4)], [[1, 2], [3, 4]]),
        ((-1,), [f32(1, 2), f32(), f32(3)], [1, 2, 3]),
        ((-1,), [1, np.array(2, np.float32)], [1, 2]),
        ((), [np.array(2, np.float32)], 2),
        ((-1, 2), [np.zeros((0, 2), np.float32)], np.zeros((0, 2))),
    ],
)
def test_tensors_are_joined_or_stacked_as_declared(
    declared: tuple[int, ...], emitted: list[Any], expected: Any
) -> None:
    found = gather(declare("FP32", *declared), *[payload(y=value) for value in emitted])
    assert found.tolist() == np.array(expected).tolist()
    assert found.shape == np.shape(expected)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_joining_agrees_with_numpy(heights: list[int]) -> None:
    arrays = [np.random.default_rng(height).random((height, 2, 3)) for height in heights]
    found = gather(declare("FP64", -1, 2, 3), *[payload(y=array) for array in arrays])
    assert np.array_equal(found, np.concatenate(arrays))


@pytest.mark.parametrize(
    ("spec", "emitted", "expected"),
    [
        (declare("BYTES", -1), [b"a", "b", {"k": 1}], [b"a", b"b", b'{"k":1}']),
        (declare("BYTES", -1), [np.array([b"a", b"b"], object), "c"], [b"a", b"b", b"c"]),
        (declare("BYTES", 1), ["text"], [b"text"]),
        (declare("BYTES", -1), [1, None, [1, 2]], [b"1", b"null", b"[1,2]"]),
        (declare("FP32", -1), [1, 2.5], [1.0, 2.5]),
        (declare("FP32", -1), [[1, 2], [3]], [1.0, 2.0, 3.0]),
        (declare("INT64", -1), [1, 2], [1, 2]),
        (declare("BOOL", -1), [True, False], [True, False]),
        (declare("UINT8", -1, 2), [[1, 2], [[3, 4], [5, 6]]], [[1, 2], [3, 4], [5, 6]]),
    ],
)
def test_plain_values_become_elements(spec: TensorSpec, emitted: list[Any], expected: list[Any]) -> None:
    assert gather(spec, *[payload(y=value) for value in emitted]).tolist() == expected


@pytest.mark.parametrize(
    ("emitted", "dtype", "expected"),
    [
        ([f32(1, 2)], np.float32, [1, 2]),
        ([f32(1, 2), f32(3)], np.float32, [1, 2, 3]),
        ([np.array(7, np.int32)], np.int32, [7]),
        ([np.array(7, np.int32), np.array(8, np.int32)], np.int32, [7, 8]),
        ([True, False], np.bool_, [True, False]),
        ([1, 2], np.int64, [1, 2]),
        ([1, 2.5], np.float64, [1.0, 2.5]),
        (["a", b"b"], np.object_, [b"a", b"b"]),
        ([1, "a"], np.object_, [b"1", b"a"]),
        ([{"a": 1}], np.object_, [b'{"a":1}']),
        ([True, 1], np.object_, [b"true", b"1"]),
    ],
)
def test_what_is_not_declared_is_inferred(emitted: list[Any], dtype: type, expected: list[Any]) -> None:
    found = gather(None, *[payload(y=value) for value in emitted])
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), expected)


def test_no_values_make_an_empty_tensor() -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1, 4), "b": declare("BYTES", 3)}))
    found = {tensor.name: read(tensor) for tensor in schema.gather([[]])}
    assert (found["a"].shape, found["b"].shape) == ((0, 4), (0,))
    assert OutputSchema(pipeline()).gather([[]]) == []


def test_an_output_that_a_model_left_out_is_empty_and_one_too_many_is_kept() -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1), "b": declare("FP32", -1)}))
    found = {tensor.name: read(tensor).tolist() for tensor in schema.gather([[payload(a=f32(1), extra=f32(2))]])}
    assert found == {"a": [1.0], "b": [], "extra": [2.0]}


@pytest.mark.parametrize("extra", ["", "text", None, f32(), np.float32(1)])
def test_nothing_that_a_model_emits_is_lost(extra: Any) -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1)}))
    assert [tensor.name for tensor in schema.gather([[payload(a=f32(1), extra=extra)]])] == ["a", "extra"]


def test_a_name_that_comes_twice_in_a_payload_is_two_values() -> None:
    fields = [Field("y", Kind.TENSOR, 1, "UINT8", (1,)), Field("y", Kind.TENSOR, 1, "UINT8", (1,))]
    twice = Payload(msgspec.msgpack.encode(fields), [b"\x01\x02"], 2)
    assert gather(declare("UINT8", -1), twice).tolist() == [1, 2]


@pytest.mark.parametrize("repeats", [1, 3])
def test_several_tensors_come_in_the_declared_order_however_often(repeats: int) -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1), "b": declare("UINT8", -1)}))
    for number in range(repeats):
        row = [payload(b=np.array([number], np.uint8), a=f32(number, 2))]
        tensors = schema.gather([row])
        assert [(tensor.name, read(tensor).tolist()) for tensor in tensors] == [("a", [number, 2]), ("b", [number])]


def test_a_single_tensor_is_handed_on_without_a_copy() -> None:
    row = [payload(y=f32(1, 2))]
    (tensor,) = OutputSchema(pipeline(outputs={"y": declare("FP32", -1)})).gather([row])
    assert tensor.buffers[0] is row[0].buffers[0]


def test_only_what_is_wanted_is_sent_in_the_order_asked() -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1), "b": declare("FP32", -1)}))
    rows = [[payload(a=f32(1), b=f32(2))]]
    assert [tensor.name for tensor in schema.gather(rows, ("b", "a"))] == ["b", "a"]
    assert [tensor.name for tensor in schema.gather(rows, ("b",))] == ["b"]


def test_an_unknown_output_is_refused_beforehand_if_outputs_are_declared() -> None:
    schema = OutputSchema(pipeline(outputs={"a": declare("FP32", -1)}))
    schema.check_wanted(("a",))
    with pytest.raises(InvalidRequest, match="output 'z' is not one of model 'm'; its outputs are a"):
        schema.check_wanted(("a", "z"))


def test_and_afterwards_if_not() -> None:
    schema = OutputSchema(pipeline())
    schema.check_wanted(("z",))
    with pytest.raises(InvalidRequest, match="output 'z' is not one of model 'm'; its outputs are a"):
        schema.gather([[payload(a=f32(1))]], ("z",))


@pytest.mark.parametrize(
    ("spec", "emitted", "message"),
    [
        (
            declare("FP32", -1),
            [np.zeros((2, 2), np.float32)],
            r"declared with shape \[-1\], but a model emitted \[2, 2\]",
        ),
        (declare("FP32", -1, 2), [f32([1, 2]), f32([1, 2, 3])], "which cannot be joined; make their dimensions after"),
        (declare("FP32"), [1.0, 2.0], "declared as a single value, but a request made 2; declare the shape"),
        (declare("FP32"), [], "declared as a single value, but a request made 0"),
        (declare("FP32", -1), ["a"], "output 'y' is declared as FP32, but a model emitted a string"),
        (declare("FP32", -1), [b"a"], "output 'y' is declared as FP32, but a model emitted bytes"),
        (declare("FP32", -1), [{"a": 1}], "output 'y', declared as FP32: element 0 is .*, which FP32 cannot hold"),
        (declare("FP32", -1), [True], "element 0 is 'True', which FP32 cannot hold"),
        (declare("BOOL", -1), [[[1]]], "element 0 is '1', which BOOL cannot hold"),
        (declare("UINT8", -1), [300], "element 0 is 300, which UINT8 cannot hold"),
        (declare("BYTES", -1), [f32(1)], "output 'y', declared as BYTES: a model emitted a tensor of FP32"),
        (declare("FP32", -1), [np.array([b"a"], object)], "a model emitted a tensor of BYTES"),
        (declare("INT32", -1), [f32(1.5)], "tensor of FP32 with values that INT32 cannot hold"),
        (declare("UINT8", -1), [np.array([-1])], "tensor of INT64 with values that UINT8 cannot hold"),
        (declare("INT32", -1), [f32(np.nan)], "values that INT32 cannot hold"),
        (declare("INT64", -1), [[[1], 2]], "nested unevenly"),
    ],
)
def test_a_broken_promise_of_a_model_is_told(spec: TensorSpec, emitted: list[Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        gather(spec, *[payload(y=value) for value in emitted])


@pytest.mark.parametrize(
    ("datatype", "given_", "expected"),
    [
        ("FP32", np.array([1.5, np.nan]), [1.5, np.nan]),
        ("FP32", np.array([1, 2]), [1.0, 2.0]),
        ("INT32", np.array([1, -2]), [1, -2]),
        ("UINT8", np.array([200]), [200]),
        ("INT64", np.array([True]), [1]),
        ("FP64", f32(0.5), [0.5]),
        ("INT8", f32(3.0), [3]),
    ],
)
def test_another_datatype_is_converted_where_nothing_is_lost(datatype: str, given_: Any, expected: list[Any]) -> None:
    assert np.array_equal(gather(declare(datatype, -1), payload(y=given_)), expected, equal_nan=datatype == "FP32")


class TestBatches:
    def outputs(self, *rows: list[Payload], **outputs: TensorSpec) -> dict[str, Any]:
        schema = OutputSchema(pipeline(outputs=outputs, max_batch_size=8))
        return {tensor.name: read(tensor) for tensor in schema.gather(rows)}

    def test_rows_become_rows(self) -> None:
        found = self.outputs([payload(y=f32(1, 2))], [payload(y=f32(3, 4))], y=declare("FP32", 2))
        assert found["y"].tolist() == [[1, 2], [3, 4]]

    def test_a_single_row_keeps_the_batch_dimension(self) -> None:
        assert self.outputs([payload(y=f32(1, 2))], y=declare("FP32", 2))["y"].tolist() == [[1, 2]]
        assert self.outputs([payload(y=1.5)], y=declare("FP32", 1))["y"].tolist() == [[1.5]]

    def test_rows_of_several_outputs_and_kinds(self) -> None:
        rows = [[payload(score=np.float32(n) + f32(0), label=f"l{n}")] for n in range(3)]
        found = self.outputs(*rows, score=declare("FP32", 1), label=declare("BYTES", 1))
        assert found["score"].tolist() == [[0], [1], [2]]
        assert found["label"].tolist() == [[b"l0"], [b"l1"], [b"l2"]]

    def test_rows_of_several_tensors_without_looking_at_values(self) -> None:
        rows = [[payload(a=f32(n), b=np.array([n, n], np.uint8))] for n in range(2)]
        found = self.outputs(*rows, a=declare("FP32", 1), b=declare("UINT8", 2))
        assert (found["a"].tolist(), found["b"].tolist()) == ([[0], [1]], [[0, 0], [1, 1]])

    def test_rows_with_several_items_each(self) -> None:
        rows = [[payload(y=f32(1)), payload(y=f32(2))], [payload(y=f32(3, 4))]]
        assert self.outputs(*rows, y=declare("FP32", -1))["y"].tolist() == [[1, 2], [3, 4]]

    def test_rows_of_different_shapes_are_no_batch(self) -> None:
        with pytest.raises(
            ModelError,
            match=r"output 'y' of row 1 has shape \[1\] where row 0 has \[2\], so they make no batch; send such rows",
        ):
            self.outputs([payload(y=f32(1, 2))], [payload(y=f32(3))], y=declare("FP32", -1))

    def test_rows_with_different_outputs_are_no_batch(self) -> None:
        with pytest.raises(ModelError, match="row 1 made 2 outputs where row 0 made 1; declare `outputs`"):
            self.outputs([payload(a=f32(1))], [payload(a=f32(3), b=f32(1))])

    def test_rows_without_values_are_empty(self) -> None:
        assert self.outputs([], [], y=declare("FP32", -1, 3))["y"].shape == (2, 0, 3)


def test_no_end_of_heads_is_remembered() -> None:
    schema = OutputSchema(pipeline(outputs={"y": declare("BYTES", -1)}))
    for size in range(1000):
        schema.gather([[payload(y="x" * size)]])
    assert len(schema._ready_made) <= 256
