from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.serve.conftest import declare, pipeline
from triscale.errors import InvalidRequest
from triscale.serve.inference_protocol import InputTensor
from triscale.serve.rows import InputSchema, raw_input
from triscale.wire.payload import Payload, join_bytes, unpack


def tensor(name: str, array: Any) -> InputTensor:
    kinds = {"f": "FP32", "i": "INT64", "u": "UINT8"}
    return InputTensor(name, kinds[array.dtype.kind], array.shape, array.tobytes())


def text(name: str, *elements: bytes, shape: tuple[int, ...] | None = None) -> InputTensor:
    return InputTensor(name, "BYTES", (len(elements),) if shape is None else shape, join_bytes(elements))


def values(payload: Payload) -> dict[str, Any]:
    return unpack(payload)


IMAGE = declare("UINT8", -1, 2, 3)
SCALE = declare("FP32", 1)
PLAIN = pipeline({"image": IMAGE, "scale": SCALE})
BATCHED = pipeline({"image": declare("UINT8", 2), "text": declare("BYTES", 1)}, max_batch_size=4)

image = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
scale = np.array([0.5], np.float32)


def test_a_request_is_one_row() -> None:
    (row,) = InputSchema(PLAIN).rows([tensor("image", image), tensor("scale", scale)])
    found = values(row)
    assert np.array_equal(found["image"], image)
    assert found["scale"] == scale
    assert row.nbytes == 28


def test_the_payload_is_a_view_of_what_was_received() -> None:
    body = bytearray(8)
    (row,) = InputSchema(pipeline()).rows([InputTensor("x", "FP32", (2,), memoryview(body))])
    body[:4] = np.float32(1.0).tobytes()
    assert values(row)["x"].tolist() == [1.0, 0.0]


def test_a_shape_seen_before_is_checked_as_the_first_one_was() -> None:
    schema = InputSchema(pipeline({"x": declare("FP32", -1)}))
    first = schema.rows([InputTensor("x", "FP32", (2,), bytes(8))])
    again = schema.rows([InputTensor("x", "FP32", (2,), np.ones(2, np.float32).tobytes())])
    assert first[0].head == again[0].head
    assert values(again[0])["x"].tolist() == [1.0, 1.0]
    with pytest.raises(InvalidRequest, match=r"input 'x' has 7 bytes, but FP32 of shape \[2\] makes 8"):
        schema.rows([InputTensor("x", "FP32", (2,), bytes(7))])


def test_no_end_of_shapes_is_remembered() -> None:
    schema = InputSchema(pipeline())
    for size in range(1000):
        (row,) = schema.rows([InputTensor("x", "UINT8", (size,), bytes(size))])
        assert row.nbytes == size
    assert len(schema._heads) <= 256


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], r"the request has no inputs; model 'm' takes image \(UINT8 \[-1, 2, 3\]\), scale \(FP32 \[1\]\)"),
        (
            [tensor("image", image), tensor("picture", image)],
            "input 'picture' is not one of model 'm'; its inputs are image .*, scale",
        ),
        ([tensor("image", image)], "input 'scale' of model 'm' is missing; it takes image .*, scale"),
        ([tensor("image", image), tensor("image", image)], "input 'image' is given twice; send each input once"),
        (
            [tensor("image", image.astype(np.int64)), tensor("scale", scale)],
            "input 'image' of model 'm' has datatype INT64, where UINT8 is declared; convert it",
        ),
        (
            [tensor("image", image[0]), tensor("scale", scale)],
            r"input 'image' of model 'm' has shape \[2, 3\], where \[-1, 2, 3\] is declared; reshape it",
        ),
        (
            [tensor("image", image.reshape(4, 3, 2)), tensor("scale", scale)],
            r"has shape \[4, 3, 2\], where \[-1, 2, 3\] is declared; reshape it \(-1 stands for any extent\)",
        ),
        (
            [InputTensor("image", "UINT8", (4, 2, 3), bytes(23)), tensor("scale", scale)],
            r"input 'image' has 23 bytes, but UINT8 of shape \[4, 2, 3\] makes 24",
        ),
    ],
)
def test_what_does_not_fit_the_declaration_is_told(tensors: list[InputTensor], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        InputSchema(PLAIN).rows(tensors)


def test_without_a_declaration_anything_goes_that_is_consistent() -> None:
    schema = InputSchema(pipeline())
    (row,) = schema.rows([tensor("a", image), text("b", b"x", b"y")])
    assert values(row)["a"].shape == (4, 2, 3)
    assert values(row)["b"].tolist() == [b"x", b"y"]
    with pytest.raises(InvalidRequest, match=r"the request has no inputs$"):
        schema.rows([])
    with pytest.raises(InvalidRequest, match="input 'a' is given twice"):
        schema.rows([tensor("a", image), tensor("a", image)])


@pytest.mark.parametrize("shape", [(0, 2**31 - 1, 2**31 - 1, 2**31 - 1), (2**31 - 1, 2**31 - 1, 0, 1)])
def test_an_empty_tensor_of_an_absurd_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="input 'x' has the impossible shape"):
        InputSchema(pipeline()).rows([InputTensor("x", "FP32", shape, b"")])


def test_an_empty_tensor_is_a_tensor() -> None:
    (row,) = InputSchema(pipeline({"x": declare("FP32", -1, 4)})).rows([InputTensor("x", "FP32", (0, 4), b"")])
    assert values(row)["x"].shape == (0, 4)


class TestBytes:
    def test_an_input_of_shape_1_is_plain_bytes(self) -> None:
        (row,) = InputSchema(pipeline({"x": declare("BYTES", 1)})).rows([text("x", b"\xff\xd8 jpeg")])
        assert values(row)["x"] == b"\xff\xd8 jpeg"

    def test_so_is_one_that_is_not_declared(self) -> None:
        (row,) = InputSchema(pipeline()).rows([text("x", b"one")])
        assert values(row)["x"] == b"one"

    @pytest.mark.parametrize("declared", [(-1,), (1, 1)])
    def test_any_other_shape_is_a_tensor(self, declared: tuple[int, ...]) -> None:
        schema = InputSchema(pipeline({"x": declare("BYTES", *declared)}))
        (row,) = schema.rows([text("x", b"one", shape=(1,) * len(declared))])
        assert values(row)["x"].ravel().tolist() == [b"one"]

    @pytest.mark.parametrize(
        ("raw", "shape", "message"),
        [
            (join_bytes([b"a", b"b"]), (1,), r"input 'x' has 2 elements, but shape \[1\] makes 1"),
            (join_bytes([b"a"]), (2,), r"input 'x' has 1 elements, but shape \[2\] makes 2"),
            (b"", (1,), r"input 'x' has 0 elements, but shape \[1\] makes 1"),
            (join_bytes([b"abc"])[:-1], (1,), "input 'x': element 0 runs past the end of the tensor's 6 bytes"),
            (join_bytes([b"a"]) + b"\x01\x00", (2,), "input 'x': element 1 runs past the end"),
        ],
    )
    def test_elements_that_do_not_add_up_are_told(self, raw: bytes, shape: tuple[int, ...], message: str) -> None:
        with pytest.raises(InvalidRequest, match=message):
            InputSchema(pipeline()).rows([InputTensor("x", "BYTES", shape, raw)])

    @given(st.lists(st.binary(max_size=8)))
    def test_elements_arrive_as_sent(self, elements: list[bytes]) -> None:
        (row,) = InputSchema(pipeline({"x": declare("BYTES", -1)})).rows([text("x", *elements)])
        assert values(row)["x"].tolist() == elements

    @given(st.binary(max_size=40), st.integers(0, 5))
    def test_garbage_is_refused_or_adds_up(self, raw: bytes, count: int) -> None:
        try:
            (row,) = InputSchema(pipeline({"x": declare("BYTES", -1)})).rows([InputTensor("x", "BYTES", (count,), raw)])
        except InvalidRequest:
            return
        assert join_bytes(values(row)["x"].tolist()) == raw


class TestBatches:
    def test_each_row_is_a_payload_of_its_own(self) -> None:
        numbers = np.arange(6, dtype=np.uint8).reshape(3, 2)
        rows = InputSchema(BATCHED).rows([tensor("image", numbers), text("text", b"a", b"bc", b"", shape=(3, 1))])
        found = [values(row) for row in rows]
        assert [row["image"].tolist() for row in found] == [[0, 1], [2, 3], [4, 5]]
        assert [row["text"] for row in found] == [b"a", b"bc", b""]

    def test_rows_of_several_elements_are_cut_where_they_end(self) -> None:
        schema = InputSchema(pipeline({"t": declare("BYTES", 2)}, max_batch_size=8))
        rows = schema.rows([text("t", b"a", b"b", b"cc", b"", shape=(2, 2))])
        assert [values(row)["t"].tolist() for row in rows] == [[b"a", b"b"], [b"cc", b""]]

    def test_rows_without_a_declaration_lose_the_first_dimension(self) -> None:
        rows = InputSchema(pipeline(max_batch_size=8)).rows([tensor("x", image)])
        assert [values(row)["x"].tolist() for row in rows] == image.tolist()

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            (
                [tensor("image", np.zeros((5, 2), np.uint8)), text("text", *[b""] * 5, shape=(5, 1))],
                r"has shape \[5, 2\]: its first dimension is the batch, and model 'm' takes 1 to 4 rows; split",
            ),
            (
                [tensor("image", np.zeros((0, 2), np.uint8)), text("text", shape=(0, 1))],
                r"has shape \[0, 2\]: its first dimension is the batch",
            ),
            (
                [tensor("image", np.zeros((3, 2), np.uint8)), text("text", b"", b"", shape=(2, 1))],
                "input 'text' has 2 rows where 'image' has 3; all inputs must have the same",
            ),
            (
                [tensor("image", np.zeros(2, np.uint8)), text("text", b"", shape=(1, 1))],
                r"has shape \[2\], where \[-1, 2\] is declared; reshape it \(.*, here the batch\)",
            ),
        ],
    )
    def test_a_batch_that_does_not_fit_is_told(self, tensors: list[InputTensor], message: str) -> None:
        with pytest.raises(InvalidRequest, match=message):
            InputSchema(BATCHED).rows(tensors)

    def test_a_tensor_without_dimensions_is_no_batch(self) -> None:
        with pytest.raises(InvalidRequest, match=r"input 'x' has shape \[\]: its first dimension is the batch"):
            InputSchema(pipeline(max_batch_size=4)).rows([InputTensor("x", "FP32", (), bytes(4))])


class TestRawBody:
    @pytest.mark.parametrize(
        ("declared", "batch", "size", "shape"),
        [
            (declare("FP32", 2, 3), 0, 24, (2, 3)),
            (declare("FP32", -1, 3), 0, 24, (2, 3)),
            (declare("UINT8", -1), 0, 0, (0,)),
            (declare("FP32", -1, 3), 8, 24, (1, 2, 3)),
        ],
    )
    def test_the_shape_follows_from_the_size(
        self, declared: Any, batch: int, size: int, shape: tuple[int, ...]
    ) -> None:
        found = raw_input(pipeline({"x": declared}, max_batch_size=batch), bytes(size))
        assert (found.name, found.shape, len(found.raw)) == ("x", shape, size)

    @pytest.mark.parametrize("batch", [0, 4])
    def test_a_bytes_input_takes_the_body_as_its_one_element(self, batch: int) -> None:
        served = pipeline({"x": declare("BYTES", 1)}, max_batch_size=batch)
        (row,) = InputSchema(served).rows([raw_input(served, b"\xff\xd8")])
        assert values(row)["x"] == b"\xff\xd8"
        served = pipeline({"x": declare("BYTES", -1)}, max_batch_size=batch)
        (row,) = InputSchema(served).rows([raw_input(served, b"\xff\xd8")])
        assert values(row)["x"].tolist() == [b"\xff\xd8"]

    @pytest.mark.parametrize(
        ("served", "size", "message"),
        [
            (PLAIN, 1, "needs a model with one declared input; 'm' declares 2: send JSON"),
            (pipeline(), 1, "'m' declares 0"),
            (pipeline({"x": declare("FP32", 2)}), 7, r"a raw body of 7 bytes does not make input 'x' of FP32"),
            (pipeline({"x": declare("FP32", -1, -1)}), 8, r"and shape \[-1, -1\]; send JSON followed by"),
            (pipeline({"x": declare("FP32", 0, -1)}), 0, "a raw body of 0 bytes does not make input 'x'"),
            (pipeline({"x": declare("BYTES", 2)}), 8, r"a raw body is one element, but input 'x' has shape \[2\]"),
        ],
    )
    def test_what_is_ambiguous_is_refused(self, served: Any, size: int, message: str) -> None:
        with pytest.raises(InvalidRequest, match=message):
            raw_input(served, bytes(size))

    def test_a_fixed_shape_must_be_met(self) -> None:
        served = pipeline({"x": declare("FP32", 2)})
        with pytest.raises(InvalidRequest, match=r"input 'x' has 16 bytes, but FP32 of shape \[2\] makes 8"):
            InputSchema(served).rows([raw_input(served, bytes(16))])
