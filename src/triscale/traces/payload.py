"""What the requests of a run carry, if not samples of a pipeline: recorded bodies, or tensors made up.

Both are values that travel in a job. `recorded.py` reads the first, `synthetic.py` makes the second.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["Payload", "PayloadFiles", "Synthetic", "TensorMetadata"]


class TensorMetadata(Struct, frozen=True, kw_only=True):
    """One input as a server's model metadata tells it; -1 in a shape stands for any extent."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class PayloadFiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="files"):
    """Recorded bodies of infer requests; the requests of a run go round them in order."""

    paths: tuple[str, ...]
    header_length: int | None = None
    """Where the JSON ends in the files with binary tensors; None: found by reading it. 0: the files are raw tensors."""


class Synthetic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="synthetic"):
    """Tensors of the declared types and shapes."""

    inputs: tuple[TensorMetadata, ...]
    values: Literal["random", "zeros"] = "random"
    shapes: dict[str, tuple[int, ...]] = {}
    """Input -> its shape, where the declared one leaves extents open; otherwise they are 1."""


Payload: TypeAlias = PayloadFiles | Synthetic
