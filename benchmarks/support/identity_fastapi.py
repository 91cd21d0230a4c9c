"""The yardstick: the same identity model behind FastAPI, as its documentation would have one write it.

Typed with pydantic on the way in and out; the binary form splits the body by hand, since FastAPI has no word for it.

    python -m benchmarks.support.identity_fastapi PORT
"""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


class Tensor(BaseModel):
    """One tensor in JSON, or the head of one that follows in binary."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int | str | bool] | None = None
    data: list[float] | None = None


class InferRequest(BaseModel):
    """The body of an infer request."""

    id: str | None = None
    parameters: dict[str, int | str | bool] | None = None
    inputs: list[Tensor]


class InferResponse(BaseModel):
    """The body of an infer response."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


app = FastAPI()


@app.get("/v2/health/ready")  # type: ignore[untyped-decorator]
async def ready() -> dict[str, bool]:
    """Always."""
    return {"ready": True}


@app.get("/v2/models/identity")  # type: ignore[untyped-decorator]
async def metadata() -> dict[str, object]:
    """What the load generator asks before it starts."""
    return {"name": "identity", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]}


@app.post("/v2/models/identity/infer", response_model_exclude_none=True)  # type: ignore[untyped-decorator]
async def infer(request: InferRequest) -> InferResponse:
    """Identity, in JSON."""
    tensor = request.inputs[0]
    array = np.asarray(tensor.data, np.float32).reshape(tensor.shape)
    output = Tensor(name="x", shape=list(array.shape), datatype="FP32", data=array.ravel().tolist())
    return InferResponse(model_name="identity", model_version="1", id=request.id, outputs=[output])


@app.post("/v2/models/identity/infer_binary")  # type: ignore[untyped-decorator]
async def infer_binary(request: Request) -> Response:
    """Identity, in JSON followed by the raw tensor."""
    body = await request.body()
    length = int(request.headers["inference-header-content-length"])
    head = InferRequest.model_validate_json(body[:length])
    tensor = head.inputs[0]
    raw = np.frombuffer(body[length:], np.float32).reshape(tensor.shape).tobytes()
    output = Tensor(name="x", shape=tensor.shape, datatype="FP32", parameters={"binary_data_size": len(raw)})
    found = InferResponse(model_name="identity", model_version="1", id=head.id, outputs=[output])
    document = found.model_dump_json(exclude_none=True).encode()
    headers = {"Inference-Header-Content-Length": str(len(document))}
    return Response(document + raw, media_type="application/octet-stream", headers=headers)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
