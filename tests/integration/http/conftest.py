"""A real HTTP server on a real socket, in a thread with an event loop of its own, over a service that does as told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from tests.unit.serve.conftest import FakeService, echoing
from triscale.serve.exchange import App
from triscale.serve.limits import Limits
from triscale.serve.listener import HttpServer
from triscale.serve.routes import InferenceApi
from triscale.testing.clock import ManualClock

T = TypeVar("T")

PEM = Path(__file__).with_name("localhost.pem")
"""A key and a certificate for localhost, signed by itself, of no use for anything but these tests."""


class ThreadedServer:
    """A server whose loop runs beside the test; `wait` runs something on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: HttpServer, clock: ManualClock) -> None:
        self.loop = loop
        self.server = server
        self.clock = clock

    @property
    def port(self) -> int:
        return self.server.port

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20.0)

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self.wait(call())

    def check_after(self, seconds: float) -> None:
        """Let the server's clock go on, and have it look at its connections."""

        def check() -> None:
            self.clock.advance(seconds)
            self.server.check()

        self.run(check)


Serve = Callable[..., ThreadedServer]


@pytest.fixture(params=["uvloop", "asyncio"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Both event loops: users of embedded servers choose theirs."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop,
        "asyncio": asyncio.new_event_loop,
    }
    return loops[request.param]


@pytest.fixture
def serve(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Serve]:
    """Starts servers, and stops them when the test is over."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started: list[ThreadedServer] = []

    def start(
        app: App, limits: Limits | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> ThreadedServer:
        clock = ManualClock()
        found = ThreadedServer(loop, HttpServer(app, limits, tls=tls, now=clock.now), clock)
        started.append(found)
        found.wait(found.server.start(host, 0))
        return found

    async def stop() -> None:
        for server in started:
            await server.server.close()
        await loop.shutdown_default_executor()

    try:
        yield start
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def service() -> FakeService:
    return echoing()


@pytest.fixture
def server(serve: Serve, service: FakeService) -> ThreadedServer:
    """The inference API on `service`."""
    return serve(InferenceApi(service))
