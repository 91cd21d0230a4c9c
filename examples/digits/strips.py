"""Labelled strips: one to twelve handwritten digits in a row, made from a data set and a seed.

    python -m examples.digits.strips --seed 1 --json

prints a request for the server; without `--json`, a drawing and the digits. No network was trained on these digits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from examples.digits.images import Grey, scale, slant
from triscale import Sample

__all__ = ["HEIGHT", "TRAINED_ON", "dataset", "make_strip", "samples", "score"]

HEIGHT = 24
"""Of a strip, in pixels."""
MAX_DIGITS = 12
TRAINED_ON = 1347
"""The first so many digits of the data set are for training, the rest (a quarter) for strips."""


@cache
def dataset() -> tuple[Grey, npt.NDArray[np.uint8]]:
    """1797 digits [1797, 8, 8] with values from 0 to 16, and which they are; see README.md for the source."""
    with np.load(Path(__file__).with_name("data.npz"), allow_pickle=False) as arrays:
        return arrays["digits"], arrays["labels"]


def samples(count: int, seed: int) -> Iterator[Sample]:
    """`count` requests: the input `strip`, and as truth the digits from left to right."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        strip, digits = make_strip(rng, int(rng.integers(1, MAX_DIGITS + 1)))
        yield Sample({"strip": strip}, truth=digits)


def score(truth: object, outputs: Mapping[str, object]) -> float:
    """The share of a strip's digits that were read right, in their places; 0 when the count is wrong.

    An empty strip scores 1 when nothing was read.
    """
    expected = cast("Sequence[int]", truth)
    read: list[int] = np.asarray(outputs["digit"]).ravel().tolist()
    if len(read) != len(expected):
        return 0.0
    right = sum(one == other for one, other in zip(read, expected, strict=True))
    return right / len(expected) if expected else 1.0


def make_strip(rng: np.random.Generator, count: int, *, train: bool = False) -> tuple[Grey, list[int]]:
    """A strip [HEIGHT, width] of `count` digits (0: blank), and which they are."""
    digits, labels = dataset()
    chosen = rng.integers(0, TRAINED_ON, count) if train else rng.integers(TRAINED_ON, len(digits), count)
    written = [_write(rng, digits[index]) for index in chosen]
    gaps = rng.integers(2, 8, count + 1)
    strip = np.zeros((HEIGHT, int(gaps.sum()) + sum(digit.shape[1] for digit in written)), np.uint8)
    left = 0
    for gap, digit in zip(gaps.tolist(), written, strict=False):
        height, width = digit.shape
        left += gap
        top = int(rng.integers(0, HEIGHT - height + 1))
        strip[top : top + height, left : left + width] = digit
        left += width
    noise = rng.normal(0.0, rng.uniform(0.0, 8.0), strip.shape)
    return np.clip(strip + noise, 0, 255).astype(np.uint8), labels[chosen].tolist()


def _write(rng: np.random.Generator, digit: Grey) -> Grey:
    """A digit of the data set as somebody might write it: larger or smaller, slanted, fainter or bolder."""
    ink = np.round(digit * rng.uniform(9.0, 15.9)).astype(np.uint8)
    height, width = (int(extent) for extent in rng.integers(14, 21, 2))
    return slant(scale(ink, height, width), rng.uniform(-0.25, 0.25))


def request(strip: Grey) -> str:
    """The body of a request to the server (Open Inference Protocol)."""
    tensor = {"name": "strip", "datatype": "UINT8", "shape": list(strip.shape), "data": strip.ravel().tolist()}
    return json.dumps({"inputs": [tensor]})


def drawing(strip: Grey) -> str:
    """The strip as lines of characters."""
    return "\n".join("".join(" .:oO@"[value * 6 // 256] for value in row) for row in strip.tolist())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a request, or what the strip looks like and says."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.strips", description="Make a labelled strip.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print a request body instead of a drawing")
    options = parser.parse_args(arguments)
    (sample,) = samples(1, options.seed)
    strip = cast("Grey", sample.inputs["strip"])
    if options.json:
        print(request(strip))
    else:
        print(drawing(strip))
        print(*cast("list[int]", sample.truth))


if __name__ == "__main__":
    main()
