"""Inputs made up from a model's metadata: right in type and shape, and meaningless."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import numpy as np

from triscale.core.model import Data, Value
from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.payload import Synthetic, TensorMetadata
from triscale.wire.payload import dtype_of

__all__ = ["synthetic_samples"]

_TEXT_LENGTH = 16
_MOST_ELEMENTS = 2**26
_SMALL_INTEGERS = 10


def synthetic_samples(payload: Synthetic, count: int, seed: int) -> Iterator[Sample]:
    """`count` samples, one if they are zeros, in which case all would be equal. ConfigError for what cannot be made."""
    shapes = {tensor.name: _shape(tensor, payload) for tensor in payload.inputs}
    if not shapes:
        raise ConfigError("the server declares no inputs for the model, so none can be made up; send a --payload")
    unknown = [name for name in payload.shapes if name not in shapes]
    if unknown:
        raise ConfigError(f"shape: the model has no input {unknown[0]!r}; its inputs are {', '.join(shapes)}")
    rng = np.random.default_rng(seed)
    letters = random.Random(seed)  # noqa: S311 - a seeded experiment, no secret
    for _ in range(count if payload.values == "random" else 1):
        inputs: Data = {
            tensor.name: _values(tensor, shapes[tensor.name], payload.values == "zeros", rng, letters)
            for tensor in payload.inputs
        }
        yield Sample(inputs)


def _shape(tensor: TensorMetadata, payload: Synthetic) -> tuple[int, ...]:
    declared = tensor.shape
    given = payload.shapes.get(tensor.name)
    if given is None:
        shape = tuple(1 if extent < 0 else extent for extent in declared)
    elif len(given) != len(declared) or any(d not in (-1, g) or g < 0 for d, g in zip(declared, given, strict=True)):
        raise ConfigError(
            f"shape: {tensor.name!r} is declared as {list(declared)}, which {list(given)} does not fit; "
            "only extents of -1 can be chosen"
        )
    else:
        shape = given
    if np.prod(shape, dtype=np.float64) > _MOST_ELEMENTS:
        raise ConfigError(f"shape: {tensor.name!r} of {list(shape)} has more than {_MOST_ELEMENTS:,} elements")
    return shape


def _values(
    tensor: TensorMetadata, shape: tuple[int, ...], zeros: bool, rng: np.random.Generator, letters: random.Random
) -> Value:
    """Random floats lie in [0, 1); bytes take their whole range, other integers 0 to 9; text is 16 letters."""
    if tensor.datatype == "BYTES":
        texts = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            texts[index] = b"" if zeros else "".join(letters.choices(string.ascii_lowercase, k=_TEXT_LENGTH)).encode()
        return texts
    try:
        dtype = dtype_of(tensor.datatype)
    except KeyError:
        raise ConfigError(
            f"input {tensor.name!r} is of type {tensor.datatype}, which cannot be made up; send a --payload"
        ) from None
    if zeros:
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    most = {"UINT8": 256, "INT8": 128}.get(tensor.datatype, _SMALL_INTEGERS)
    return rng.integers(0, most, shape).astype(dtype)
