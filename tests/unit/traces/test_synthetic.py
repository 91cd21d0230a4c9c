from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triscale.errors import ConfigError
from triscale.traces.payload import Synthetic, TensorMetadata
from triscale.traces.synthetic import synthetic_samples

IMAGE = TensorMetadata(name="image", datatype="UINT8", shape=(-1, 4, 4, 3))
TOKENS = TensorMetadata(name="tokens", datatype="INT64", shape=(-1, 8))
TEXT = TensorMetadata(name="text", datatype="BYTES", shape=(1,))
FLAG = TensorMetadata(name="flag", datatype="BOOL", shape=(50,))
FLOATS = TensorMetadata(name="floats", datatype="FP16", shape=(50,))
ALL = (IMAGE, TOKENS, TEXT, FLAG, FLOATS)


def made(count: int = 3, seed: int = 0, **fields: Any) -> list[dict[str, Any]]:
    return [dict(sample.inputs) for sample in synthetic_samples(Synthetic(inputs=ALL, **fields), count, seed)]


def test_inputs_have_the_declared_types_and_shapes_open_extents_being_one() -> None:
    first, *others = made()
    assert len(others) == 2
    assert [(value.dtype.str, value.shape) for value in first.values()] == [
        ("|u1", (1, 4, 4, 3)),
        ("<i8", (1, 8)),
        ("|O", (1,)),
        ("|b1", (50,)),
        ("<f2", (50,)),
    ]
    assert len(first["text"][0]) == 16
    assert first["tokens"].max() < 10
    assert first["image"].max() > 127


def test_an_open_extent_can_be_chosen() -> None:
    assert made(shapes={"image": (2, 4, 4, 3)})[0]["image"].shape == (2, 4, 4, 3)


def test_equal_seeds_make_equal_values() -> None:
    one, same, other = made(seed=1), made(seed=1), made(seed=2)
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(one, same, strict=True) for name in a)
    assert not np.array_equal(one[0]["image"], other[0]["image"])


def test_zeros_need_no_more_than_one() -> None:
    (only,) = made(values="zeros")
    assert only["text"].tolist() == [b""]
    assert not any(only[name].any() for name in ("image", "tokens", "flag", "floats"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": ()}, "declares no inputs for the model, so none can be made up; send a --payload"),
        ({"shapes": {"sound": (1,)}}, "the model has no input 'sound'; its inputs are image, tokens"),
        ({"shapes": {"image": (1, 5, 4, 3)}}, r"'image' is declared as \[-1, 4, 4, 3\], which \[1, 5, 4, 3\] does not"),
        ({"shapes": {"tokens": (8,)}}, "only extents of -1 can be chosen"),
        ({"shapes": {"tokens": (10**9, 8)}}, "has more than 67,108,864 elements"),
        (
            {"inputs": (TensorMetadata(name="x", datatype="BF16", shape=(1,)),)},
            "input 'x' is of type BF16, which cannot be made up",
        ),
    ],
)
def test_what_cannot_be_made_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(synthetic_samples(Synthetic(**({"inputs": ALL} | fields)), 1, 0))
