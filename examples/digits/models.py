"""The two stages of the digits pipeline as triscale models: `Segmenter` -> pictures of digits -> `Classifier`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import msgspec
import numpy as np
import numpy.typing as npt

from examples.digits import networks
from examples.digits.images import Grey, fit, runs
from examples.options import parse
from triscale import Item, Model, Rejected, Resources, Result

__all__ = ["Classifier", "Segmenter", "segments"]

INK = 48
"""A pixel this bright belongs to a digit; noise stays below."""
MAX_EXTENT = 4096
"""Rows or columns of a strip."""


def segments(strip: Grey) -> list[Grey]:
    """The digits [SIDE, SIDE] of a strip, from left to right: what stands between columns without ink."""
    ink = strip >= INK
    found = []
    for left, right in runs(np.any(ink, axis=0)):
        rows = np.flatnonzero(ink[:, left:right].any(axis=1))
        found.append(fit(strip[rows[0] : rows[-1] + 1, left:right]))
    return found


class Segmenter(Model):
    """`strip` (UINT8, [height, width]) -> for `classify`: a `picture` of each digit, from left to right."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Cut each strip into digits."""
        return [self._strip(item) for item in batch]

    def _strip(self, item: Item) -> Result | Rejected:
        strip = item["strip"]
        if not isinstance(strip, np.ndarray) or strip.ndim != 2 or strip.dtype != np.uint8:
            return Rejected("`strip` must be a UINT8 tensor [height, width]")
        if not 0 < strip.shape[1] <= MAX_EXTENT or not 0 < strip.shape[0] <= MAX_EXTENT:
            return Rejected(f"`strip` is {strip.shape[0]}x{strip.shape[1]}; both must be between 1 and {MAX_EXTENT}")
        return Result(items={"classify": [{"picture": digit} for digit in segments(cast("Grey", strip))]})


class ClassifierOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`weights`, and `burn`: how often the work is done (for experiments that need a model that costs more)."""

    weights: str = "mlp-64"
    burn: Annotated[int, msgspec.Meta(ge=1)] = 1


class Classifier(Model):
    """A `picture` -> for the client: the `digit` and the `score` (its probability)."""

    _options: ClassifierOptions
    _network: networks.Network

    def load(self, options: Mapping[str, object], resources: Resources) -> None:  # noqa: ARG002 - numpy takes no threads
        """Read the weights."""
        self._options = parse(ClassifierOptions, options)
        self._network = networks.load(self._options.weights)

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Classify all digits at once."""
        digits, scores = self.classify(np.stack([cast("Grey", item["picture"]) for item in batch]))
        return [
            Result(outputs={"digit": digits[row : row + 1], "score": scores[row : row + 1]})
            for row in range(len(batch))
        ]

    def classify(self, pictures: Grey) -> tuple[npt.NDArray[np.int64], networks.Floats]:
        """The digits [n] in the pictures [n, SIDE, SIDE], and their probabilities [n]."""
        rows = networks.as_input(pictures)
        for _ in range(self._options.burn):
            logits = networks.logits(self._network, rows)
        return logits.argmax(axis=1), networks.softmax(logits).max(axis=1)
