"""The Open Inference Protocol, version 2, as types: what a request asks and a response says, however it is written.

Tensors are raw bytes here, little-endian and row-major, as gRPC and REST's binary extension send them; the JSON form
is one codec among others (`serve/inference_json.py`). No I/O, no HTTP, no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from triscale.core.pipeline import DATATYPES
from triscale.wire.payload import Buffer

__all__ = ["VERSION", "InferRequest", "InferResponse", "InputTensor", "OutputTensor", "Parameters"]

VERSION = "1"
"""The one version of every pipeline that is served."""


class InputTensor(Struct):
    """One named tensor of a request. `raw` of a BYTES tensor holds each element behind its length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: Buffer

    @property
    def expected_bytes(self) -> int:
        """How many bytes the shape makes; 0 for BYTES, whose elements differ."""
        return DATATYPES[self.datatype] * math.prod(self.shape)


class InferRequest(Struct, kw_only=True):
    """What a client asks: inputs for one model, and which outputs it wants."""

    inputs: Sequence[InputTensor]
    outputs: tuple[str, ...] = ()
    """Names of the outputs to send; none stands for all."""
    id: str = ""
    timeout_us: int = 0
    """Microseconds that the client gives the request; 0 stands for no limit of its own."""


class OutputTensor(Struct):
    """One named tensor of a response; `buffers` in order are its raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    buffers: Sequence[Buffer]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return sum(map(len, self.buffers))


class Parameters(Struct, omit_defaults=True, kw_only=True):
    """What a response says about how it came about, beside the protocol's own fields."""

    triscale_outcome: str
    triscale_accuracy: float
    """Expected end-to-end accuracy of the variants that answered."""
    triscale_slack_ms: float
    """Time left until the deadline; negative when late."""
    triscale_variants: str = ""
    """`stage=variant` for each stage that answered, separated by `;`."""
    triscale_partial: int = 0
    """Items that were given up while the rest was answered."""


class InferResponse(Struct, kw_only=True):
    """The answer to one request."""

    model_name: str
    outputs: Sequence[OutputTensor]
    parameters: Parameters
    id: str = ""
