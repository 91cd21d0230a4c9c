"""The server's own pages on the inference port: the dashboard at `/`, and the documents under `/triscale/` it reads.

The documents need the server's token, if it has one, as everything else does. The page does not: it holds no data,
and asks whoever opens it for the token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias
from urllib.parse import parse_qs

from triscale.errors import InvalidRequest
from triscale.serve.exchange import Exchange

__all__ = ["PAGE_PATH", "Page", "Pages", "page_routes"]

PAGE_PATH = "/"

_HTML = b"text/html; charset=utf-8"
_NEVER_KEPT = b"cache-control: no-store\r\n"
_MOST_DIGITS = 15

Route: TypeAlias = "tuple[str, Callable[[Exchange], None]]"
"""(method, handler)."""


class Page(NamedTuple):
    """A page in one piece."""

    html: bytes
    security_policy: str
    """The value of its Content-Security-Policy: what it may load and run, which is what is in it."""


class Pages(Protocol):
    """What the routes show. Called on the event loop; JSON comes back as bytes."""

    @property
    def page(self) -> Page | None:
        """The dashboard; None = there is none."""
        ...

    def status(self) -> bytes:
        """An `observe.status.Status`."""
        ...

    def history(self, since: int) -> bytes:
        """An `observe.history.HistoryDocument` of the samples after number `since`."""
        ...

    def decisions(self, since: int) -> bytes:
        """An `observe.decisions.DecisionsDocument` of the decisions after number `since`."""
        ...


def page_routes(pages: Pages) -> Mapping[str, Route]:
    """Path -> route."""
    routes: dict[str, Route] = {
        "/triscale/status": ("GET", lambda exchange: _reply(exchange, pages.status())),
        "/triscale/history": ("GET", lambda exchange: _reply(exchange, pages.history(_since(exchange)))),
        "/triscale/decisions": ("GET", lambda exchange: _reply(exchange, pages.decisions(_since(exchange)))),
    }
    page = pages.page
    if page is not None:
        routes[PAGE_PATH] = ("GET", lambda exchange: _show(exchange, page))
    return routes


def _reply(exchange: Exchange, document: bytes) -> None:
    exchange.respond(200, document, headers=_NEVER_KEPT)


def _show(exchange: Exchange, page: Page) -> None:
    headers = (
        "cache-control: no-cache\r\n"
        f"content-security-policy: {page.security_policy}\r\n"
        "referrer-policy: no-referrer\r\n"
        "x-content-type-options: nosniff\r\n"
    )
    exchange.respond(200, page.html, _HTML, headers.encode())


def _since(exchange: Exchange) -> int:
    """The number in the query's `since`; 0 without one."""
    query = exchange.target.decode("latin-1").partition("?")[2]
    values = parse_qs(query, keep_blank_values=True).get("since", ["0"])
    value = values[-1]
    if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS):
        raise InvalidRequest(f"since: {value[:40]!r} is not a whole number; give the `last` of an earlier answer, or 0")
    return int(value)
