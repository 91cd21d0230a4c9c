"""The one stage of the identity pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from triscale import Item, Model, Rejected, Result, Sample

__all__ = ["Identity", "samples"]


class Identity(Model):
    """`input` -> `output`, as it is."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Answer each item with itself."""
        return [Result(outputs={"output": item["input"]}) for item in batch]


def samples(count: int, seed: int) -> Iterator[Sample]:
    """`count` requests of 16 numbers each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield Sample({"input": rng.random(16, dtype=np.float32)})
