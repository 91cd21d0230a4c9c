"""The server's end of a connection: what it makes of a replica that behaves, and of one that does not.

The replica is a session in a thread where it behaves, and a scripted socket where it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from tests.unit.replica.stand import WAIT, Echo, Gate
from triscale.core.cluster import ReplicaId, ReplicaSpec, Resizing
from triscale.core.model import Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.dispatch.results import Rejection
from triscale.errors import ConfigError, EngineError, WireError
from triscale.replica.address import bound
from triscale.replica.client import ReplicaClient
from triscale.replica.config import ReplicaConfig
from triscale.replica.connection import Connection
from triscale.replica.residents import Residents
from triscale.replica.server import Session
from triscale.wire import frames
from triscale.wire.frames import FrameReader, Message, encode
from triscale.wire.payload import Payload, pack, unpack

Run = Callable[[Coroutine[Any, Any, None]], None]
Script = Callable[["Fake"], None]

_numbers = itertools.count()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine, on each kind of event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario, WAIT))


class Observer:
    """Collects what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self.losses: list[str] = []

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[Any]) -> None:
        assert service_s >= 0
        self.told.put_nowait((batch_id, results))

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:
        self.told.put_nowait((batch_id, (kind, message)))

    def lost(self, client: ReplicaClient, reason: str) -> None:
        self.losses.append(reason)


@contextlib.asynccontextmanager
async def connected(
    model: Model, lanes: int = 1, address: str = "", token: str = "", **options: Any
) -> AsyncIterator[tuple[ReplicaClient, Observer]]:
    """A client of a session that serves `model` as variant v of a stage with the child `next`."""
    address = address or f"unix:@triscale-test-{os.getpid()}-{next(_numbers)}"
    config = ReplicaConfig(
        spec=ReplicaSpec(id=ReplicaId("s-1"), stage="s", variants=("v",), lanes=lanes),
        variants=(Variant(name="v", model="m:M"), Variant(name="w", model="no.such.module:M")),
        token=token,
        beat_s=0.02,
    )
    residents = Residents("s", config.variants, ("next",), ("/nowhere",), Resources(lanes=lanes))
    residents.adopt("v", "variant v", model, 0.0, 1)
    with bound(address) as listener:
        if address.startswith("tcp:"):
            address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with contextlib.suppress(WireError):
                Session(config, residents, Connection(listener.accept()[0]), lambda cpus: None).serve()

        thread = threading.Thread(target=serve)
        thread.start()
        observer = Observer()
        try:
            client = await ReplicaClient.connect(address, token=token, **options)
            client.observer = observer
            try:
                yield client, observer
            finally:
                client.close()
        finally:
            await asyncio.to_thread(thread.join, WAIT)
            assert not thread.is_alive()


class Fake:
    """A scripted replica's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()

    def send(self, *messages: Message, body: bytes = b"") -> None:
        for message in messages:
            self.sock.sendall(b"".join(bytes(piece) for piece in encode(message, [body], len(body))))

    def expect(self, kind: type[Message]) -> None:
        while True:
            data = self.sock.recv(65536)
            assert data
            if any(isinstance(message, kind) for message, _ in self.reader.feed(data)):
                return

    def ready(self) -> None:
        self.expect(frames.Hello)
        self.send(frames.Ready({"v": 0.1}, lanes=1, threads=1, pid=1, rss=1, children=1, arena=False))


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """The address of a replica that does as the script says, then waits for the client to leave."""
    address = f"unix:@triscale-test-{os.getpid()}-{next(_numbers)}"
    with bound(address) as listener:

        def play() -> None:
            with listener.accept()[0] as sock:
                sock.settimeout(WAIT)
                script(Fake(sock))
                with contextlib.suppress(OSError):
                    while sock.recv(65536):
                        pass

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield address
        finally:
            await asyncio.to_thread(thread.join, WAIT)
            assert not thread.is_alive()


async def loss_of(script: Script, **options: Any) -> str:
    """Why a client of a scripted replica, with batch 1 of one item in flight, loses it."""
    async with scripted(script) as address:
        client = await ReplicaClient.connect(address, **options)
        client.observer = observer = Observer()
        client.run(1, "v", [[pack({"i": 1})]])
        await asyncio.shield(client.ended)
        client.lose("again")
        client.close()
        await asyncio.sleep(0)
    assert len(observer.losses) == 1, "told exactly once"
    assert observer.told.empty()
    return observer.losses[0]


def values_of(payload: Payload | None) -> dict[str, Any]:
    assert payload is not None
    return dict(unpack(payload))


def test_results_come_back_as_outputs_and_items_per_child(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            client.run(5, "v", [[pack({"i": i})] for i in range(3)])
            batch, results = await observer.told.get()
            assert batch == 5
            for i, (output, [[item]]) in enumerate(results):
                assert values_of(output) == values_of(item) == {"i": i}
            assert client.in_flight == {}

    run(scenario())


def test_rejections_and_absent_outputs_come_back_as_such(run: Run) -> None:
    class Picky(Model):
        def predict(self, batch: list[Item]) -> list[Result | Rejected]:
            return [Rejected("odd") if int(str(item["i"])) % 2 else Result() for item in batch]

    async def scenario() -> None:
        async with connected(Picky()) as (client, observer):
            client.run(1, "v", [[pack({"i": i})] for i in range(3)])
            _, [first, second, third] = await observer.told.get()
            assert first == third == (None, ([],))
            assert isinstance(second, Rejection)
            assert second.message == "odd"

    run(scenario())


def test_failed_batches_are_told_with_kind_and_message(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            client.run(1, "w", [[pack({})]])
            text = "variant 'w' is not resident in replica s-1; it holds: v"
            assert await observer.told.get() == (1, ("not_resident", text))

    run(scenario())


@pytest.mark.parametrize("arena", [0, 2**20, 2**26])
def test_payloads_of_any_size_survive_with_and_without_shared_memory(run: Run, arena: int) -> None:
    async def scenario() -> None:
        async with connected(Echo(), lanes=2, arena_bytes=arena) as (client, observer):
            sizes = [0, 1, 1000, 65_535, 65_536, 150_000, 2_400_000] * 3
            for batch, size in enumerate(sizes):
                client.run(batch, "v", [[pack({"x": np.full(size, batch, np.uint8)})]] * 2)
            for _ in sizes:
                batch, results = await observer.told.get()
                for output, [[item]] in results:
                    for payload in (output, item):
                        array = values_of(payload)["x"]
                        assert array.shape == (sizes[batch],)
                        assert (array == batch).all()

    run(scenario())


def test_arena_slots_all_come_back(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            for batch in range(50):
                client.run(batch, "v", [[pack({"x": np.zeros(500_000, np.uint8)})]])
                await observer.told.get()
            outbox = client._link.outbox
            assert outbox is not None
            while outbox.used:
                await asyncio.sleep(0.01)  # the last ones come with a beat

    run(scenario())


def test_memory_that_is_kept_is_not_written_again(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo(), arena_bytes=2**20) as (client, observer):
            kept = []
            for batch in range(30):  # far more than the arena holds
                client.run(batch, "v", [[pack({"x": np.full(100_000, batch, np.uint8)})]])
                _, [(output, _)] = await observer.told.get()
                kept.append(values_of(output)["x"])
            assert all((array == batch).all() for batch, array in enumerate(kept))

    run(scenario())


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_files_and_tcp_work_as_addresses_too(run: Run, kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix:{tmp_path / 'socket'}" if kind == "unix" else "tcp:127.0.0.1:0"
        async with connected(Echo(), address=address, token="t") as (client, observer):
            client.run(1, "v", [[pack({"x": np.ones(200_000, np.uint8)})]])
            _, [(output, _)] = await observer.told.get()
            assert values_of(output)["x"].sum() == 200_000

    run(scenario())


@pytest.mark.parametrize("address", ["", "unix:", "tcp:1", "tcp:h:x", "tcp:h:99999", "http://h:1"])
def test_what_is_no_address_is_refused(run: Run, address: str) -> None:
    async def scenario() -> None:
        with pytest.raises(
            ConfigError, match="is not a replica's address; write unix:PATH, unix:@NAME or tcp:HOST:PORT"
        ):
            await ReplicaClient.connect(address)

    run(scenario())


def test_resizing_reports_what_is_in_force(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, _):
            resized = await client.resize(3, 2)
            assert (resized.status, resized.lanes, resized.threads) == (Resizing.APPLIED, 3, 2)
            assert resized.seconds >= 0
            refused = await client.resize(0, 1)
            assert (refused.status, refused.lanes, refused.threads) == (Resizing.INFEASIBLE, 3, 2)
            assert refused.reason == "a replica needs at least 1 lane of 1 thread, not 0 of 1"

    run(scenario())


def test_a_resize_that_is_overtaken_ends_with_the_newer_one(run: Run, gate: Gate) -> None:
    async def scenario() -> None:
        async with connected(gate, lanes=2) as (client, _):
            client.run(1, "v", [[pack({})]])
            client.run(2, "v", [[pack({})]])
            for _ in range(2):
                await asyncio.to_thread(gate.entered.acquire, timeout=WAIT)
            older = asyncio.ensure_future(client.resize(1, 1))
            await asyncio.sleep(0)
            newer = await client.resize(4, 1)
            assert (newer.status, newer.lanes) == (Resizing.APPLIED, 4)
            resized = await older
            assert (resized.status, resized.lanes) == (Resizing.DEFERRED, 4)
            assert resized.reason == "overtaken by a newer resize"
            gate.open.set()

    run(scenario())


def test_loading_what_cannot_be_loaded_says_why(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, _):
            with pytest.raises(
                EngineError, match=r"variant w of stage s .*: there is no module 'no'; looked in /nowhere"
            ):
                await client.load("w")
            assert await client.load("v") == 0.0
            await client.unload("v")
            with pytest.raises(EngineError, match="variant 'v' of stage s is not resident"):
                await client.unload("v")

    run(scenario())


def test_drain_returns_when_everything_is_answered(run: Run, gate: Gate) -> None:
    async def scenario() -> None:
        async with connected(gate) as (client, observer):
            client.run(1, "v", [[pack({})]])
            client.run(2, "v", [[pack({})]])
            draining = asyncio.ensure_future(client.drain())
            await asyncio.sleep(0)
            gate.open.set()
            assert await draining
            assert [observer.told.get_nowait()[0] for _ in range(2)] == [1, 2]
            assert observer.losses == ["drained"]

    run(scenario())


def test_closing_tells_nobody(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            client.close()
            client.close()
            assert client.ended.result() == "closed"
            client.run(1, "v", [[pack({})]])
        assert observer.losses == []

    run(scenario())


def test_an_observer_that_comes_late_is_told_of_the_end(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            client.lose("a test")
            late = Observer()
            client.observer = late
            assert late.losses == []
            await asyncio.sleep(0)
            assert late.losses == observer.losses == ["a test"]

    run(scenario())


def test_a_batch_over_the_limit_is_refused_before_it_is_sent(run: Run) -> None:
    async def scenario() -> None:
        async with connected(Echo(), max_body=1000) as (client, _):
            with pytest.raises(WireError, match="a batch of 1200 bytes exceeds the limit of 1000"):
                client.run(1, "v", [[pack({"x": b"x" * 600})]] * 2)
            assert client.in_flight == {}

    run(scenario())


def test_a_batch_of_too_many_items_is_refused_and_leaves_nothing_in_the_arena(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with connected(Echo()) as (client, observer):
            monkeypatch.setattr(frames, "MAX_HEADER", 1000)
            large = pack({"x": np.zeros(100_000, np.uint8)})
            with pytest.raises(WireError, match="a Run frame's header of"):
                client.run(1, "v", [[large]] * 100)
            outbox = client._link.outbox
            assert outbox is not None
            assert (client.in_flight, outbox.used) == ({}, 0)
            client.run(2, "v", [[large]])
            assert (await observer.told.get())[0] == 2

    run(scenario())


def test_questions_end_with_the_connection(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Resize)
        fake.sock.shutdown(socket.SHUT_RDWR)

    async def scenario() -> None:
        async with scripted(script) as address:
            client = await ReplicaClient.connect(address)
            with pytest.raises(EngineError, match="the connection to the replica ended: it closed the connection"):
                await client.resize(2, 1)
            assert client.ended_by_peer

    run(scenario())


def test_a_replica_that_cannot_serve_is_quoted(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.expect(frames.Hello)
        fake.send(frames.Fatal("no weights"))

    async def scenario() -> None:
        async with scripted(script) as address:
            with pytest.raises(EngineError, match=r"^no weights$"):
                await ReplicaClient.connect(address)

    run(scenario())


def test_a_replica_that_ends_before_it_is_ready_is_an_os_error(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.expect(frames.Hello)
        fake.sock.shutdown(socket.SHUT_RDWR)

    async def scenario() -> None:
        async with scripted(script) as address:
            with pytest.raises(OSError, match="it closed the connection"):
                await ReplicaClient.connect(address)
        with pytest.raises(OSError, match="refused"):
            await ReplicaClient.connect(address)

    run(scenario())


def test_a_connect_that_is_cancelled_leaves_nothing_behind(run: Run) -> None:
    async def scenario() -> None:
        async with scripted(lambda fake: fake.expect(frames.Hello)) as address:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ReplicaClient.connect(address), 0.05)

    run(scenario())


def done(*items: Any, batch: int = 1) -> frames.Done:
    return frames.Done(batch, 0.0, list(items))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (done(), "0 results for batch 1, of which 1 are expected"),
        (done("a", "b"), "2 results for batch 1, of which 1 are expected"),
        (done("a", batch=9), "1 results for batch 9, of which None are expected"),
        (done((None, [])), "items for 0 child stages, of which there are 1"),
        (done(((b"", 5, -1), [[]])), "a payload claims 5 bytes where 0 are left in its frame"),
        (done(((b"", 5, 0), [[]])), "a payload in an arena, but this connection has none"),
        (frames.Failed(9, "model_error", "x"), "an answer to batch 9, which is not in flight"),
        (frames.Beat(0, 0, [1]), "arena slots are freed, but this connection has no arena"),
        (frames.Drain(), "Drain, which only a server sends"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_loss(run: Run, answer: Message, reason: str) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Run)
        fake.send(answer)

    async def scenario() -> None:
        lost = await loss_of(script)
        assert lost.startswith("it sent what is not a valid frame: ")
        assert reason in lost

    run(scenario())


def test_garbage_is_a_loss(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Run)
        fake.sock.sendall(b"Segmentation fault (core dumped)\n")

    async def scenario() -> None:
        assert "the peer is not triscale" in await loss_of(script)

    run(scenario())


def test_an_oversize_body_is_a_loss(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Run)
        fake.send(frames.Beat(0, 0), body=b"x" * 3000)

    async def scenario() -> None:
        assert "body of 3000 bytes exceeds the limit of 2000" in await loss_of(script, max_body=2000)

    run(scenario())


def test_a_connection_cut_within_a_frame_is_said_to_be(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Run)
        fake.sock.sendall(bytes(encode(frames.Beat(0, 0))[0])[:-1])
        fake.sock.shutdown(socket.SHUT_RDWR)

    async def scenario() -> None:
        assert await loss_of(script) == "it closed the connection in the middle of a frame"

    run(scenario())


def test_silence_is_a_loss(run: Run) -> None:
    async def scenario() -> None:
        assert await loss_of(lambda fake: fake.ready(), heartbeat_timeout=0.05) == "no heartbeat for 0.05 s"

    run(scenario())


def test_beats_are_signs_of_life(run: Run, gate: Gate) -> None:
    async def scenario() -> None:
        async with connected(gate, heartbeat_timeout=1.0) as (client, observer):
            client.run(1, "v", [[pack({})]])
            while not client.busy:
                await asyncio.sleep(0.01)
            assert client.rss > 2**20
            assert observer.losses == []
            gate.open.set()

    run(scenario())


def test_what_was_done_before_the_end_is_told_before_the_loss(run: Run) -> None:
    def script(fake: Fake) -> None:
        fake.ready()
        fake.expect(frames.Run)
        fake.send(done("no"), frames.Fatal("and now the end"))

    async def scenario() -> None:
        async with scripted(script) as address:
            client = await ReplicaClient.connect(address)
            client.observer = observer = Observer()
            client.run(1, "v", [[pack({})]])
            assert (await observer.told.get())[0] == 1
            await asyncio.shield(client.ended)
            assert observer.losses == ["and now the end"]

    run(scenario())
