"""The server's routes: the Open Inference Protocol's, Triton's extensions of it, the usual health paths, and its pages.

Paths are matched exactly but for a trailing slash and a query. Infer requests, the ones that count, are found with
one look-up of their whole target; everything else is matched piece by piece.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec

import triscale
from triscale.core.pipeline import Pipeline
from triscale.errors import InvalidRequest, NotFound
from triscale.serve.documents import config_document, index_entry, metadata_document, server_document
from triscale.serve.exchange import Exchange
from triscale.serve.http_response import HttpError, json_body
from triscale.serve.inference import InferRoute
from triscale.serve.inference_protocol import VERSION
from triscale.serve.service import Service
from triscale.serve.statistics import statistics_document
from triscale.serve.status_routes import PAGE_PATH, Pages, page_routes

__all__ = ["InferenceApi"]

_Handler: TypeAlias = Callable[[Exchange], None]

_HEALTH = frozenset({"/v2/health/live", "/v2/health/ready", "/livez", "/readyz", "/healthz"})
"""Open without a token: probes have none."""
_REMEMBERED = 1024


class InferenceApi:
    """The app behind the inference port."""

    def __init__(self, service: Service, token: str = "", pages: Pages | None = None) -> None:
        self._service = service
        self._token = token.encode()
        self._open = _HEALTH | {PAGE_PATH} if pages is not None and pages.page is not None else _HEALTH
        """Paths that need no token."""
        self._infer: dict[bytes, InferRoute] = {}
        """Request target -> the route of the pipeline that it named when it was first seen."""
        self._routes: Mapping[str, tuple[str, _Handler]] = {
            "/v2": ("GET", lambda exchange: _reply(exchange, server_document(triscale.__version__))),
            "/v2/health/live": ("GET", self._live),
            "/v2/health/ready": ("GET", self._ready),
            "/livez": ("GET", self._live),
            "/healthz": ("GET", self._live),
            "/readyz": ("GET", self._ready),
            "/v2/models": ("GET", lambda exchange: _reply(exchange, {"models": list(self._service.pipelines)})),
            "/v2/models/stats": ("GET", lambda exchange: self._statistics(exchange, *self._service.pipelines)),
            "/v2/repository/index": ("POST", self._index),
            **(page_routes(pages) if pages is not None else {}),
        }

    def admit(self, exchange: Exchange) -> None:
        """Refuse before the body is read what would be refused after it."""
        self._find(exchange)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        self._find(exchange)(exchange)

    def _find(self, exchange: Exchange) -> _Handler:
        """The handler of a request; NotFound or HttpError when there is none for it."""
        route = self._infer.get(exchange.target)
        if (
            route is not None
            and exchange.method == b"POST"
            and self._service.pipelines.get(route.pipeline.name) is route.pipeline
        ):
            if self._token:
                self._authorise(exchange)
            return route.handle
        path = _path(exchange.target)
        if self._token and path not in self._open:
            self._authorise(exchange)
        found = self._routes.get(path) or self._model_route(path, exchange.target)
        if found is None:
            raise NotFound(f"there is nothing at {path[:200]!r}; models are at /v2/models")
        method, handler = found
        if exchange.method != method.encode() and not (method == "GET" and exchange.method == b"HEAD"):
            allowed = "GET, HEAD" if method == "GET" else method
            raise HttpError(405, f"{path} answers {allowed} only", f"allow: {allowed}\r\n".encode())
        return handler

    def _authorise(self, exchange: Exchange) -> None:
        scheme, _, token = exchange.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise HttpError(
                401,
                "this server wants a token; send the header `Authorization: Bearer <token>`",
                b"www-authenticate: Bearer\r\n",
            )

    def _model_route(self, path: str, target: bytes) -> tuple[str, _Handler] | None:
        match [unquote(piece) for piece in path.split("/")]:
            case ["", "v2", "models", name, "versions", version, *action]:
                pass
            case ["", "v2", "models", name, *action]:
                version = VERSION
            case _:
                return None
        if len(action) > 1 or (action and action[0] not in ("infer", "ready", "config", "stats")):
            return None
        pipeline = self._service.pipelines.get(name)
        if pipeline is None:
            known = ", ".join(self._service.pipelines) or "none"
            raise NotFound(f"there is no model {name[:200]!r} here; the models are: {known}")
        if version != VERSION:
            raise NotFound(f"model {name!r} has no version {version[:20]!r}; it has version {VERSION}")
        match action:
            case []:
                return "GET", lambda exchange: _reply(exchange, metadata_document(pipeline))
            case ["ready"]:
                return "GET", lambda exchange: self._model_ready(exchange, pipeline)
            case ["config"]:
                return "GET", lambda exchange: _reply(exchange, config_document(pipeline))
            case ["stats"]:
                return "GET", lambda exchange: self._statistics(exchange, pipeline.name)
        return "POST", self._infer_route(pipeline, target).handle

    def _infer_route(self, pipeline: Pipeline, target: bytes) -> InferRoute:
        route = self._infer.get(target)
        if route is None or route.pipeline is not pipeline:
            known = (found for found in self._infer.values() if found.pipeline is pipeline)
            route = next(known, None) or InferRoute(pipeline, self._service)
            if len(self._infer) >= _REMEMBERED:
                self._infer.clear()
            self._infer[target] = route
        return route

    def _live(self, exchange: Exchange) -> None:
        _reply(exchange, {"live": True})

    def _ready(self, exchange: Exchange) -> None:
        _reply_ready(exchange, self._service.ready(), {})

    def _model_ready(self, exchange: Exchange, pipeline: Pipeline) -> None:
        _reply_ready(exchange, self._service.ready(pipeline.name), {"name": pipeline.name})

    def _statistics(self, exchange: Exchange, *names: str) -> None:
        stats = [statistics_document(name, self._service.statistics(name)) for name in names]
        _reply(exchange, {"model_stats": stats})

    def _index(self, exchange: Exchange) -> None:
        entries = [
            index_entry(pipeline, self._service.ready(name)) for name, pipeline in self._service.pipelines.items()
        ]
        if _wants_ready_only(exchange.body):
            entries = [entry for entry in entries if entry["state"] == "READY"]
        _reply(exchange, entries)


def _path(target: bytes) -> str:
    path = target.decode("latin-1").partition("?")[0]
    if not path.startswith("/"):
        path = urlsplit(path).path  # absolute form, as sent to proxies
    return path.removesuffix("/") or "/"


def _wants_ready_only(body: Any) -> bool:
    if not body:
        return False
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidRequest(f'the body is not valid: {error}; send {{"ready": true}}, or none') from None
    return document.get("ready") is True


def _reply(exchange: Exchange, document: object) -> None:
    exchange.respond(200, json_body(document))


def _reply_ready(exchange: Exchange, ready: bool, document: dict[str, object]) -> None:
    document["ready"] = ready
    if ready:
        exchange.respond(200, json_body(document))
    else:
        document["error"] = "not ready: starting, draining, or a stage has no replica; try again soon"
        exchange.respond(503, json_body(document), headers=b"retry-after: 1\r\n")
