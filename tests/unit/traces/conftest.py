"""A tiny server of the Open Inference Protocol, driven by a script of behaviours, and sample sources for it."""

from __future__ import annotations

import asyncio
import ssl
import struct
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import httptools
import msgspec
import pytest

ANSWERED = {"triscale-outcome": "answered"}


class Behaviour(msgspec.Struct, frozen=True):
    """How the stub treats one infer request."""

    status: int = 200
    headers: dict[str, str] = {}
    text: str = "hello"
    hang: bool = False
    """Never answers."""
    close: bool = False
    """Closes the connection instead of answering."""
    garbage: bool = False
    """Answers something that is not HTTP."""
    keep_alive: bool = True
    as_json: bool = False
    """Outputs in JSON rather than binary."""
    chunked: bool = False
    until_close: bool = False
    """HTTP/1.0, whose body ends where the connection does."""


BINARY = b'{"name":"stub","version":"1","extensions":["binary_tensor_data"]}'
METADATA = b'{"name":"echo","inputs":[{"name":"text","datatype":"BYTES","shape":[1]}],"outputs":[]}'
DOCUMENTS = {"/v2": BINARY, "/v2/models/echo": METADATA}


class StubServer:
    """`behave(n)` says how the n-th infer request is treated. `seen` counts what was received and answered."""

    def __init__(
        self, behave: Callable[[int], Behaviour], documents: Mapping[str, bytes], tls: ssl.SSLContext | None
    ) -> None:
        self.behave = behave
        self.documents = documents
        self.tls = tls
        self.seen: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[_Connection] = set()
        self.most_connections = 0
        self.received = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self.tls)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: StubServer) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)
        self.server.most_connections = max(self.server.most_connections, len(self.server.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        url, body, headers = self.url.decode(), self.body, self.headers
        self.url = self.body = b""
        self.headers = {}
        if not url.endswith("/infer"):
            document = self.server.documents.get(url)
            self._write(404 if document is None else 200, {}, document or b'{"error":"no such model"}', None)
            return
        behaviour = self.server.behave(self.server.seen["infer"])
        self.server.seen["infer"] += 1
        self.server.bodies.append(body)
        self.server.paths.append(url)
        self.server.headers.append(headers)
        self.server.received.set()
        self._answer(behaviour)

    def _answer(self, behaviour: Behaviour) -> None:
        if behaviour.hang:
            return
        if behaviour.close:
            self.transport.abort()
            return
        if behaviour.garbage:
            self.transport.write(b"this is not HTTP\r\n\r\n")
            return
        outcome = behaviour.headers.get("triscale-outcome", "none")
        self.server.seen[outcome] += 1
        headers = dict(behaviour.headers)
        if not behaviour.keep_alive:
            headers["Connection"] = "close"
        if behaviour.status != 200:
            self._write(behaviour.status, headers, b'{"error":"no"}', None)
            return
        head, raw = outputs_of(behaviour)
        if behaviour.until_close:
            self.transport.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + head)
            self.transport.close()
            return
        if behaviour.chunked:
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (head[:5], head[5:]))
            self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
            return
        self._write(200, headers, head + raw, len(head) if raw else None)

    def _write(self, status: int, headers: dict[str, str], body: bytes, head_length: int | None) -> None:
        lines = [f"HTTP/1.1 {status} Stub", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if head_length is not None:
            lines.append(f"Inference-Header-Content-Length: {head_length}")
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def outputs_of(behaviour: Behaviour) -> tuple[bytes, bytes]:
    tensor: dict[str, object] = {"name": "text", "datatype": "BYTES", "shape": [1]}
    if behaviour.as_json:
        return msgspec.json.encode({"model_name": "echo", "outputs": [tensor | {"data": [behaviour.text]}]}), b""
    raw = struct.pack("<I", len(behaviour.text.encode())) + behaviour.text.encode()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    return msgspec.json.encode({"model_name": "echo", "outputs": [tensor]}), raw


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[StubServer]]:
    """`async with serving(behave, documents, tls) as server`: a stub server on the test's event loop."""
    return _serving


@asynccontextmanager
async def _serving(
    behave: Callable[[int], Behaviour],
    documents: Mapping[str, bytes] = DOCUMENTS,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[StubServer]:
    server = StubServer(behave, documents, tls)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
def behaviour() -> type[Behaviour]:
    """The class `Behaviour`, for test modules, which cannot import this one."""
    return Behaviour


@pytest.fixture
def sources(tmp_path: Path) -> str:
    """A folder with the module `stub_samples`: sources and score functions, good and bad."""
    (tmp_path / "stub_samples.py").write_text(
        textwrap.dedent(
            """
            from triscale import Sample

            def words(count, seed):
                print("what a source prints must not get between the messages")
                for number in range(count):
                    yield Sample({"text": f"word {number} of {seed}"}, truth="hello")

            def nothing(count, seed):
                return iter(())

            def wrong(count, seed):
                yield {"text": "not a Sample"}

            def unsendable(count, seed):
                yield Sample({"text": {"a": 1}})

            def same(truth, outputs):
                return float(outputs["text"][0].decode() == truth)

            def raising(truth, outputs):
                raise ValueError("cannot compare")

            not_a_function = 3
            """
        )
    )
    return str(tmp_path)
