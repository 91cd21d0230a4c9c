"""What a finished batch hands back: for each of its items, in order, one `Completion` or one `Rejection`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Completion", "ItemResult", "Rejection"]

Completion: TypeAlias = "tuple[object | None, Sequence[Sequence[object]]]"
"""(output for the client or None, per child stage in the graph's order the payloads of the items emitted for it).

There may be fewer sequences than children (nothing was emitted for the others), never more. Payloads are opaque here:
the server's are `wire.Payload`s, the simulator's are None.
"""


class Rejection:
    """The model refused one item as invalid: its request fails as the client's mistake, its batch-mates do not."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message


ItemResult: TypeAlias = "Completion | Rejection"
