"""The front door without sockets: a service that does as told, and a connection on a transport made of lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import pytest

from triscale.core.pipeline import Pipeline, Stage, TensorSpec, Variant
from triscale.core.request import Outcome
from triscale.errors import NotReady
from triscale.serve.exchange import App, Exchange
from triscale.serve.http import Connection
from triscale.serve.limits import Limits
from triscale.serve.routes import InferenceApi
from triscale.serve.server_state import ServerState
from triscale.serve.service import Call, Reply
from triscale.testing.clock import ManualClock
from triscale.wire.payload import Payload, pack, unpack

STAGE = Stage(variants=(Variant(name="only", model="models:Model"),))


def declare(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(datatype=cast("Any", datatype), shape=shape)


def pipeline(
    inputs: Mapping[str, TensorSpec] | None = None,
    outputs: Mapping[str, TensorSpec] | None = None,
    name: str = "m",
    max_batch_size: int = 0,
    slo_ms: float = 1000.0,
) -> Pipeline:
    return Pipeline(
        name=name,
        slo_ms=slo_ms,
        stages={"s": STAGE},
        inputs=dict(inputs or {}),
        outputs=dict(outputs or {}),
        max_batch_size=max_batch_size,
    )


class FakeService:
    """Keeps every call; answers it at once with `reply`, or when told to."""

    def __init__(self, *pipelines: Pipeline) -> None:
        self.pipelines: dict[str, Pipeline] = {found.name: found for found in pipelines}
        self.reply: Callable[[Call], Reply | None] = lambda call: None
        self.calls: list[Call] = []
        self.cancelled: list[int] = []
        self.is_ready = True
        self.totals: dict[str, object] = {}

    def ready(self, name: str = "") -> bool:
        return self.is_ready

    def submit(self, name: str, call: Call) -> int:
        if not self.is_ready:
            raise NotReady("the server is starting; try again soon")
        self.calls.append(call)
        reply = self.reply(call)
        if reply is not None:
            call.on_done(reply)
        return len(self.calls) - 1

    def cancel(self, handle: int) -> None:
        self.cancelled.append(handle)

    def statistics(self, name: str) -> Mapping[str, object]:
        return self.totals

    def inputs(self, call: int = -1, row: int = 0) -> dict[str, Any]:
        """What the model would be given."""
        return cast("dict[str, Any]", unpack(self.calls[call].rows[row]))


def answered(*rows: Sequence[Payload], finished: float = 0.0, **fields: Any) -> Reply:
    return Reply(fields.pop("outcome", Outcome.ANSWERED), finished, rows, **fields)


def echo(call: Call) -> Reply:
    """Each row comes back as it came."""
    return answered(*[[row] for row in call.rows], finished=call.arrived, accuracy=1.0, variants={"s": "only"})


class FakeTransport:
    """What a connection did to its socket."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.unsent = 0
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


@dataclass
class Response:
    """One response as a client reads it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return cast("str", self.json["error"])


class _Reader:
    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.responses: list[Response] = []
        self.complete = 0

    def on_message_begin(self) -> None:
        self.responses.append(Response())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.responses[-1].headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.responses[-1].status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.responses[-1].body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def read_responses(data: bytes) -> list[Response]:
    """All responses in what a server wrote; fails unless each is complete."""
    reader = _Reader()
    if data:
        reader.parser.feed_data(data)
    assert reader.complete == len(reader.responses)
    return reader.responses


class Link:
    """A client's view of one connection."""

    def __init__(self, app: App, limits: Limits | None = None) -> None:
        self.clock = ManualClock(100.0)
        self.state = ServerState(app, limits or Limits(), self.clock.now)
        self.transport = FakeTransport()
        self.connection = Connection(self.state)
        self.connection.connection_made(cast("Any", self.transport))

    def send(self, data: bytes) -> None:
        """Bytes arrive, in reads as large as the connection offers room for."""
        rest = memoryview(data)
        while rest:
            room = self.connection.get_buffer(-1)
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            self.connection.buffer_updated(size)
            rest = rest[size:]

    def hang_up(self) -> None:
        """The client closes its side, and the event loop does what it does then."""
        self.connection.eof_received()
        self.transport.closing = True
        self.connection.connection_lost(None)

    def check_after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.connection.check(self.clock.now())

    @property
    def responses(self) -> list[Response]:
        return read_responses(bytes(self.transport.written))

    @property
    def response(self) -> Response:
        (only,) = self.responses
        return only

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send one request; its response, which must be the one that is written next."""
        before = len(self.transport.written)
        self.send(request_bytes(method, target, body, headers))
        (found,) = read_responses(bytes(self.transport.written[before:]))
        return found

    def infer(self, document: object, headers: Mapping[str, str] | None = None, raw: bytes = b"") -> Response:
        """An infer request to model m; with `raw`, in the binary form."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        extra = {"inference-header-content-length": str(len(body))} if raw else {}
        return self.request("POST", "/v2/models/m/infer", body + raw, {**extra, **(headers or {})})


def request_bytes(
    method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None, version: str = "1.1"
) -> bytes:
    lines = {"host": "test", **({"content-length": str(len(body))} if body else {}), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/{version}\r\n{head}\r\n".encode() + body


class EchoApp:
    """Answers with what it got: the method, target and body. Holds back while `held`."""

    def __init__(self) -> None:
        self.held = False
        self.exchanges: list[Exchange] = []

    def admit(self, exchange: Exchange) -> None:
        pass

    def handle(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if not self.held:
            self.answer(exchange)

    def answer(self, exchange: Exchange) -> None:
        exchange.respond(200, exchange.method + b" " + exchange.target + b" " + bytes(exchange.body), b"text/plain")


@pytest.fixture
def app() -> EchoApp:
    return EchoApp()


@pytest.fixture
def link(app: EchoApp) -> Link:
    return Link(app)


def echoing() -> FakeService:
    """One pipeline `m`, which gives back whatever FP32 [-1, 2] it gets."""
    found = FakeService(pipeline({"x": declare("FP32", -1, 2)}, {"x": declare("FP32", -1, 2)}))
    found.reply = echo
    return found


@pytest.fixture
def service() -> FakeService:
    return echoing()


@pytest.fixture
def door(service: FakeService) -> Link:
    """A connection to the inference API on `service`."""
    return Link(InferenceApi(service))


def payload(**values: Any) -> Payload:
    return pack(values)
