"""The server on real sockets: what only the kernel and an event loop can get wrong."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import queue
import socket
import ssl
import threading
import zlib
from collections.abc import Callable

import pytest

from tests.integration.http.conftest import PEM, Serve, ThreadedServer
from tests.unit.serve.conftest import EchoApp, FakeService, answered, read_responses, request_bytes
from triscale.errors import ConfigError
from triscale.serve.exchange import Exchange
from triscale.serve.limits import Limits
from triscale.serve.listener import HttpServer, open_sockets
from triscale.serve.routes import InferenceApi

MIB = 1024 * 1024
INFER = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}).encode()


class HeldApp(EchoApp):
    """Holds every exchange; tells the test of each, and of each client that leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.held = True
        self.arrived: queue.Queue[Exchange] = queue.Queue()
        self.gone: queue.Queue[bytes] = queue.Queue()

    def handle(self, exchange: Exchange) -> None:
        exchange.on_gone = lambda: self.gone.put(exchange.target)
        self.arrived.put(exchange)


def connect(server: ThreadedServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10.0)


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = bytearray()
    while piece := client.recv(65536):
        data += piece
    return bytes(data)


def read_until_cut_off(client: socket.socket) -> bytes:
    """Everything until the server closes, orderly or not."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            data += piece
    return bytes(data)


def client(server: ThreadedServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=10.0)


def test_requests_of_every_size_come_back(serve: Serve) -> None:
    connection = client(serve(EchoApp()))
    for size in (0, 1, 65_535, 65_536, 65_537, 300_000, 5 * MIB):
        body = os.urandom(size)
        connection.request("POST", "/x", body)
        assert connection.getresponse().read() == b"POST /x " + body
    connection.close()


def test_many_clients_at_once_get_their_own_answers(serve: Serve) -> None:
    server = serve(EchoApp())
    failures: list[object] = []

    def run(number: int) -> None:
        connection = client(server)
        for turn in range(20):
            body = f"{number}-{turn}".encode() * (1 + turn * 500)
            connection.request("POST", "/x", body)
            if connection.getresponse().read() != b"POST /x " + body:
                failures.append((number, turn))
        connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    with connect(serve(EchoApp())) as raw:
        raw.sendall(b"".join(request_bytes("POST", f"/{n}", b"x" * (n * 3000)) for n in range(40)))
        raw.sendall(request_bytes("GET", "/last", headers={"connection": "close"}))
        found = read_responses(read_all(raw))
    assert [response.body for response in found] == [
        *[f"POST /{n} ".encode() + b"x" * (n * 3000) for n in range(40)],
        b"GET /last ",
    ]


def test_http_1_0_with_and_without_keep_alive(serve: Serve) -> None:
    server = serve(EchoApp())
    with connect(server) as raw:
        raw.sendall(request_bytes("GET", "/a", version="1.0", headers={"connection": "Keep-Alive"}))
        first = raw.recv(65536)
        raw.sendall(request_bytes("GET", "/b", version="1.0"))
        second = read_all(raw)
    assert b"\r\nconnection: keep-alive\r\n" in first
    assert first.endswith(b"GET /a ")
    assert b"\r\nconnection: close\r\n" in second
    assert second.endswith(b"GET /b ")


def test_small_writes_are_not_held_back(serve: Serve) -> None:
    app = HeldApp()
    server = serve(app)
    with connect(server) as raw:
        raw.sendall(request_bytes("GET", "/"))
        transport = app.arrived.get(timeout=10).connection._transport  # type: ignore[union-attr]
        option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option != 0


def test_a_client_that_disconnects_cancels_what_it_asked_for(serve: Serve) -> None:
    app = HeldApp()
    server = serve(app)
    raw = connect(server)
    raw.sendall(request_bytes("GET", "/a"))
    app.arrived.get(timeout=10)
    raw.close()
    assert app.gone.get(timeout=10) == b"/a"


def test_a_truncated_request_is_told_so(serve: Serve) -> None:
    with connect(serve(EchoApp())) as raw:
        raw.sendall(request_bytes("POST", "/", b"body")[:-1])
        raw.shutdown(socket.SHUT_WR)
        (response,) = read_responses(read_all(raw))
    assert (response.status, response.error) == (400, "the connection ended in the middle of a request")


@pytest.mark.parametrize("declared", [True, False])
def test_a_client_that_sends_too_much_sees_why(serve: Serve, declared: bool) -> None:
    server = serve(EchoApp(), Limits(body_bytes=100_000))
    body = bytes(20 * MIB)
    with connect(server) as raw:
        if declared:
            raw.sendall(request_bytes("POST", "/", body))
        else:
            raw.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body)
        (response,) = read_responses(read_all(raw))
    assert response.status == 413
    assert response.error == "the body is larger than 100000 bytes, this server's limit; send less at once"


def test_a_slow_client_is_told_so(serve: Serve) -> None:
    app = HeldApp()
    server = serve(app, Limits(head_timeout_s=5.0))
    with connect(server) as raw:
        raw.sendall(request_bytes("GET", "/held") + b"GET / HTTP/1.1\r\nhost:")
        exchange = app.arrived.get(timeout=10)
        server.check_after(5.1)
        server.run(lambda: app.answer(exchange))
        data = read_all(raw)
    assert [response.status for response in read_responses(data)] == [200, 408]


def test_an_idle_connection_is_closed(serve: Serve) -> None:
    server = serve(EchoApp())
    with connect(server) as raw:
        raw.sendall(request_bytes("GET", "/"))
        raw.recv(65536)
        server.check_after(75.1)
        assert raw.recv(1) == b""


def test_one_connection_too_many_is_told_so(serve: Serve) -> None:
    server = serve(EchoApp(), Limits(connections=1))
    with connect(server) as first, connect(server) as second:
        (response,) = read_responses(read_all(second))
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        first.sendall(request_bytes("GET", "/", headers={"connection": "close"}))
        assert read_responses(read_all(first))[0].status == 200


def test_a_client_that_reads_slowly_gets_everything_and_holds_up_nobody(serve: Serve) -> None:
    server = serve(EchoApp())
    body = os.urandom(16 * MIB)
    with connect(server) as slow:
        sender = threading.Thread(target=slow.sendall, args=(request_bytes("POST", "/slow", body),))
        sender.start()
        sender.join()
        quick = client(server)
        quick.request("GET", "/quick")
        assert quick.getresponse().read() == b"GET /quick "
        quick.close()
        slow.sendall(request_bytes("GET", "/then", headers={"connection": "close"}))
        large, then = read_responses(read_all(slow))
    assert large.body == b"POST /slow " + body
    assert then.body == b"GET /then "


def test_a_client_that_never_reads_is_cut_off(serve: Serve) -> None:
    app = HeldApp()
    server = serve(app, Limits(write_timeout_s=5.0))
    with connect(server) as raw:
        raw.sendall(request_bytes("GET", "/"))
        exchange = app.arrived.get(timeout=10)
        server.run(lambda: exchange.respond(200, bytes(64 * MIB)))
        server.check_after(1.0)
        server.check_after(5.1)
        server.check_after(5.1)
        assert len(read_until_cut_off(raw)) < 64 * MIB


class TestClosing:
    def test_requests_in_progress_finish_and_new_clients_are_turned_away(self, serve: Serve) -> None:
        app = HeldApp()
        server = serve(app)
        idle, busy = connect(server), connect(server)
        busy.sendall(request_bytes("GET", "/busy"))
        exchange = app.arrived.get(timeout=10)
        closing = server.begin(server.server.close(10.0))
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.run(lambda: app.answer(exchange))
        (response,) = read_responses(read_all(busy))
        assert (response.body, response.headers["connection"]) == (b"GET /busy ", "close")
        closing.result(10.0)
        assert server.server.connections == 0
        idle.close()
        busy.close()

    def test_what_outlasts_the_grace_is_cancelled(self, serve: Serve) -> None:
        app = HeldApp()
        server = serve(app)
        with connect(server) as raw:
            raw.sendall(request_bytes("GET", "/busy"))
            app.arrived.get(timeout=10)
            server.wait(server.server.close(0.0))
            assert app.gone.get(timeout=10) == b"/busy"
            assert read_until_cut_off(raw) == b""

    def test_connections_are_served_on_while_no_new_ones_are_taken(self, serve: Serve) -> None:
        server = serve(EchoApp())
        connection = client(server)
        for target in ("/before", "/still"):
            connection.request("GET", target)
            assert connection.getresponse().read() == f"GET {target} ".encode()
            server.run(server.server.stop_accepting)
        connection.close()

    def test_may_be_asked_for_twice(self, serve: Serve) -> None:
        server = serve(EchoApp())
        server.wait(server.server.close())
        server.wait(server.server.close())


class TestCompression:
    TEXT = b"all work and no play makes jack a dull boy " * 20_000

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_large_bodies_both_ways(self, serve: Serve, coding: str) -> None:
        connection = client(serve(EchoApp()))
        compress: Callable[[bytes], bytes] = gzip.compress if coding == "gzip" else zlib.compress
        decompress: Callable[[bytes], bytes] = gzip.decompress if coding == "gzip" else zlib.decompress
        noise = os.urandom(100_000)
        for body in (self.TEXT, noise + self.TEXT):
            connection.request("POST", "/x", compress(body), {"content-encoding": coding, "accept-encoding": coding})
            response = connection.getresponse()
            assert response.headers["content-encoding"] == coding
            assert decompress(response.read()) == b"POST /x " + body
        connection.close()

    def test_responses_stay_as_they_are_where_that_is_better(self, serve: Serve) -> None:
        connection = client(serve(EchoApp()))
        for body in (b"short", os.urandom(5_000), os.urandom(100_000)):
            connection.request("POST", "/x", body, {"accept-encoding": "gzip, deflate"})
            response = connection.getresponse()
            assert response.headers["content-encoding"] is None
            assert response.read() == b"POST /x " + body
        connection.close()

    def test_a_large_bomb_is_refused_and_the_connection_goes_on(self, serve: Serve) -> None:
        connection = client(serve(EchoApp(), Limits(body_bytes=MIB)))
        connection.request("POST", "/x", gzip.compress(bytes(100 * MIB)), {"content-encoding": "gzip"})
        assert connection.getresponse().read().startswith(b'{"error":"the body unfolds to more than 1048576 bytes')
        connection.request("GET", "/after")
        assert connection.getresponse().read() == b"GET /after "
        connection.close()

    def test_a_large_body_that_is_broken_is_refused(self, serve: Serve) -> None:
        connection = client(serve(EchoApp()))
        connection.request("POST", "/x", os.urandom(50_000), {"content-encoding": "gzip"})
        assert connection.getresponse().status == 400
        connection.close()

    def test_responses_keep_their_order_whatever_takes_longer(self, serve: Serve) -> None:
        with connect(serve(EchoApp())) as raw:
            raw.sendall(
                request_bytes("POST", "/big", self.TEXT, {"accept-encoding": "gzip"})
                + request_bytes("GET", "/small", headers={"connection": "close"})
            )
            big, small = read_responses(read_all(raw))
        assert (gzip.decompress(big.body), small.body) == (b"POST /big " + self.TEXT, b"GET /small ")


class TestTls:
    def test_large_and_small_bodies(self, serve: Serve) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(PEM)
        server = serve(EchoApp(), tls=context)
        connection = http.client.HTTPSConnection(
            "localhost", server.port, timeout=10.0, context=ssl.create_default_context(cafile=PEM)
        )
        for size in (0, 10, 100_000, 3 * MIB):
            body = os.urandom(size)
            connection.request("POST", "/x", body)
            assert connection.getresponse().read() == b"POST /x " + body
        connection.close()

    def test_a_refusal_is_seen(self, serve: Serve) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(PEM)
        server = serve(EchoApp(), tls=context)
        trusting = ssl.create_default_context(cafile=PEM)
        with trusting.wrap_socket(connect(server), server_hostname="localhost") as raw:
            raw.sendall(b"garbage\r\n\r\n")
            (response,) = read_responses(read_all(raw))
        assert response.status == 400


class TestListening:
    def test_a_port_that_is_taken_is_told(self) -> None:
        (taken,) = open_sockets("127.0.0.1", 0)
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; stop what"):
            open_sockets("127.0.0.1", port)
        taken.close()

    @pytest.mark.parametrize("host", ["no such host", "203.0.113.1"])
    def test_an_address_that_is_not_here_is_told(self, host: str) -> None:
        with pytest.raises(
            ConfigError, match=r"cannot listen on .*; give (an address of this machine|a name or address)"
        ):
            open_sockets(host, 0)

    def test_every_address_of_a_name_has_the_same_port(self) -> None:
        sockets = open_sockets("localhost", 0)
        assert len({opened.getsockname()[1] for opened in sockets}) == 1
        for opened in sockets:
            opened.close()

    def test_a_server_that_cannot_start_can_be_closed(self, serve: Serve) -> None:
        running = serve(EchoApp())
        second = HttpServer(EchoApp())
        with pytest.raises(ConfigError, match="already in use"):
            running.wait(second.start("127.0.0.1", running.port))
        running.wait(second.close())


class TestInference:
    def test_an_answer_that_takes_a_while(self, server: ThreadedServer, service: FakeService) -> None:
        calls: queue.Queue[None] = queue.Queue()
        service.reply = lambda call: calls.put(None)
        connection = client(server)
        connection.request("POST", "/v2/models/m/infer", INFER)
        calls.get(timeout=10)
        call = service.calls[0]
        server.run(lambda: call.on_done(answered(*[[row] for row in call.rows])))
        document = json.loads(connection.getresponse().read())
        assert document["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]
        connection.close()

    def test_a_client_that_disconnects_cancels_its_call(self, serve: Serve, service: FakeService) -> None:
        cancelled: queue.Queue[int] = queue.Queue()
        service.reply = lambda call: None
        service.cancel = cancelled.put  # type: ignore[method-assign,assignment]
        with connect(serve(InferenceApi(service))) as raw:
            raw.sendall(request_bytes("POST", "/v2/models/m/infer", INFER) * 2)
            raw.shutdown(socket.SHUT_WR)
            assert {cancelled.get(timeout=10), cancelled.get(timeout=10)} == {0, 1}
