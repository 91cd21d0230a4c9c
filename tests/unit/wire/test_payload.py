"""Payloads: what is packed is unpacked, however its bytes are cut; what is malformed is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from triscale.core.model import Value
from triscale.errors import WireError
from triscale.wire.payload import Field, Kind, Payload, join_bytes, pack, split_bytes, unpack

DTYPES = ["?", "u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", ">i4", ">f8"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
tensors = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
)
datas = st.dictionaries(
    st.text(max_size=8), tensors | st.binary(max_size=50) | st.text(max_size=20) | json_values, max_size=5
)


def same(left: Value, right: Value) -> bool:
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.shape == right.shape
            and left.dtype.newbyteorder("<") == right.dtype
            and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
        )
    return left == right and type(left) is type(right)


@given(datas, st.data())
def test_what_is_packed_is_unpacked_however_its_bytes_are_cut(data: dict[str, Any], draw: st.DataObject) -> None:
    payload = pack(data)
    body = bytes(payload.body())
    assert len(body) == payload.nbytes
    cut = draw.draw(st.integers(0, len(body)))
    found = unpack(Payload(payload.head, [body[:cut], body[cut:]], len(body)))
    assert list(found) == list(data)
    assert all(same(data[name], found[name]) for name in data)


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_tensors_keep_their_elements_and_shape(elements: list[bytes]) -> None:
    assert split_bytes(join_bytes(elements)) == elements
    column = np.empty((len(elements), 1), object)
    column[:, 0] = elements
    found = unpack(pack({"x": column}))["x"]
    assert isinstance(found, np.ndarray)
    assert found.shape == column.shape
    assert found.ravel().tolist() == elements


def test_strings_travel_as_bytes_tensors() -> None:
    found = unpack(pack({"x": np.array(["é", "b"])}))["x"]
    assert isinstance(found, np.ndarray)
    assert found.tolist() == ["é".encode(), b"b"]


def test_contiguous_tensors_are_not_copied_and_arrive_read_only() -> None:
    array = np.arange(10, dtype=np.float32)
    payload = pack({"x": array})
    array[3] = 99
    found = unpack(payload)["x"]
    assert isinstance(found, np.ndarray)
    assert found[3] == 99
    assert not found.flags.writeable


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(1, np.complex64), "tensors of dtype complex64 cannot be sent; use one of BOOL, UINT8"),
        (np.array([object()]), "a BYTES tensor holds bytes or strings, but 'x' has a object"),
        (object(), "value 'x' of type object cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        pack({"x": value})
    assert message in str(caught.value)


def payload_of(field: Field, body: bytes) -> Payload:
    return Payload(msgspec.msgpack.encode([field]), [body], len(body))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (Payload(b"\xc1", [], 0), "a payload's head is not valid"),
        (payload_of(Field("x", Kind.BYTES, 5), b"1234"), "value 'x' claims 5 bytes where 4 are left"),
        (payload_of(Field("x", Kind.BYTES, -1), b"1234"), "value 'x' claims -1 bytes where 4 are left"),
        (payload_of(Field("x", Kind.BYTES, 3), b"1234"), "1 bytes are left over after the last value"),
        (payload_of(Field("x", Kind.TENSOR, 4, "FP32", (2,)), b"1234"), "value 'x' cannot be read"),
        (payload_of(Field("x", Kind.TENSOR, 4, "FP31", (1,)), b"1234"), "value 'x' cannot be read"),
        (payload_of(Field("x", Kind.TENSOR, 4, "BYTES", (1,)), b"\xff\0\0\0"), "runs past the end of its 4 bytes"),
        (payload_of(Field("x", Kind.TEXT, 1), b"\xff"), "value 'x' cannot be read"),
        (payload_of(Field("x", Kind.JSON, 1), b"{"), "value 'x' cannot be read"),
        (payload_of(Field("x", 9, 1), b"x"), "value 'x' is of the unknown kind 9"),
    ],
)
def test_what_is_malformed_is_refused(payload: Payload, message: str) -> None:
    with pytest.raises(WireError) as caught:
        unpack(payload)
    assert message in str(caught.value)
