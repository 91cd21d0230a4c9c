"""A server of the Open Inference Protocol that does nothing: it answers every infer request with the same bytes.

For measuring load generators: it costs about as little as a server on an event loop of Python can.

    python -m benchmarks.support.answering PORT
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from typing import cast

import httptools
import uvloop

_TENSOR = {"name": "output", "datatype": "FP32", "shape": [16], "parameters": {"binary_data_size": 64}}
_HEAD = json.dumps({"model_name": "identity", "outputs": [_TENSOR]}).encode()
_DOCUMENTS = {
    b"/v2": {"name": "answering", "version": "1", "extensions": ["binary_tensor_data"]},
    b"/v2/health/ready": {"ready": True},
    b"/v2/models/identity": {
        "name": "identity",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1]}],
    },
}


def _response(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


_INFER = _response(
    b"200 OK", _HEAD + struct.pack("<16f", *range(16)), b"inference-header-content-length: %d\r\n" % len(_HEAD)
)
_OTHERS = {path: _response(b"200 OK", json.dumps(document).encode()) for path, document in _DOCUMENTS.items()}
_NOTHING = _response(b"404 Not Found", b'{"error": "there is nothing here"}')


class _Connection(asyncio.Protocol):
    """One connection; httptools calls the `on_...` methods while it parses."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_message_complete(self) -> None:
        infer = self._path.endswith(b"/infer")
        self._transport.write(_INFER if infer else _OTHERS.get(self._path, _NOTHING))


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
