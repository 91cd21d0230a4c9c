"""The worker program on its own, as other engines run it: an address of its own, and a life beyond one connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract.harness import PIPELINE, ROOT, WAIT, spec
from triscale.errors import EngineError
from triscale.replica.client import ReplicaClient
from triscale.replica.config import ReplicaConfig
from triscale.wire.payload import pack

pytestmark = pytest.mark.processes


@contextlib.asynccontextmanager
async def program(
    *variants: str, config: bytes | None = None, **options: Any
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A worker program; yields when it has printed its first line, or ended."""
    settings = ReplicaConfig(
        spec=spec(*variants), variants=PIPELINE.stages["work"].variants, import_roots=(ROOT,), **options
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale.replica"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(settings) if config is None else config)
        process.stdin.close()
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, WAIT)
        assert process.stdout is not None
        process.stdout.close()


async def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WAIT)).decode().rstrip()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_it_serves_one_server_after_another_and_ends_when_drained() -> None:
    async def scenario() -> None:
        address = f"tcp:127.0.0.1:{free_port()}"
        async with program("echo", listen=address, token="secret") as process:
            assert (await first_line(process)).endswith(f"listens at {address}")
            with pytest.raises(EngineError, match="the peer's token is not the one"):
                await ReplicaClient.connect(address, token="guess")
            first = await ReplicaClient.connect(address, token="secret")
            first.close()
            second = await ReplicaClient.connect(address, token="secret")
            assert second.ready.variants.keys() == {"echo"}
            assert await asyncio.wait_for(second.drain(), WAIT)
            assert await asyncio.to_thread(process.wait, WAIT) == 0

    asyncio.run(scenario())


def test_a_batch_of_a_server_that_left_does_not_disturb_the_next_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix:{tmp_path / 'replica'}"
        async with program("sleeps", listen=address) as process:
            await first_line(process)
            first = await ReplicaClient.connect(address)
            first.run(1, "sleeps", [[pack({"seconds": 0.2})]])
            await first.resize(1, 1)  # the batch runs by now
            first.close()
            second = await asyncio.wait_for(ReplicaClient.connect(address), WAIT)
            told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            class Observer:
                def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: Any) -> None:
                    told.set_result(batch_id)

                def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:
                    told.set_exception(AssertionError(message))

                def lost(self, client: ReplicaClient, reason: str) -> None:
                    assert told.done(), reason

            second.observer = Observer()
            second.run(2, "sleeps", [[pack({"seconds": 0.0})]])
            assert await asyncio.wait_for(told, WAIT) == 2
            second.stop("done")
            assert await asyncio.to_thread(process.wait, WAIT) == 0

    asyncio.run(scenario())


def test_another_variant_is_loaded_while_batches_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix:{tmp_path / 'replica'}"
        async with program("sleeps", listen=address) as process:
            await first_line(process)
            client = await ReplicaClient.connect(address)
            client.run(1, "sleeps", [[pack({"seconds": 0.2})]])
            assert await client.load("echo") >= 0
            assert client.in_flight.keys() == {1}
            await client.unload("sleeps")
            assert client.in_flight == {}
            with pytest.raises(EngineError, match="FileNotFoundError: no weights at /nowhere"):
                await client.load("fails-to-load")
            client.close()

    asyncio.run(scenario())


def test_a_model_that_does_not_load_ends_the_program_with_a_reason() -> None:
    async def scenario() -> None:
        async with program("missing", listen=f"unix:@triscale-test-{os.getpid()}") as process:
            text = "variant missing of stage work (no_such_models:Model): there is no module 'no_such_models'"
            assert (await first_line(process)).startswith(text)
            assert await asyncio.to_thread(process.wait, WAIT) == 1

    asyncio.run(scenario())


def test_a_config_that_is_none_is_refused() -> None:
    async def scenario() -> None:
        async with program("echo", config=b'{"spec": 1}') as process:
            line = await first_line(process)
            assert line == "the replica cannot start: Expected `object`, got `int` - at `$.spec`"
            assert await asyncio.to_thread(process.wait, WAIT) == 1

    asyncio.run(scenario())


def test_an_orphan_does_not_start() -> None:
    async def scenario() -> None:
        async with program("echo", listen="unix:@triscale-test-orphan", parent_pid=1) as process:
            assert await asyncio.to_thread(process.wait, WAIT) == 1

    asyncio.run(scenario())
