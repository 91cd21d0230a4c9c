"""The connection: what is read as which request, what is answered in which order, and when it ends."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import os
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.serve.conftest import EchoApp, Link, read_responses, request_bytes
from triscale.errors import InvalidRequest
from triscale.serve.exchange import Exchange
from triscale.serve.http_response import HttpError
from triscale.serve.limits import Limits

LARGE = 64 * 1024


def bodies(link: Link) -> list[bytes]:
    return [response.body for response in link.responses]


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data + b"0\r\n" + trailers + b"\r\n"


STREAM = b"".join(
    [
        request_bytes("GET", "/a"),
        request_bytes("POST", "/b", b"body"),
        chunked(b"one", b"two", trailers=b"x: y\r\n"),
        request_bytes("POST", "/large", bytes(range(256)) * 300),
        request_bytes("GET", "/last"),
    ]
)
ANSWERS = [
    b"GET /a ",
    b"POST /b body",
    b"POST /c onetwo",
    b"POST /large " + bytes(range(256)) * 300,
    b"GET /last ",
]


class TestReading:
    def test_a_request_is_answered(self, link: Link) -> None:
        response = link.request("POST", "/x?y=z", b"hello", {"A-B": "c"})
        assert (response.status, response.body) == (200, b"POST /x?y=z hello")
        assert response.headers["content-type"] == "text/plain"

    def test_header_names_are_lower_case_and_trailers_are_not_headers(self, link: Link, app: EchoApp) -> None:
        link.send(chunked(b"x", trailers=b"Content-Encoding: gzip\r\n"))
        link.request("GET", "/", headers={"X-Upper": "Value"})
        assert app.exchanges[0].headers == {b"transfer-encoding": b"chunked"}
        assert app.exchanges[1].headers[b"x-upper"] == b"Value"

    def test_requests_of_one_connection_do_not_mix(self, link: Link) -> None:
        link.send(STREAM)
        assert bodies(link) == ANSWERS

    @given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
    def test_nothing_depends_on_where_reads_end(self, cuts: list[int]) -> None:
        link = Link(EchoApp())
        edges = [0, *sorted(cuts), len(STREAM)]
        for start, end in itertools.pairwise(edges):
            link.send(STREAM[start:end])
        assert bodies(link) == ANSWERS

    def test_nor_on_reads_of_one_byte(self) -> None:
        link = Link(EchoApp())
        short = request_bytes("GET", "/a") + request_bytes("POST", "/b", b"body") + chunked(b"one", b"two")
        for byte in short:
            link.send(bytes([byte]))
        assert bodies(link) == ANSWERS[:3]

    def test_the_time_of_a_request_is_that_of_its_first_byte(self, link: Link, app: EchoApp) -> None:
        link.send(b"GET / HT")
        link.clock.advance(3.0)
        link.send(b"TP/1.1\r\n\r\n")
        assert app.exchanges[0].arrived == 100.0

    def test_a_large_body_is_received_into_the_buffer_that_the_app_gets(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("POST", "/", bytes(LARGE))[: LARGE // 2])
        room = link.connection.get_buffer(-1)
        assert room.nbytes > LARGE // 2
        link.send(bytes(room.nbytes - 1) + b"!")
        (exchange,) = app.exchanges
        assert exchange.body is room.obj
        assert len(exchange.body) == LARGE
        assert exchange.body[-1:] == b"!"

    @pytest.mark.parametrize("size", [0, 4, LARGE])
    def test_an_upgrade_is_declined_by_going_on(self, link: Link, size: int) -> None:
        headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
        link.send(request_bytes("POST", "/u", b"x" * size, headers) + request_bytes("GET", "/next"))
        assert bodies(link) == [b"POST /u " + b"x" * size, b"GET /next "]

    def test_leading_empty_lines_are_skipped(self, link: Link) -> None:
        link.send(b"\r\n\r\n" + request_bytes("GET", "/a"))
        assert bodies(link) == [b"GET /a "]


class TestOrder:
    def test_responses_come_in_the_order_of_the_requests(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("GET", "/0") + request_bytes("GET", "/1") + request_bytes("GET", "/2"))
        for index, written in ((2, []), (0, [b"GET /0 "]), (1, [b"GET /0 ", b"GET /1 ", b"GET /2 "])):
            app.answer(app.exchanges[index])
            assert bodies(link) == written

    @given(order=st.permutations(range(6)))
    def test_whatever_the_order_of_the_answers(self, order: list[int]) -> None:
        app = EchoApp()
        app.held = True
        link = Link(app)
        link.send(b"".join(request_bytes("GET", f"/{n}") for n in range(6)))
        for index in order:
            app.answer(app.exchanges[index])
        assert bodies(link) == [f"GET /{n} ".encode() for n in range(6)]

    def test_an_error_waits_its_turn(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("GET", "/a") + b"garbage\r\n\r\n")
        assert link.responses == []
        app.answer(app.exchanges[0])
        assert [response.status for response in link.responses] == [200, 400]
        assert link.transport.eof

    def test_only_the_first_answer_counts(self, link: Link, app: EchoApp) -> None:
        link.send(request_bytes("GET", "/a"))
        app.answer(app.exchanges[0])
        assert len(link.responses) == 1

    def test_too_many_requests_at_once_pause_the_reading(self, app: EchoApp) -> None:
        link = Link(app, Limits(pipelined=3))
        app.held = True
        reading = []
        link.send(request_bytes("GET", "/0") + request_bytes("GET", "/1"))
        reading.append(link.transport.reading)
        link.send(request_bytes("GET", "/2"))
        reading.append(link.transport.reading)
        app.answer(app.exchanges[0])
        reading.append(link.transport.reading)
        assert reading == [True, False, True]

    def test_a_client_that_does_not_read_is_not_read_from(self, link: Link) -> None:
        link.connection.pause_writing()
        paused = not link.transport.reading
        link.connection.resume_writing()
        assert (paused, link.transport.reading) == (True, True)


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("version", "connection", "answer", "closes"),
        [
            ("1.1", None, None, False),
            ("1.1", "keep-alive", "keep-alive", False),
            ("1.1", "close", "close", True),
            ("1.0", None, "close", True),
            ("1.0", "Keep-Alive", "keep-alive", False),
        ],
    )
    def test_the_connection_lives_on_as_the_client_asks(
        self, link: Link, version: str, connection: str | None, answer: str | None, closes: bool
    ) -> None:
        headers = {} if connection is None else {"Connection": connection}
        link.send(request_bytes("GET", "/", headers=headers, version=version))
        assert link.response.headers.get("connection") == answer
        assert link.transport.closing is closes

    def test_what_follows_the_last_request_is_ignored(self, link: Link, app: EchoApp) -> None:
        link.send(request_bytes("GET", "/a", headers={"connection": "close"}) + request_bytes("GET", "/b"))
        link.send(request_bytes("GET", "/c"))
        assert bodies(link) == [b"GET /a "]
        assert len(app.exchanges) == 1

    def test_not_even_after_an_upgrade_that_was_declined(self, link: Link, app: EchoApp) -> None:
        headers = {"connection": "close, upgrade", "upgrade": "h2c"}
        link.send(request_bytes("GET", "/a", headers=headers) + request_bytes("GET", "/b"))
        assert bodies(link) == [b"GET /a "]
        assert len(app.exchanges) == 1

    def test_a_connection_is_idle_only_so_long(self, link: Link) -> None:
        link.request("GET", "/")
        link.check_after(75.0)
        assert not link.transport.closing
        link.check_after(0.1)
        assert link.transport.closing

    def test_while_a_request_is_in_progress_it_is_not_idle(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("GET", "/"))
        link.check_after(10_000.0)
        app.answer(app.exchanges[0])
        link.check_after(70.0)
        assert not link.transport.closing

    def test_a_connection_that_says_nothing_is_closed_sooner(self, link: Link) -> None:
        link.check_after(10.1)
        assert link.transport.closing
        assert link.responses == []

    def test_head_is_answered_without_the_body(self, link: Link) -> None:
        link.send(request_bytes("HEAD", "/abc"))
        written = bytes(link.transport.written)
        assert b"content-length: 10\r\n" in written
        assert written.endswith(b"\r\n\r\n")


class TestExpect:
    EXPECTING = request_bytes("POST", "/e", headers={"expect": "100-continue", "content-length": "4"})

    def test_a_client_that_waits_is_told_to_go_on(self, link: Link) -> None:
        link.send(self.EXPECTING)
        assert link.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.transport.written.clear()
        link.send(b"body")
        assert bodies(link) == [b"POST /e body"]

    def test_in_its_turn(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("GET", "/a") + self.EXPECTING)
        assert link.transport.written == b""
        app.answer(app.exchanges[0])
        head, _, rest = bytes(link.transport.written).partition(b"GET /a ")
        assert head.startswith(b"HTTP/1.1 200")
        assert rest == b"HTTP/1.1 100 Continue\r\n\r\n"

    def test_but_not_over_http_1_0(self, link: Link) -> None:
        link.send(self.EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0") + b"body")
        assert bodies(link) == [b"POST /e body"]

    def test_another_expectation_fails(self, link: Link) -> None:
        link.send(self.EXPECTING.replace(b"100-continue", b"a-miracle"))
        assert (link.response.status, link.response.error) == (
            417,
            "expectation 'a-miracle' is not known; only 100-continue is",
        )

    def test_what_would_be_refused_is_refused_before_the_body(self, app: EchoApp) -> None:
        class Strict(EchoApp):
            def admit(self, exchange: Exchange) -> None:
                raise HttpError(405, "no", b"allow: GET\r\n")

        link = Link(Strict())
        link.send(self.EXPECTING)
        assert (link.response.status, link.response.headers["allow"]) == (405, "GET")
        assert link.response.headers["connection"] == "close"


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "status", "error"),
        [
            (b"hello\r\n\r\n", 400, "malformed HTTP: Invalid method encountered"),
            (b"GET /\x01 HTTP/1.1\r\n\r\n", 400, "malformed HTTP: Invalid char"),
            (b"GET / HTTP/1.1\r\nA B: c\r\n\r\n", 400, "malformed HTTP: Invalid header token"),
            (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", 400, "malformed HTTP: Invalid header value char"),
            (
                b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                400,
                "malformed HTTP: Invalid character in Content-Length",
            ),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed HTTP: Duplicate"),
            (
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "malformed HTTP: Transfer-Encoding can't be present with Content-Length",
            ),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
                "transfer coding 'gzip' is not known; only chunked is",
            ),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
                "transfer coding 'gzip, chunked' is not known; only chunked is",
            ),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed HTTP: Invalid character"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed HTTP: "),
            (
                b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "a chunked body cannot follow a request to upgrade; leave the Upgrade header out",
            ),
            (request_bytes("GET", "/" + "a" * 8192), 414, "the request's target is longer than 8192 bytes; shorten it"),
            (
                b"POST / HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n",
                413,
                "the body is larger than 67108864 bytes, this server's limit; send less at once",
            ),
        ],
    )
    def test_what_is_wrong_is_told_and_the_connection_closed(
        self, link: Link, app: EchoApp, data: bytes, status: int, error: str
    ) -> None:
        link.send(data)
        assert link.response.status == status
        assert link.response.error.startswith(error)
        assert link.response.headers["connection"] == "close"
        assert app.exchanges == []
        link.send(request_bytes("GET", "/after"))
        assert len(link.responses) == 1

    def test_the_rest_of_a_refused_request_is_thrown_away_until_the_client_has_seen_why(self, link: Link) -> None:
        link.send(b"POST / HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n")
        assert link.transport.eof
        assert not link.transport.closing
        link.send(bytes(100_000))
        link.check_after(2.1)
        assert link.transport.aborted

    def test_a_head_that_is_complete_counts_no_more(self, link: Link) -> None:
        link.send(b"POST / HTTP/1.1\r\ncontent-length: 3\r\na: ")
        for _ in range(31):
            link.send(b"a" * 1024)
        link.send(b"a" * 2048 + b"\r\n\r\n")
        for piece in (b"x", b"y", b"z"):
            link.send(piece)
        assert link.response.body == b"POST / xyz"

    def test_headers_may_take_only_so_much_room(self, link: Link) -> None:
        link.send(b"GET / HTTP/1.1\r\na: ")
        for _ in range(32):
            link.send(b"a" * 1024)
            assert link.responses == []
        link.send(b"a")
        assert (link.response.status, link.response.error) == (
            431,
            "the headers take more than 32768 bytes; send fewer or shorter ones",
        )

    @pytest.mark.parametrize("endless", [b"a" * 1000, b"a: b\r\n" * 100])
    def test_and_so_may_trailers(self, link: Link, endless: bytes) -> None:
        link.send(chunked(b"x")[:-2])
        for _ in range(100):
            link.send(endless)
        assert link.response.status == 431

    def test_and_chunk_extensions(self, link: Link) -> None:
        link.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=")
        for _ in range(40):
            link.send(b"a" * 1000)
        assert link.response.status == 431

    def test_a_chunked_body_may_take_only_so_much_room(self, app: EchoApp) -> None:
        link = Link(app, Limits(body_bytes=10))
        link.send(chunked(b"12345", b"67890"))
        link.send(chunked(b"12345", b"67890", b"1"))
        assert [response.status for response in link.responses] == [200, 413]

    def test_all_bodies_together_may_take_only_so_much_room(self, app: EchoApp) -> None:
        link = Link(app, Limits(arriving_bytes=200_000))
        state = link.state
        large = request_bytes("POST", "/", bytes(150_000))
        for _ in range(3):
            link.send(large)
        link.send(large[:-1])
        assert state.arriving == 150_000
        other = Link(app)
        other.connection = type(link.connection)(state)
        other.connection.connection_made(other.transport)  # type: ignore[arg-type]
        other.send(chunked(*[bytes(30_000)] * 2))
        other.send(large)
        assert [response.status for response in other.responses] == [200, 503]
        assert other.responses[1].error == "too much is being received at the moment; try again later"
        assert state.arriving == 150_000
        link.hang_up()
        assert state.arriving == 0

    def test_exactly_the_limit_is_allowed(self, app: EchoApp) -> None:
        link = Link(app, Limits(body_bytes=10))
        assert link.request("POST", "/", bytes(10)).status == 200
        assert link.request("POST", "/", bytes(11)).status == 413

    @pytest.mark.parametrize("missing", range(1, 45, 3))
    def test_a_request_cut_short_is_told_so(self, link: Link, missing: int) -> None:
        link.send(request_bytes("POST", "/", b"body")[:-missing])
        link.connection.eof_received()
        assert link.response.status == 400
        assert link.response.error == "the connection ended in the middle of a request"

    def test_one_connection_too_many_is_told_so(self, link: Link) -> None:
        link.state.limits = Limits(connections=1)
        other = Link(link.state.app)
        other.connection = type(link.connection)(link.state)
        other.connection.connection_made(other.transport)  # type: ignore[arg-type]
        assert (other.response.status, other.response.headers["retry-after"]) == (503, "1")
        assert other.response.error == "1 connections are open, the limit; try later"
        assert link.request("GET", "/").status == 200


class TestSlowClients:
    def test_headers_must_be_complete_in_time(self, link: Link) -> None:
        link.send(b"GET / HTTP/1.1\r\n")
        link.check_after(10.0)
        assert link.responses == []
        link.send(b"a: b\r\n")
        link.check_after(0.1)
        assert (link.response.status, link.response.error) == (408, "the headers took longer than 10 s to arrive")

    @pytest.mark.parametrize("size", [20_000, 200_000])
    def test_a_body_must_keep_coming(self, link: Link, size: int) -> None:
        link.send(request_bytes("POST", "/", bytes(size))[: 12_000 - size])
        link.check_after(10.0)
        assert link.responses == []
        link.send(b"x" * 5_000)
        link.check_after(9.9)
        assert link.responses == []
        link.check_after(0.2)
        assert link.response.status == 408
        assert link.response.error == "the body arrived at less than 1024 bytes per second"

    def test_a_body_that_keeps_coming_may_take_long(self, link: Link) -> None:
        size = 2_000_000
        link.send(request_bytes("POST", "/", bytes(size))[:-size])
        for _ in range(100):
            link.send(bytes(size // 100))
            link.check_after(10.0)
        assert link.response.status == 200

    def test_a_client_that_takes_no_responses_is_cut_off(self, link: Link) -> None:
        link.request("GET", "/")
        link.transport.unsent = 1000
        link.check_after(1.0)
        link.transport.unsent = 900
        link.check_after(29.0)
        link.check_after(29.0)
        assert not link.transport.aborted
        link.check_after(2.0)
        assert link.transport.aborted

    def test_the_wait_begins_anew_when_all_was_taken(self, link: Link) -> None:
        for _ in range(3):
            link.transport.unsent = 1000
            link.check_after(1.0)
            link.check_after(29.0)
            link.transport.unsent = 0
            link.check_after(1.0)
        assert not link.transport.aborted


class TestErrors:
    def test_an_exception_is_a_500_with_an_id_that_is_in_the_log(
        self, link: Link, app: EchoApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app, "answer", lambda exchange: 1 / 0)
        with caplog.at_level(logging.ERROR, "triscale.http"):
            response = link.request("GET", "/a")
        assert response.status == 500
        incident = response.json["id"]
        assert response.error == f"internal error; the server's log has it as incident {incident}"
        (record,) = caplog.records
        assert incident in record.message
        assert record.exc_info is not None
        monkeypatch.undo()
        assert link.request("GET", "/b").status == 200

    def test_a_request_error_is_its_status_and_text(
        self, link: Link, app: EchoApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(exchange: Exchange) -> None:
            raise InvalidRequest("not this")

        monkeypatch.setattr(app, "answer", refuse)
        response = link.request("GET", "/a")
        assert (response.status, response.json) == (400, {"error": "not this"})
        assert not link.transport.closing

    def test_an_exception_before_the_body_closes(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(EchoApp):
            def admit(self, exchange: Exchange) -> None:
                raise ZeroDivisionError

        link = Link(Broken())
        link.send(request_bytes("POST", "/", bytes(LARGE)))
        assert link.response.status == 500
        assert "ZeroDivisionError" in caplog.text

    def test_a_client_that_is_gone_is_told_to_the_app_once(self, link: Link, app: EchoApp) -> None:
        app.held = True
        gone: list[bytes] = []
        link.send(request_bytes("GET", "/a") + request_bytes("GET", "/b") + request_bytes("GET", "/c"))
        for exchange in app.exchanges:
            exchange.on_gone = lambda target=exchange.target: gone.append(target)
        app.answer(app.exchanges[1])
        link.hang_up()
        assert gone == [b"/a", b"/c"]
        for exchange in app.exchanges:
            app.answer(exchange)
        assert link.responses == []

    def test_a_cancel_that_fails_does_not_keep_others_from_theirs(
        self, link: Link, app: EchoApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        app.held = True
        link.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        gone: list[str] = []
        app.exchanges[0].on_gone = lambda: gone.append(str(1 / 0))
        app.exchanges[1].on_gone = lambda: gone.append("b")
        link.hang_up()
        assert gone == ["b"]
        assert "cancelling a request whose client is gone failed" in caplog.text


class TestDraining:
    def test_an_idle_connection_closes_at_once(self, link: Link) -> None:
        link.request("GET", "/")
        link.state.closing = True
        link.connection.drain()
        assert link.transport.closing

    def test_requests_in_progress_are_answered_and_the_last_one_says_so(self, link: Link, app: EchoApp) -> None:
        app.held = True
        link.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        link.state.closing = True
        link.connection.drain()
        assert not link.transport.closing
        for exchange in app.exchanges:
            app.answer(exchange)
        assert [response.headers.get("connection") for response in link.responses] == [None, "close"]
        assert link.transport.closing

    def test_what_came_after_the_last_answer_is_abandoned(self, link: Link, app: EchoApp) -> None:
        app.held = True
        gone: list[str] = []
        link.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        link.state.closing = True
        app.answer(app.exchanges[1])
        link.send(request_bytes("GET", "/c"))
        app.exchanges[2].on_gone = lambda: gone.append("c")
        app.answer(app.exchanges[0])
        app.answer(app.exchanges[2])
        assert bodies(link) == [b"GET /a ", b"GET /b "]
        assert gone == ["c"]

    def test_what_was_sent_along_with_the_last_request_is_not_begun(self, link: Link, app: EchoApp) -> None:
        link.state.closing = True
        link.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        assert bodies(link) == [b"GET /a "]
        assert len(app.exchanges) == 1

    def test_a_request_that_is_arriving_is_still_served(self, link: Link) -> None:
        link.send(b"GET / HT")
        link.state.closing = True
        link.connection.drain()
        link.send(b"TP/1.1\r\n\r\n")
        assert (link.response.status, link.response.headers["connection"]) == (200, "close")

    def test_the_server_learns_when_the_last_connection_is_gone(self, link: Link) -> None:
        empty: list[bool] = []
        link.state.on_empty = lambda: empty.append(True)
        link.hang_up()
        assert empty == [True]
        assert link.state.connections == set()


class TestCompressedRequests:
    def test_a_small_body_is_inflated(self, link: Link) -> None:
        response = link.request("POST", "/", zlib.compress(b"hello"), {"content-encoding": "deflate"})
        assert response.body == b"POST / hello"

    @pytest.mark.parametrize("coding", ["identity", ""])
    def test_identity_is_no_coding(self, link: Link, coding: str) -> None:
        assert link.request("POST", "/", b"hello", {"content-encoding": coding}).body == b"POST / hello"

    def test_a_broken_body_is_a_bad_request_on_a_connection_that_goes_on(self, link: Link) -> None:
        response = link.request("POST", "/", b"hello", {"content-encoding": "gzip"})
        assert response.status == 400
        assert response.error.startswith("the body is not valid gzip")
        assert link.request("GET", "/a").status == 200

    def test_a_client_that_is_gone_while_its_body_is_inflated_is_forgotten(self, app: EchoApp) -> None:
        async def send_and_leave() -> None:
            link = Link(app)
            link.send(request_bytes("POST", "/", gzip.compress(os.urandom(10_000)), {"content-encoding": "gzip"}))
            link.hang_up()
            await asyncio.get_running_loop().shutdown_default_executor()

        asyncio.run(send_and_leave())
        assert app.exchanges == []

    def test_without_threads_to_inflate_it_a_large_body_is_still_answered(
        self, link: Link, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = link.request("POST", "/", gzip.compress(os.urandom(10_000)), {"content-encoding": "gzip"})
        assert response.status == 500
        assert "no running event loop" in caplog.text

    def test_a_small_bomb_is_too_large(self, app: EchoApp) -> None:
        link = Link(app, Limits(body_bytes=10_000))
        response = link.request("POST", "/", zlib.compress(bytes(100_000)), {"content-encoding": "deflate"})
        assert response.status == 413


FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.0\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 70000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        bytes(70_000),
    ]
)


class TestAnything:
    @given(st.lists(st.one_of(st.binary(max_size=40), FRAGMENTS), max_size=12))
    def test_whatever_arrives_is_answered_or_waited_for_and_never_crashes(self, pieces: list[bytes]) -> None:
        app = EchoApp()
        link = Link(app)
        for piece in pieces:
            link.send(piece)
        link.connection.eof_received()
        written = bytes(link.transport.written).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        statuses = [response.status for response in read_responses(written)]
        assert set(statuses) <= {200, 400, 413}
        assert len(app.exchanges) <= len(statuses)
        assert link.connection._responses.pending == type(link.connection._responses.pending)()
        link.transport.closing = True
        link.connection.connection_lost(None)
        assert link.state.connections == set()

    @given(st.binary(max_size=200))
    def test_bytes_without_meaning_are_refused_or_waited_for(self, data: bytes) -> None:
        link = Link(EchoApp())
        link.send(data)
        link.check_after(11.0)
        closed = link.transport.closing or link.transport.eof
        assert closed or any(response.status == 200 for response in link.responses)

    def test_a_handler_that_raises_after_answering_is_only_logged(
        self, link: Link, app: EchoApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer: Any = app.answer

        def answer_and_raise(exchange: Exchange) -> None:
            answer(exchange)
            raise RuntimeError("afterwards")

        monkeypatch.setattr(app, "answer", answer_and_raise)
        assert link.request("GET", "/a").status == 200
        assert "afterwards" in caplog.text
        assert len(link.responses) == 1
