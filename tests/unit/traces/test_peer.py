"""What a server is asked before a run, and what is said when it does not answer as hoped."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.endpoint import Trust
from triscale.traces.job import Job
from triscale.traces.payload import TensorMetadata
from triscale.traces.peer import Peer, error_text
from triscale.traces.replay_process import agreed
from triscale.traces.samples import Prepared, encoded
from triscale.traces.spec import parse_trace

CERTIFICATE = Path(__file__).parents[2] / "integration" / "http" / "localhost.pem"
SERVER = b'{"name":"stub","extensions":[]}'
METADATA = b'{"name":"echo","inputs":[{"name":"text","datatype":"BYTES","shape":[1]}]}'


def ask(
    serving: Any,
    question: Callable[[Peer], Coroutine[Any, Any, Any]],
    documents: dict[str, bytes],
    headers: dict[str, str] | None = None,
    trust: Trust | None = None,
    url: str = "{}",
    **options: Any,
) -> Any:
    async def scenario() -> Any:
        async with (
            serving(lambda _: None, documents, **options) as server,
            Peer(url.format(server.url), headers or {}, trust or Trust()) as peer,
        ):
            return await question(peer)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("documents", "models"),
    [
        ({"/v2/models": b'{"models":["b","a"]}'}, ["a", "b"]),
        ({"/v2/repository/index": b'[{"name":"a","version":"1"},{"name":"a","version":"2"}]'}, ["a"]),
        ({"/v2/models": b'{"what":1}', "/v2/repository/index": b"[]"}, []),
        ({"/v2/models": b"<html>"}, None),
        ({}, None),
    ],
)
def test_models_are_listed_by_either_route(documents: dict[str, bytes], models: list[str] | None, serving: Any) -> None:
    assert ask(serving, lambda peer: peer.models(), documents) == models


@pytest.mark.parametrize(
    ("server", "binary"),
    [
        (b'{"extensions":["statistics","binary_tensor_data"]}', True),
        (b'{"extensions":["binary_tensor_data_extension"]}', True),
        (SERVER, False),
        (b'{"name":"kserve"}', None),
        (None, None),
    ],
)
def test_the_binary_extension_is_there_not_there_or_not_said(
    server: bytes | None, binary: bool | None, serving: Any
) -> None:
    documents = {"/v2": server} if server is not None else {}
    assert ask(serving, lambda peer: peer.takes_binary(), documents) is binary


def test_metadata_and_objective_are_read(serving: Any) -> None:
    documents = {
        "/v2/models/a%20b": METADATA,
        "/v2/models/a%20b/config": b'{"parameters":{"slo_ms":{"string_value":"80"}}}',
        "/v2/models/other": b'{"name":"other"}',
        "/v2/models/other/config": b'{"parameters":{}}',
    }
    inputs = ask(serving, lambda peer: peer.inputs("a b"), documents)
    assert inputs == (TensorMetadata(name="text", datatype="BYTES", shape=(1,)),)
    assert ask(serving, lambda peer: peer.objective_ms("a b"), documents) == 80.0
    assert ask(serving, lambda peer: peer.inputs("other"), documents) is None
    assert ask(serving, lambda peer: peer.objective_ms("other"), documents) is None


def test_a_prefix_stands_before_every_route(serving: Any) -> None:
    documents = {"/ns/m/v2/models": b'{"models":["a"]}'}
    assert ask(serving, lambda peer: peer.models(), documents, url="{}/ns/m/") == ["a"]


def test_a_model_that_is_not_served_is_told_with_those_that_are(serving: Any) -> None:
    with pytest.raises(
        ConfigError,
        match=r"does not serve 'ocr' \(HTTP 404: no such model\); it serves: digits, echo; correct --model",
    ):
        ask(serving, lambda peer: peer.inputs("ocr"), {"/v2/models": b'{"models":["echo","digits"]}'})


def nobody() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (nobody(), r"no server answers at http://.* \(Connection refused\); start one with `triscale serve`"),
        ("http://nowhere.invalid", "cannot find 'nowhere.invalid' .*; correct the address"),
    ],
)
def test_a_server_that_is_not_there_is_told(url: str, message: str) -> None:
    async def scenario() -> None:
        async with Peer(url, {}, Trust()) as peer:
            await peer.models()

    with pytest.raises(ConfigError, match=message):
        asyncio.run(scenario())


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def test_tls_is_spoken_to_a_trusted_server(tls: ssl.SSLContext, serving: Any) -> None:
    documents = {"/v2/models": b'{"models":["a"]}'}
    for trust in (Trust(insecure=True), Trust(cacert=str(CERTIFICATE))):
        assert ask(serving, lambda peer: peer.models(), documents, trust=trust, tls=tls) == ["a"]


def test_an_untrusted_certificate_is_told_with_what_to_do(tls: ssl.SSLContext, serving: Any) -> None:
    with pytest.raises(ConfigError, match=r"its certificate is not trusted: .*; give its authority with --cacert, or"):
        ask(serving, lambda peer: peer.models(), {}, tls=tls)


def test_plain_http_to_a_tls_port_and_the_reverse_are_told(tls: ssl.SSLContext, serving: Any) -> None:
    async def scenario(scheme: str, context: ssl.SSLContext | None) -> None:
        async with serving(lambda _: None, {}, tls=context) as server:
            url = f"{scheme}://{server.url.partition('://')[2]}"
            async with Peer(url, {}, Trust()) as peer:
                await peer.models()

    with pytest.raises(ConfigError, match=r"does not answer in HTTP .* or write https:// if it speaks TLS"):
        asyncio.run(scenario("http", tls))
    with pytest.raises(ConfigError, match="if it speaks no TLS, write http://"):
        asyncio.run(scenario("https", None))


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "empty.pem", tmp_path / "nowhere.pem"):
        with pytest.raises(ConfigError, match=r"cacert: .* cannot be used .*; give a file of certificates in PEM"):
            Peer("https://h:1", {}, Trust(cacert=str(path)))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"bad\\n shape"}', "bad shape"),
        (b'{"detail":"not found"}', "not found"),
        (b"<h1>502</h1>", "<h1>502</h1>"),
        (b"<!DOCTYPE HTML>\n<html><head>...", "a web page"),
        (b"<html lang=en>", "a web page"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
        (b"x" * 300, "x" * 200 + " ..."),
    ],
)
def test_the_error_of_a_response_is_found(body: bytes, text: str) -> None:
    assert error_text(body) == text


@pytest.mark.parametrize(
    ("server", "status", "trials", "binary"),
    [
        (b'{"extensions":["binary_tensor_data"]}', 200, 0, True),
        (SERVER, 200, 0, False),
        (b"{}", 200, 1, True),
        (b"{}", 400, 1, False),
        (b"{}", 415, 1, False),
        (b"{}", 429, 1, True),
    ],
)
def test_the_encoding_is_agreed_with_the_server_and_tried_where_it_does_not_say(
    server: bytes, status: int, trials: int, binary: bool, serving: Any, behaviour: Any
) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(status), {"/v2": server, "/v2/models/echo": METADATA}) as stub:
            job = Job(
                url=stub.url, model="echo", slo_ms=100.0, trace=parse_trace("even:rate=1,seconds=1"), source="m:f"
            )
            prepared = encoded(job, Prepared((Sample({"text": "a"}),), ()), "binary")
            made = await agreed(job, prepared)
            assert stub.seen["infer"] == trials
            assert (b"octet-stream" in made.templates[0].plain) is binary

    asyncio.run(scenario())
