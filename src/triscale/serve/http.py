"""One HTTP/1.1 connection: bytes in, `Exchange`s to the app, responses out through `Responses`.

A bare asyncio protocol on httptools, written for speed: a request costs a handful of callbacks, a response one
write. Bodies of 64 KiB and more bypass the parser and are received straight into the buffer that the app gets.

- The app is called once for each complete request, and answers now or later through the exchange.
- Whatever goes wrong is answered: a refusal or malformed HTTP with its status and then a close, an exception with
  500 and an id that is in the log. Closing while the client still sends would destroy the answer on its way, so the
  rest of a refused request is read and thrown away for a moment (`Limits.linger_s`).
- Nothing here sets timers: `check(now)` is called about once a second and compares timestamps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

import httptools

from triscale.errors import RequestError, TooLarge
from triscale.serve.exchange import Exchange
from triscale.serve.http_response import HttpError
from triscale.serve.responses import Responses
from triscale.serve.server_state import ServerState
from triscale.serve.transcode import inflate_body

__all__ = ["Connection"]

_FRESH, _IDLE, _HEAD, _BODY = range(4)

_SPECIAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers that change how the body is read."""


class Connection(asyncio.BufferedProtocol):
    """The server's side of one connection. Its phases, as far as reading goes:

    - fresh: nothing received yet
    - head, body: in the middle of a request
    - idle: between requests; earlier ones may be in progress
    """

    __slots__ = (
        "_arrived",
        "_headers",
        "_large",
        "_mark",
        "_missing",
        "_parser",
        "_phase",
        "_reading",
        "_reserved",
        "_responses",
        "_stalled",
        "_state",
        "_target",
        "_transport",
        "_window_start",
    )

    _transport: asyncio.Transport
    _responses: Responses

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._phase = _FRESH
        self._arrived = 0.0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._reading: Exchange | None = None
        self._large: bytearray | None = None
        """The body being received, where its length is known and large..."""
        self._missing = 0
        """...and how many bytes at its end are still to come."""
        self._reserved = 0
        """Bytes of `ServerState.arriving` that are this connection's."""
        self._stalled = 0
        """Bytes read without completing a head or bringing a body; -1 when the present read did either."""
        self._window_start = 0.0
        self._mark = 0
        """Body bytes received when the window began (`Limits.body_window_s`)."""

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._responses = Responses(self._transport, self._state)
        connections = self._state.connections
        connections.add(self)
        limit = self._state.limits.connections
        if len(connections) > 2 * limit:
            self._transport.abort()
        elif len(connections) > limit:
            self._refuse(HttpError(503, f"{limit} connections are open, the limit; try later", b"retry-after: 1\r\n"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to put the next bytes: the large body's missing part, or the shared buffer."""
        if self._missing and self._large is not None:
            return memoryview(self._large)[-self._missing :]
        return self._state.view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        if self._responses.last_taken:
            return
        if self._missing:
            self._missing -= nbytes
            if not self._missing:
                self._parser = httptools.HttpRequestParser(self)  # the old one waits for a body that it never saw
                self._request_complete()
        else:
            self._feed(self._state.view[:nbytes])
        if len(self._responses.pending) >= self._state.limits.pipelined:
            self._responses.throttle()

    def eof_received(self) -> None:
        """The client sends no more. In the middle of a request that is an error; otherwise it hung up."""
        if self._phase in (_HEAD, _BODY):
            self._refuse(HttpError(400, "the connection ended in the middle of a request"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client is gone: what it asked for is cancelled."""
        self._responses.last_taken = True
        self._responses.abandon()
        self._stop_reading()
        self._parser = None
        connections = self._state.connections
        connections.discard(self)
        if not connections:
            self._state.on_empty()

    def pause_writing(self) -> None:
        """The client reads its responses too slowly: take no more of its requests."""
        self._responses.set_blocked(True)

    def resume_writing(self) -> None:
        """The client caught up."""
        self._responses.set_blocked(False)

    # Called by the parser. What these raise reaches `_feed`.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._phase = _HEAD
        self._arrived = self._state.now()
        self._target = b""
        self._headers = {}
        self._stalled = -1

    def on_url(self, url: bytes) -> None:
        """The request's target, or a piece of it."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after a chunked body, one trailer."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is complete: decide whether and how to read the body."""
        if self._responses.last_taken:
            raise HttpError(400, "this connection takes no further requests")  # ends the parsing; nobody is told
        state = self._state
        headers = self._headers
        exchange = Exchange(self._responses, self._parser.get_method(), self._target, headers, self._arrived)
        exchange.keep_alive = self._parser.should_keep_alive()
        self._phase = _BODY
        self._stalled = -1
        self._window_start = self._arrived
        self._mark = 0
        self._reading = exchange
        self._responses.pending.append(exchange)
        if len(self._target) > state.limits.target_bytes:
            raise HttpError(414, f"the request's target is longer than {state.limits.target_bytes} bytes; shorten it")
        length = int(headers.get(b"content-length", b"0"))
        if length >= state.large_bytes or not headers.keys().isdisjoint(_SPECIAL):
            self._body_announced(exchange, length)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._stalled = -1
        if self._large is not None:
            self._fill(data)
            return
        exchange = cast("Exchange", self._reading)
        body = exchange.body
        if not body:
            exchange.body = body = data
        else:
            self._reserve(len(data))
            if isinstance(body, bytes):
                exchange.body = body = bytearray(body)
            cast("bytearray", body).extend(data)
        if len(body) > self._state.limits.body_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        """The request is complete, except where `Upgrade` made the parser stop before the body."""
        if not self._missing:
            self._request_complete()

    # Reading.

    def _feed(self, data: memoryview) -> None:
        try:
            while data:
                try:
                    self._parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._decline_upgrade(data[upgrade.args[0] :])
                    if self._responses.last_taken:
                        break
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._refuse(HttpError(400, f"malformed HTTP: {error}"))
        if self._phase in (_HEAD, _BODY):
            self._stalled = 0 if self._stalled < 0 else self._stalled + len(data)
            limit = self._state.limits.head_bytes
            if self._stalled > limit:
                self._refuse(HttpError(431, f"the headers take more than {limit} bytes; send fewer or shorter ones"))

    def _decline_upgrade(self, rest: memoryview) -> memoryview:
        """Stay with HTTP/1.1, as a server may: what follows is the body, if one was announced, and then requests."""
        body, rest = rest[: self._missing], rest[self._missing :]
        if body:
            self._fill(body)
            if not self._missing:
                self._request_complete()
        if not self._missing:
            self._parser = httptools.HttpRequestParser(self)
        return rest

    def _body_announced(self, exchange: Exchange, length: int) -> None:
        headers = exchange.headers
        expect = headers.get(b"expect")
        transfer = headers.get(b"transfer-encoding", b"")
        upgrade = b"upgrade" in headers
        if length > self._state.limits.body_bytes:
            raise self._too_large()
        if transfer.lower() not in (b"", b"chunked"):
            raise HttpError(501, f"transfer coding {transfer.decode('latin-1')!r} is not known; only chunked is")
        if transfer and upgrade:
            raise HttpError(400, "a chunked body cannot follow a request to upgrade; leave the Upgrade header out")
        if expect is not None and expect.lower() != b"100-continue":
            raise HttpError(417, f"expectation {expect.decode('latin-1')!r} is not known; only 100-continue is")
        self._state.app.admit(exchange)
        if transfer:
            self._headers = {}  # trailers go nowhere
        elif length and (upgrade or length >= self._state.large_bytes):
            self._reserve(length)
            self._large = bytearray(length)
            self._missing = length
        if expect is not None and self._parser.get_http_version() == "1.1":
            exchange.expects_continue = True
            self._responses.say_continue()

    def _reserve(self, nbytes: int) -> None:
        state = self._state
        state.arriving += nbytes
        self._reserved += nbytes
        if state.arriving > state.limits.arriving_bytes:
            raise HttpError(503, "too much is being received at the moment; try again later", b"retry-after: 1\r\n")

    def _fill(self, data: bytes | memoryview) -> None:
        large = cast("bytearray", self._large)
        at = len(large) - self._missing
        large[at : at + len(data)] = data
        self._missing -= len(data)

    def _request_complete(self) -> None:
        exchange = cast("Exchange", self._reading)
        if self._large is not None:
            exchange.body = self._large
        self._stop_reading()
        if not exchange.keep_alive:
            self._responses.last_taken = True
        self._attempt(self._inflate if b"content-encoding" in exchange.headers else self._state.app.handle, exchange)

    def _stop_reading(self) -> None:
        self._phase = _IDLE
        self._reading = self._large = None
        self._missing = 0
        if self._reserved:
            self._state.arriving -= self._reserved
            self._reserved = 0

    def _inflate(self, exchange: Exchange) -> None:
        inflate_body(exchange, self._state.limits.body_bytes, partial(self._attempt, self._state.app.handle))

    def _attempt(self, handle: Callable[[Exchange], None], exchange: Exchange) -> None:
        """Whatever handling raises, the exchange is answered."""
        try:
            handle(exchange)
        except RequestError as error:
            exchange.fail(error)
        except Exception as error:  # noqa: BLE001
            exchange.crash(error)

    def _refuse(self, error: BaseException) -> None:
        """Answer what is being read with an error, and read no further."""
        if self._responses.last_taken:
            return
        self._responses.last_taken = True
        exchange = self._reading
        if exchange is None:
            exchange = Exchange(self._responses, b"", self._target, {}, self._state.now())
            self._responses.pending.append(exchange)
        self._stop_reading()
        exchange.keep_alive = False
        exchange.lingers = True
        if isinstance(error, RequestError):
            exchange.fail(error)
        else:
            exchange.crash(error)

    def _too_large(self) -> TooLarge:
        limit = self._state.limits.body_bytes
        return TooLarge(f"the body is larger than {limit} bytes, this server's limit; send less at once")

    # Called by the server.

    def check(self, now: float) -> None:
        """Cut off a client that takes too long over what it is doing."""
        limits = self._state.limits
        responses = self._responses
        if responses.overdue(now):
            self._transport.abort()
        elif self._phase == _HEAD:
            if now - self._arrived > limits.head_timeout_s:
                self._refuse(HttpError(408, f"the headers took longer than {limits.head_timeout_s:g} s to arrive"))
        elif self._phase == _BODY:
            self._check_body(now)
        elif not responses.pending and not responses.last_taken:
            limit = limits.head_timeout_s if self._phase == _FRESH else limits.idle_timeout_s
            if now - responses.quiet_since > limit:
                self._transport.close()

    def _check_body(self, now: float) -> None:
        limits = self._state.limits
        elapsed = now - self._window_start
        if elapsed < limits.body_window_s:
            return
        exchange = cast("Exchange", self._reading)
        received = len(exchange.body) if self._large is None else len(self._large) - self._missing
        if received - self._mark < elapsed * limits.body_bytes_per_s:
            self._refuse(HttpError(408, f"the body arrived at less than {limits.body_bytes_per_s:g} bytes per second"))
        else:
            self._mark = received
            self._window_start = now

    def drain(self) -> None:
        """Close now if nothing is in progress; otherwise the next response is the last (`ServerState.closing`)."""
        if not self._responses.pending and self._phase in (_FRESH, _IDLE):
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is in progress is cancelled."""
        self._transport.abort()
