from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triscale.serve.elements import check_types, flatten, pack_elements, unpack_elements
from triscale.wire.payload import dtype_of, join_bytes

NUMERIC = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
]
SIZES = [0, 1, 3, 256, 257, 1000]


def arrays(datatype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    dtype = dtype_of(datatype)
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **finite))


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
def test_packing_and_unpacking_agree_with_numpy(datatype: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(SIZES))
    array = data.draw(arrays(datatype, (size,)))
    values = array.tolist()
    check_types(datatype, values)
    raw = pack_elements(datatype, values)
    assert raw == array.tobytes()
    assert unpack_elements(datatype, raw, size) == values
    assert unpack_elements(datatype, memoryview(bytearray(raw)), size) == values


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_strings_are_elements_of_a_bytes_tensor(values: list[str]) -> None:
    check_types("BYTES", values)
    raw = pack_elements("BYTES", values)
    assert raw == join_bytes([value.encode() for value in values])
    assert unpack_elements("BYTES", raw, len(values)) == values


@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)))
def test_nested_lists_flatten_as_in_numpy(array: Any) -> None:
    if 0 in array.shape[:-1]:  # an empty list says nothing of what would be inside it
        return
    assert flatten(array.tolist(), array.shape) == array.ravel().tolist()


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        ([[1, 2], [3]], (2, 2), "a list at depth 1 of data has 1 elements where the shape says 2"),
        ([[1, 2], 3], (2, 2), "data is nested unevenly at depth 1: some elements are lists and others are not"),
        ([[[1]], [2]], (2, 1), "data is nested deeper than its shape of 2 dimensions"),
        ([[1]], (), "data is nested deeper than its shape of 0 dimensions"),
        ([["ab"], "cd"], (2, 1), "nested unevenly"),
    ],
)
def test_uneven_nesting_is_told(data: list[Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flatten(data, shape)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT64", 2**63), ("UINT64", -1), ("FP16", 1e6), ("FP32", 1e300)],
)
@pytest.mark.parametrize("before", [0, 2, 300])
def test_a_number_out_of_range_is_named(datatype: str, value: float, before: int) -> None:
    with pytest.raises(ValueError, match=f"element {before} is .*, which {datatype} cannot hold"):
        pack_elements(datatype, [1] * before + [value] + [1] * before)


@pytest.mark.parametrize(
    ("datatype", "value", "shown"),
    [
        ("FP32", "1.5", "'1.5'"),
        ("FP32", True, "'True'"),
        ("FP64", None, "'None'"),
        ("INT32", 1.5, "'1.5'"),
        ("INT32", False, "'False'"),
        ("BOOL", 1, "'1'"),
        ("BYTES", 7, "'7'"),
    ],
)
def test_an_element_of_the_wrong_type_is_named(datatype: str, value: object, shown: str) -> None:
    with pytest.raises(ValueError, match=f"element 0 is {shown}, which {datatype} cannot hold"):
        check_types(datatype, [value])


def test_bytes_that_are_not_text_are_named() -> None:
    with pytest.raises(ValueError, match="element 1 is not UTF-8 text"):
        unpack_elements("BYTES", join_bytes([b"ok", b"\xff\xfe"]), 2)
