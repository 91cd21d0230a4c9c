"""triscale's front door with an identity model inside: HTTP and codec, nothing behind them.

python -m benchmarks.support.identity_triscale PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import uvloop

from triscale.clock import monotonic
from triscale.core.pipeline import Pipeline, Stage, TensorSpec, Variant
from triscale.core.request import Outcome
from triscale.serve.listener import HttpServer
from triscale.serve.routes import InferenceApi
from triscale.serve.service import Call, Reply

_SPEC = TensorSpec(datatype="FP32", shape=(-1, 16))
_PIPELINE = Pipeline(
    name="identity",
    slo_ms=1000.0,
    stages={"copy": Stage(variants=(Variant(name="only", model="nothing:Nothing"),))},
    inputs={"x": _SPEC},
    outputs={"x": _SPEC},
)


class Identity:
    """A service that answers every call at once with its own input."""

    pipelines: Mapping[str, Pipeline] = {"identity": _PIPELINE}

    def ready(self, name: str = "") -> bool:  # noqa: ARG002
        """Always."""
        return True

    def submit(self, name: str, call: Call) -> int:  # noqa: ARG002
        """Answer at once."""
        variants = {"copy": "only"}
        call.on_done(Reply(Outcome.ANSWERED, monotonic(), [call.rows], accuracy=1.0, variants=variants))
        return 0

    def cancel(self, handle: int) -> None:
        """Nothing is ever in progress."""

    def statistics(self, name: str) -> Mapping[str, object]:  # noqa: ARG002
        """Nothing is counted."""
        return {}


async def _serve(port: int) -> None:
    server = HttpServer(InferenceApi(Identity()))
    await server.start("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
