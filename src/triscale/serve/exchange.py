"""One HTTP request and the response to it: what the connection and the app pass between them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from triscale.errors import RequestError
from triscale.serve.http_response import JSON, error_body, error_headers
from triscale.wire.payload import Buffer

__all__ = ["App", "Exchange", "Sender"]

_log = logging.getLogger("triscale.http")


class App(Protocol):
    """What answers requests. Called on the event loop; may raise RequestError in place of responding."""

    def admit(self, exchange: Exchange) -> None:
        """Raise for what need not be read: called before a large, chunked or `Expect`ing body."""
        ...

    def handle(self, exchange: Exchange) -> None:
        """Answer, or see to it that `exchange.respond` is called later."""
        ...


class Sender(Protocol):
    """The connection, as an exchange sees it."""

    def send(self, exchange: Exchange, status: int, content_type: bytes, headers: bytes, body: list[Buffer]) -> None:
        """Send the response when its turn comes."""
        ...


class Exchange:
    """One request and the response to it.

    Life: read -> handled by the app -> answered (or the client is gone first), then sent in its turn.
    """

    __slots__ = (
        "answered",
        "arrived",
        "body",
        "connection",
        "expects_continue",
        "headers",
        "keep_alive",
        "lingers",
        "method",
        "on_gone",
        "parts",
        "target",
    )

    def __init__(
        self, connection: Sender, method: bytes, target: bytes, headers: dict[bytes, bytes], arrived: float
    ) -> None:
        self.connection: Sender | None = connection
        """None when nobody waits for a response any more."""
        self.method = method
        self.target = target
        self.headers = headers
        """Names in lower case; of headers with equal names the last."""
        self.arrived = arrived
        """Monotonic seconds of the first byte."""
        self.body: Buffer = b""
        """Complete and decompressed when the app is called."""
        self.on_gone: Callable[[], None] | None = None
        """Called when the client disconnects before the answer."""
        self.answered = False
        self.expects_continue = False
        """The client waits for `100 Continue` before it sends the body."""
        self.keep_alive = True
        self.lingers = False
        """The client may still be sending: do not close under it at once."""
        self.parts: list[Buffer] | None = None
        """The complete response, while it waits for its turn."""

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: bytes = b"",
        buffers: Sequence[Buffer] = (),
    ) -> None:
        """Answer with `body` followed by `buffers`; `headers` are complete lines. Only the first answer counts."""
        connection = self.connection
        if connection is None or self.answered:
            return
        self.answered = True
        connection.send(self, status, content_type, headers, [body, *buffers])

    def fail(self, error: RequestError) -> None:
        """Answer with the error's status and text."""
        self.respond(error.status, error_body(str(error)), headers=error_headers(error))

    def crash(self, error: BaseException, headers: bytes = b"") -> None:
        """Answer 500 for an exception that nobody expected, and log it under an id that the client is told."""
        incident = secrets.token_hex(8)
        _log.error("incident %s: %s %s", incident, self.method, self.target[:256], exc_info=error)
        body = error_body(f"internal error; the server's log has it as incident {incident}", id=incident)
        self.respond(500, body, headers=headers)

    def gone(self) -> None:
        """The connection is lost or closing."""
        self.connection = None
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None and not self.answered:
            try:
                on_gone()
            except Exception:  # noqa: BLE001 - a failed cancel must not keep the others from theirs
                _log.exception("cancelling a request whose client is gone failed")
