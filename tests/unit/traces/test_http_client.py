from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from triscale.clock import monotonic
from triscale.errors import ConfigError
from triscale.traces.http_client import ConnectionPool, Endpoint, Exchange, endpoint_of

REQUEST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


class Sending:
    """Submits requests to a pool and waits for all to end."""

    def __init__(self, url: str, limit: int = 512) -> None:
        self.pool = ConnectionPool(endpoint_of(url), limit)
        self.ended: list[Exchange] = []
        self._waiters: list[tuple[int, asyncio.Event]] = []

    def submit(self, timeout: float = 5.0) -> Exchange:
        exchange = Exchange(REQUEST, monotonic() + timeout, self._done)
        self.pool.submit(exchange)
        return exchange

    def _done(self, exchange: Exchange) -> None:
        self.ended.append(exchange)
        for count, event in self._waiters:
            if len(self.ended) >= count:
                event.set()

    async def until(self, count: int) -> list[Exchange]:
        event = asyncio.Event()
        self._waiters.append((count, event))
        if len(self.ended) < count:
            await event.wait()
        return self.ended


@pytest.mark.parametrize(
    ("url", "endpoint", "authority"),
    [
        ("http://127.0.0.1:8000", Endpoint("127.0.0.1", 8000, tls=False), "127.0.0.1:8000"),
        ("https://host/", Endpoint("host", 443, tls=True), "host"),
        ("http://host:443", Endpoint("host", 443, tls=False), "host:443"),
        ("http://h:1/seldon/ns/model/", Endpoint("h", 1, tls=False, prefix="/seldon/ns/model"), "h:1"),
        ("http://[::1]:9", Endpoint("::1", 9, tls=False), "[::1]:9"),
    ],
)
def test_urls_of_servers(url: str, endpoint: Endpoint, authority: str) -> None:
    assert endpoint_of(url) == endpoint
    assert endpoint_of(url).authority == authority


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h:1", "http://", "http://h:x", "http://h:1?a=b", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a server's address; write it like http://127\.0\.0\.1:8000"):
        endpoint_of(url)


def test_a_route_is_no_address() -> None:
    with pytest.raises(ConfigError, match="names a route of the protocol; give the server's address only"):
        endpoint_of("http://h:1/v2/models/ocr")


def test_a_connection_is_used_again_and_again(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda n: behaviour(text=str(n))) as server:
            sending = Sending(server.url)
            for count in range(1, 6):
                sending.submit()
                await sending.until(count)
            assert server.most_connections == 1
            assert [exchange.status for exchange in sending.ended] == [200] * 5
            assert all(str(n).encode() in exchange.body for n, exchange in enumerate(sending.ended))
            assert all(exchange.sent <= exchange.finished for exchange in sending.ended)
            await sending.pool.close()

    asyncio.run(scenario())


def test_requests_at_the_same_time_each_get_a_connection(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour()) as server:
            sending = Sending(server.url)
            for _ in range(20):
                sending.submit()
            await sending.until(20)
            assert server.seen["infer"] == 20
            assert server.most_connections > 1
            await sending.pool.close()

    asyncio.run(scenario())


def test_no_more_connections_than_the_limit_and_nobody_is_forgotten(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour()) as server:
            sending = Sending(server.url, limit=3)
            for _ in range(50):
                sending.submit()
            ended = await sending.until(50)
            assert server.most_connections <= 3
            assert [exchange.status for exchange in ended] == [200] * 50
            await sending.pool.close()

    asyncio.run(scenario())


def test_a_server_may_close_after_each_answer(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(keep_alive=False)) as server:
            sending = Sending(server.url, limit=1)
            for _ in range(5):
                sending.submit()
            ended = await sending.until(5)
            assert [exchange.status for exchange in ended] == [200] * 5
            await sending.pool.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [({"close": True}, "connection_lost"), ({"garbage": True}, "bad_response"), ({"hang": True}, "timeout")],
)
def test_a_fault_ends_its_own_exchange_only_and_is_not_tried_again(
    fault: dict[str, bool], reason: str, serving: Any, behaviour: Any
) -> None:
    async def scenario() -> None:
        async with serving(lambda n: behaviour(**fault) if n == 1 else behaviour()) as server:
            sending = Sending(server.url)
            for count in range(1, 4):
                sending.submit(timeout=0.05 if fault.get("hang") else 5.0)
                await sending.until(count)
            assert [exchange.reason for exchange in sending.ended] == ["", reason, ""]
            assert [exchange.status for exchange in sending.ended] == [200, 0, 200]
            assert server.seen["infer"] == 3
            await sending.pool.close()

    asyncio.run(scenario())


def test_every_exchange_ends_when_no_server_listens() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
            sending = Sending(f"http://127.0.0.1:{taken.getsockname()[1]}", limit=2)
            for _ in range(10):
                sending.submit()
            ended = await sending.until(10)
            assert {exchange.reason for exchange in ended} == {"no_connection"}
            assert all(exchange.sent == 0.0 for exchange in ended)
            await sending.pool.close()

    asyncio.run(scenario())


def test_a_server_without_tls_is_told_apart_from_none() -> None:
    async def scenario() -> None:
        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 this is not TLS\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        sending = Sending(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        sending.submit()
        (exchange,) = await sending.until(1)
        assert (exchange.reason, exchange.sent) == ("no_tls", 0.0)
        await sending.pool.close()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


def test_what_never_got_a_connection_is_told_apart_from_what_the_server_had(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(hang=True)) as server:
            sending = Sending(server.url, limit=1)
            sending.submit()
            waiting = sending.submit()
            await server.received.wait()
            sending.pool.abandon("stopped")
            assert [exchange.reason for exchange in sending.ended] == ["stopped", "no_connection"]
            assert waiting.sent == 0.0
            await sending.pool.close()

    asyncio.run(scenario())


def test_one_that_hangs_does_not_keep_the_others_in_memory(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda n: behaviour(hang=n == 0)) as server:
            sending = Sending(server.url)
            for sent in range(30):
                for _ in range(100):
                    sending.submit(timeout=3600.0)
                await sending.until(100 * (sent + 1) - 1)
            sending.pool._sweep()
            # At most twice what was in flight at the sweep before, and a thousand.
            assert len(sending.pool._outstanding) <= 2 * 101 + 1000
            await sending.pool.close()
            assert len(sending.ended) == 3000

    asyncio.run(scenario())


def test_closing_ends_what_is_out_exactly_once(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(hang=True)) as server:
            sending = Sending(server.url)
            for _ in range(3):
                sending.submit()
            await server.received.wait()
            await sending.pool.close()
            await sending.pool.close()
            assert len(sending.ended) == 3
            assert sending.pool.size == 0

    asyncio.run(scenario())


def answering(*writes: bytes, then_close: bool = False) -> Any:
    """A handler of connections that reads one request and writes this."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        for data in writes:
            writer.write(data)
            await writer.drain()
        if not then_close:
            await reader.read()  # the client closes
        writer.close()

    return handle


def exchanged(handle: Any) -> Exchange:
    """What became of one request to a server that handles connections so."""

    async def scenario() -> Exchange:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        sending = Sending(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        sending.submit()
        (exchange,) = await sending.until(1)
        await sending.pool.close()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))  # the server's side
        server.close()
        await server.wait_closed()
        return exchange

    return asyncio.run(scenario())


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("writes", [(HINTS, FINAL), (HINTS + FINAL,)])
def test_interim_responses_are_passed_over(writes: tuple[bytes, ...]) -> None:
    exchange = exchanged(answering(*writes))
    assert (exchange.status, exchange.body) == (200, b"ok")
    assert b"link" not in exchange.headers


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    exchange = exchanged(answering(b"HTTP/1.0 200 OK\r\n\r\n", b"some ", b"text", then_close=True))
    assert (exchange.status, exchange.body, exchange.reason) == (200, b"some text", "")


def test_a_response_cut_short_is_none() -> None:
    exchange = exchanged(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", then_close=True))
    assert (exchange.status, exchange.reason) == (0, "connection_lost")


def test_of_several_addresses_the_one_that_somebody_listens_at_is_used(
    serving: Any, behaviour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour()) as server:
            port = int(server.url.rsplit(":", 1)[1])
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
            sending = Sending(f"http://two.invalid:{port}")
            loop = asyncio.get_running_loop()

            async def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
                return found if host == "two.invalid" else [entry for entry in found if entry[4][0] == host]

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            await sending.pool.resolve()
            sending.submit()
            (exchange,) = await sending.until(1)
            assert exchange.status == 200
            await sending.pool.close()

    asyncio.run(scenario())
