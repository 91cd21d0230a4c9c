"""Asks a running server what it is doing: its status, history and decisions, over one connection."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from triscale.clock import monotonic
from triscale.errors import ConfigError, TriscaleError
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.history import HistoryDocument
from triscale.observe.status import Status
from triscale.traces.endpoint import Trust, endpoint_of
from triscale.traces.http_client import ConnectionPool, Exchange

__all__ = ["StatusClient"]

_TIMEOUT_S = 5.0

Document = TypeVar("Document")


class StatusClient:
    """One server's documents. Use on one event loop; `close` when done. ConfigError when `url` is none."""

    def __init__(self, url: str, token: str = "", trust: Trust | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        if any(mark in token for mark in "\r\n") or not token.isascii():
            raise ConfigError("--token: a token is one line of ASCII; give it as the server got it")
        self._token = token
        self._endpoint = endpoint_of(self.url)
        self._pool = ConnectionPool(self._endpoint, 1, trust)

    async def status(self) -> Status:
        """What the server is doing now; TriscaleError, with what to do about it, when it does not tell."""
        return await self._get("/triscale/status", Status)

    async def history(self, since: int = 0) -> HistoryDocument:
        """The samples after number `since`; TriscaleError likewise."""
        return await self._get(f"/triscale/history?since={since}", HistoryDocument)

    async def decisions(self, since: int = 0) -> DecisionsDocument:
        """The decisions after number `since`, as far as the server kept them; TriscaleError likewise."""
        return await self._get(f"/triscale/decisions?since={since}", DecisionsDocument)

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.close()

    async def _get(self, path: str, kind: type[Document]) -> Document:
        credentials = f"Authorization: Bearer {self._token}\r\n" if self._token else ""
        target = self._endpoint.prefix + path
        request = f"GET {target} HTTP/1.1\r\nHost: {self._endpoint.authority}\r\n{credentials}\r\n".encode()
        done = asyncio.Event()
        exchange = Exchange(request, monotonic() + _TIMEOUT_S, lambda _: done.set())
        self._pool.submit(exchange)
        await done.wait()
        if exchange.status != 200:
            raise TriscaleError(self._refusal(exchange))
        try:
            return msgspec.json.decode(exchange.body, type=kind)
        except msgspec.DecodeError as error:
            raise TriscaleError(
                f"what {self.url} answered is not of this version of triscale ({error}); "
                "use the `triscale` that the server was started with"
            ) from None

    def _refusal(self, exchange: Exchange) -> str:
        """Why there is no document, and what to do."""
        if exchange.status == 401:
            if self._token:
                return f"the server at {self.url} does not accept this token; check --token or TRISCALE_TOKEN"
            return f"the server at {self.url} wants a token; give it with --token or in TRISCALE_TOKEN"
        if exchange.status:
            return (
                f"what listens at {self.url} is not a triscale server, or an older one: it answered {exchange.status}; "
                "give the URL that `triscale serve` printed"
            )
        if exchange.reason == "no_connection":
            return (
                f"nothing listens at {self.url}; start a server with `triscale serve PIPELINE`, "
                "or give the URL of one that runs"
            )
        if exchange.reason == "no_tls":
            return (
                f"{self.url}: no TLS connection; if its certificate is not trusted here, give it with --cacert, "
                "and if the server has none, write http://"
            )
        if exchange.reason == "timeout":
            return f"the server at {self.url} did not answer within {_TIMEOUT_S:g} s; it may be too busy, try again"
        return f"what listens at {self.url} does not speak HTTP ({exchange.reason}); give the URL of a triscale server"
