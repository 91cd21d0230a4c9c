"""Questions to a server before a run, as any server of the Open Inference Protocol answers them, or does not.

Every failure is told with what to do about it. Servers differ in what they offer, so an answer may be None: "it does
not say". Nothing here is timed, and no infer request is sent, but for the one of `accepts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from triscale.clock import monotonic
from triscale.errors import ConfigError
from triscale.traces.endpoint import Trust, endpoint_of
from triscale.traces.http_client import ConnectionPool
from triscale.traces.http_connection import Exchange
from triscale.traces.payload import TensorMetadata
from triscale.traces.template import Template

__all__ = ["Peer", "error_text", "model_path"]

_PATIENCE_S = 5.0
_BINARY = "binary_tensor_data"
_LONGEST_TEXT = 200
_IN_WORDS = {
    "timeout": f"nothing came within {_PATIENCE_S:g} s",
    "connection_lost": "it closed the connection",
    "bad_response": "the response was not HTTP",
    "no_connection": "no connection",
    "no_tls": "no agreement on TLS",
}


def model_path(prefix: str, model: str) -> str:
    """The route of a model."""
    return f"{prefix}/v2/models/{quote(model, safe='')}"


def error_text(body: bytes) -> str:
    """What a server says went wrong: the protocol's `error`, else the beginning of the body, unless that is a page."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = None
    said = document.get("error") or document.get("detail") if isinstance(document, dict) else None
    text = said if isinstance(said, str) else body.decode("utf-8", "replace")
    text = " ".join(text.split())
    if text.lower().startswith(("<!doctype", "<html")):
        return "a web page"
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " ..."


class Peer:
    """A server: `async with Peer(url, headers, trust) as peer`. ConfigError from every question if it is not there."""

    def __init__(self, url: str, headers: Mapping[str, str], trust: Trust) -> None:
        self._url = url
        self._endpoint = endpoint_of(url)
        self._headers = dict(headers)
        self._pool = ConnectionPool(self._endpoint, 1, trust)

    async def __aenter__(self) -> Self:
        try:
            await self._pool.resolve()
        except OSError as error:
            host = self._endpoint.host
            raise ConfigError(f"url: cannot find {host!r} ({error.strerror or error}); correct the address") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    async def models(self) -> list[str] | None:
        """The models that it lists, by KServe's route or by Triton's."""
        listed = await self._document("GET", "/v2/models")
        names = listed.get("models") if isinstance(listed, dict) else None
        if not isinstance(names, list):
            listed = await self._document("POST", "/v2/repository/index")
            names = listed if isinstance(listed, list) else None
        if names is None:
            return None
        found = [entry.get("name") if isinstance(entry, dict) else entry for entry in names]
        return sorted({name for name in found if isinstance(name, str) and name})

    async def inputs(self, model: str) -> tuple[TensorMetadata, ...] | None:
        """The model's declared inputs. ConfigError when it does not serve the model."""
        exchange = await self._ask("GET", model_path("", model))
        if exchange.status != 200:
            await self._refuse(model, exchange)
        try:
            return msgspec.json.decode(exchange.body, type=_Metadata).inputs
        except msgspec.DecodeError:
            return None

    async def objective_ms(self, model: str) -> float | None:
        """The latency objective that the model's configuration states, as triscale's servers do."""
        config = await self._document("GET", model_path("", model) + "/config")
        try:
            return float(msgspec.convert(config, _Config).parameters["slo_ms"]["string_value"])
        except (msgspec.ValidationError, KeyError, TypeError, ValueError):
            return None

    async def takes_binary(self) -> bool | None:
        """Whether it lists the binary tensor extension."""
        server = await self._document("GET", "/v2")
        extensions = server.get("extensions") if isinstance(server, dict) else None
        if not isinstance(extensions, list):
            return None
        return any(isinstance(name, str) and name.startswith(_BINARY) for name in extensions)

    async def accepts(self, template: Template, patience_s: float) -> bool:
        """Send one infer request; False when it is refused as a bad one."""
        first, second = (template.plain, b"") if template.plain else template.wire(b"", patience_s)
        exchange = await self._send(first + second, patience_s)
        return exchange.status not in _BAD_REQUEST

    async def _document(self, method: str, path: str) -> Any:
        """The JSON at a route; None where there is none."""
        exchange = await self._ask(method, path)
        try:
            return msgspec.json.decode(exchange.body) if exchange.status == 200 else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def _ask(self, method: str, path: str) -> Exchange:
        lines = [f"{method} {self._endpoint.prefix}{path} HTTP/1.1", "Accept: application/json"]
        if "host" not in {name.lower() for name in self._headers}:
            lines.append(f"Host: {self._endpoint.authority}")
        if method == "POST":
            lines += ["Content-Type: application/json", "Content-Length: 2"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        body = b"{}" if method == "POST" else b""
        exchange = await self._send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body, _PATIENCE_S)
        if exchange.reason:
            raise ConfigError(self._absence(exchange))
        if exchange.status in (401, 403):
            raise ConfigError(
                f"url: {self._url} wants to know who asks (HTTP {exchange.status}: {error_text(exchange.body)}); "
                "give --token, or what it wants with --header"
            )
        return exchange

    async def _send(self, request: bytes, patience_s: float) -> Exchange:
        done = asyncio.Event()
        exchange = Exchange(request, monotonic() + patience_s, lambda _: done.set())
        self._pool.submit(exchange)
        await done.wait()
        return exchange

    async def _refuse(self, model: str, exchange: Exchange) -> None:
        others = await self.models()
        served = f"; it serves: {', '.join(others)}" if others else ""
        raise ConfigError(
            f"model: {self._url} does not serve {model!r} (HTTP {exchange.status}: "
            f"{error_text(exchange.body)}){served}; correct --model, or the URL if that is not a server of models"
        )

    def _absence(self, exchange: Exchange) -> str:
        """Why there was no answer, and what to try."""
        why = exchange.detail or _IN_WORDS.get(exchange.reason, exchange.reason)
        tls = self._endpoint.tls
        if exchange.reason == "no_tls" and "certificate" in exchange.detail:
            advice = "give its authority with --cacert, or --insecure to trust it anyway"
        elif exchange.reason == "no_tls":
            advice = "if it speaks no TLS, write http://"
        elif exchange.reason in ("bad_response", "connection_lost") and not tls:
            return (
                f"url: what listens at {self._url} does not answer in HTTP ({why}); "
                "correct the address, or write https:// if it speaks TLS"
            )
        else:
            advice = "start one with `triscale serve`, or correct it"
        return f"url: no server answers at {self._url} ({why}); {advice}"


class _Metadata(msgspec.Struct):
    inputs: tuple[TensorMetadata, ...]


class _Config(msgspec.Struct):
    parameters: dict[str, Any] = {}


_BAD_REQUEST = frozenset({400, 406, 411, 415, 422, 500, 501})
"""What servers without the extension answer to it; 500 is what some make of a body that is not all JSON."""
