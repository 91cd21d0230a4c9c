"""What a user implements: a model that turns a batch of items into a list of results.

A `Model` lives in a replica process. The same object is called from several lanes (threads) at once, so
`predict` must not keep state between calls unless it locks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Data", "Item", "Model", "Rejected", "Resources", "Result", "Value"]

Value: TypeAlias = (
    "npt.NDArray[np.generic] | bytes | str | int | float | bool | list[object] | dict[str, object] | None"
)
"""One named value: a tensor (numpy), bytes, a string, or anything JSON can hold."""

Data: TypeAlias = Mapping[str, Value]
"""Named values: what flows from the client to the root stage, along every edge, and back."""


@dataclass(slots=True)
class Item:
    """One unit of work at one stage on behalf of a request (a frame, a crop).

    `data` is what the parent stage (or the client) emitted. At a stage with `join: all`, `data` is empty and
    `parts` holds everything that the parents emitted for this request, in order. Tensors are read-only views.
    """

    data: Data
    parts: tuple[Data, ...] = ()

    def __getitem__(self, name: str) -> Value:
        return self.data[name]


@dataclass(slots=True)
class Result:
    """What a model makes of one item: values for the client, and items for each child stage."""

    outputs: Data | None = None
    items: Mapping[str, Sequence[Data]] = field(default_factory=dict)


@dataclass(slots=True)
class Rejected:
    """Returned in place of a Result when the item itself is invalid (not a JPEG, empty text).

    The request fails with `reason` as a client error (400); the rest of the batch is not affected.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What a model may use: `threads` per lane, and how many lanes call `predict` at once."""

    threads: int = 1
    lanes: int = 1


class Model:
    """The base class of every model. Only `predict` must be implemented.

    Life: constructed without arguments, `load` once, `warmup` once, then `predict` for every batch.
    """

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Get ready: read weights, build sessions. `options` come from the variant in the pipeline file."""

    def warmup(self) -> None:
        """Run once on made-up input, so that the first real batch is as fast as the others."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """One result for each item, in order. Called from several lanes at once.

        Raising fails the whole batch: its items are tried once more, one by one, before their requests fail.
        """
        raise NotImplementedError

    def prepare_threads(self, threads: int) -> None:
        """Get ready to use this many intra-op threads per lane, by making a second session, say; batches go on.

        Called before `set_threads`, in a thread of its own, so it may take its time. When the change is called off
        after all, it is called with the number in use: let go of what was made.
        """

    def set_threads(self, threads: int) -> None:
        """Use this many intra-op threads per lane from the next batch on.

        Called in every thread that runs batches, before its first batch and where the number has changed since its
        last one, because some libraries keep the number per thread (`torch.set_num_threads(threads)` is all that a
        torch model needs here). Batches wait for it: do the work in `prepare_threads`, and mind repetitions.
        """

    def close(self) -> None:
        """Release what `load` took. Called once, after the last batch."""
