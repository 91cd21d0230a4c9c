"""A server with documents but no pipeline behind it, on a thread of its own: for commands that read documents."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests.unit.observe.live_scene import LiveScene
from tests.unit.serve.conftest import FakeService
from triscale.serve.listener import HttpServer
from triscale.serve.routes import InferenceApi
from triscale.serve.status_routes import Page


class ScenePages:
    """What a scene says of itself."""

    page: Page | None = None

    def __init__(self, scene: LiveScene) -> None:
        self.scene = scene

    def status(self) -> bytes:
        return msgspec.json.encode(self.scene.status())

    def history(self, since: int) -> bytes:
        return msgspec.json.encode(self.scene.history.since(since))

    def decisions(self, since: int) -> bytes:
        raise AssertionError("no command asks for them")


@contextmanager
def serving(pages: ScenePages | None, token: str = "") -> Iterator[str]:
    """The URL of a server that shows these pages, or serves the protocol alone."""
    started, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        server = HttpServer(InferenceApi(FakeService(), token, pages))
        await server.start("127.0.0.1", 0)
        urls.append(f"http://127.0.0.1:{server.port}")
        loops.append(asyncio.get_running_loop())
        started.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(10.0), "the server did not start"
        yield urls[0]
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join()
