"""The app behind the metrics port: GET /metrics, rendered by whoever keeps the metrics."""

from __future__ import annotations

from collections.abc import Callable

from triscale.errors import NotFound
from triscale.serve.exchange import Exchange
from triscale.serve.http_response import HttpError

__all__ = ["MetricsApi", "Render"]

Render = Callable[[str], tuple[bytes, str]]
"""(Accept header) -> (body, content type)."""


class MetricsApi:
    """Serves what `render` returns, and nothing else."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def admit(self, exchange: Exchange) -> None:
        """Refuse before the body is read what would be refused after it."""
        if exchange.target.partition(b"?")[0] != b"/metrics":
            raise NotFound("there is nothing here but /metrics")
        if exchange.method not in (b"GET", b"HEAD"):
            raise HttpError(405, "/metrics answers GET, HEAD only", b"allow: GET, HEAD\r\n")

    def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        self.admit(exchange)
        body, content_type = self._render(exchange.headers.get(b"accept", b"").decode("latin-1"))
        exchange.respond(200, body, content_type.encode())
