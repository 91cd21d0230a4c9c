"""The load generator as a process: real processes, always gone when the test is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import msgspec
import pytest

from triscale.errors import TriscaleError
from triscale.traces.arrivals import Even, Phase
from triscale.traces.job import Job
from triscale.traces.launch import ReplayProcess
from triscale.traces.messages import Finished, Preparing, Progress, Refused, decode

pytestmark = pytest.mark.processes

ANSWERED = {"triscale-outcome": "answered"}


def job_for(url: str, roots: str, *phases: Phase, **changes: Any) -> Job:
    fields: dict[str, Any] = {"source": "stub_samples:words", "score": "stub_samples:same", "samples": 4}
    return Job(url=url, model="echo", phases=phases, slo_ms=1000.0, import_roots=(roots,), **(fields | changes))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_messages_tell_the_run_and_end_with_the_result(serving: Any, behaviour: Any, sources: str) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(headers=ANSWERED)) as server:
            job = job_for(server.url, sources, Phase("steady", 50.0, 0.3, Even()), Phase("burst", 200.0, 0.3, Even()))
            async with ReplayProcess(job) as generator:
                messages = [message async for message in generator]
            *others, last = messages
            assert isinstance(others[0], Preparing)
            assert any(isinstance(message, Progress) for message in others)
            assert isinstance(last, Finished)
            steady, burst = last.result.phases
            assert (steady.sent, burst.sent) == (15, 60)
            assert server.seen["answered"] == steady.answered + burst.answered == 75
            assert (steady.accuracy, last.result.stopped, last.result.pipeline) == (1.0, False, "echo")
            final = others[-1]
            assert isinstance(final, Progress)
            assert (final.in_flight, [phase.answered for phase in final.phases]) == (0, [15, 60])

    asyncio.run(scenario())


def test_asked_to_stop_it_gives_the_result_of_what_it_sent(serving: Any, behaviour: Any, sources: str) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(headers=ANSWERED)) as server:
            last: Any = None
            async with ReplayProcess(job_for(server.url, sources, Phase("a", 100.0, 3600.0))) as generator:
                async for message in generator:
                    last = message
                    if isinstance(message, Progress) and message.phases[0].sent:
                        generator.stop()
            assert isinstance(last, Finished)
            assert last.result.stopped
            assert last.result.phases[0].sent == last.result.phases[0].answered == server.seen["infer"]

    asyncio.run(scenario())


async def fail_within(generator: ReplayProcess, server: Any) -> None:
    async with generator:
        await server.received.wait()
        raise RuntimeError("the user's mistake")


def test_leaving_the_block_leaves_no_process(serving: Any, behaviour: Any, sources: str) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(headers=ANSWERED)) as server:
            job = job_for(server.url, sources, Phase("a", 100.0, 3600.0))
            generator = ReplayProcess(job)
            with pytest.raises(RuntimeError, match="the user's mistake"):
                await fail_within(generator, server)
            assert not alive(generator.pid)
            async with ReplayProcess(job) as generator:
                async for _ in generator:
                    break
            assert not alive(generator.pid)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "stub_samples:nowhere"}, "could not run: source: the module 'stub_samples' has no 'nowhere'"),
        ({"source": "stub_samples:words", "score": "x"}, "could not run: score is written `package.module:function`"),
        ({}, r"could not run: url: no server answers at http://127\.0\.0\.1:9 \(Connection refused\)"),
    ],
)
def test_a_run_that_cannot_be_made_says_why(changes: dict[str, Any], message: str, sources: str) -> None:
    async def scenario() -> None:
        async with ReplayProcess(job_for("http://127.0.0.1:9", sources, Phase("a", 1.0, 1.0), **changes)) as generator:
            async for _ in generator:
                pass

    with pytest.raises(TriscaleError, match=message):
        asyncio.run(scenario())


def test_a_process_that_dies_is_reported_with_what_it_wrote(serving: Any, behaviour: Any, sources: str) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda _: behaviour(headers=ANSWERED)) as server,
            ReplayProcess(job_for(server.url, sources, Phase("a", 100.0, 3600.0))) as generator,
        ):
            async for message in generator:
                if isinstance(message, Progress):
                    os.kill(generator.pid, signal.SIGKILL)

    # What the source printed went to standard error, not between the messages.
    with pytest.raises(TriscaleError, match=r"ended with status -9 and without a result:\nwhat a source prints"):
        asyncio.run(scenario())


def test_without_a_reader_the_process_ends_itself(serving: Any, behaviour: Any, sources: str) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour(headers=ANSWERED)) as server:
            job = msgspec.json.encode(job_for(server.url, sources, Phase("a", 100.0, 3600.0)))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "triscale.traces.replay_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=(reader_writer := os.pipe())[1],
                stderr=asyncio.subprocess.DEVNULL,
            )
            os.close(reader_writer[1])
            assert process.stdin is not None
            process.stdin.write(job + b"\n")
            await server.received.wait()
            os.close(reader_writer[0])
            assert await process.wait() == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"not json\n", "the job (standard input) is not valid"),
        (b'{"url": "http://h:1"}\n', "missing required field `model`"),
        (b'{"url":"http://h:1","model":"m","phases":[],"slo_ms":1,"source":"a:b"}\n', "phases is empty"),
    ],
)
def test_a_job_that_is_none_is_refused(text: bytes, message: str) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "triscale.traces.replay_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(text)
        refused = decode(out)
        assert isinstance(refused, Refused)
        assert message in refused.message
        assert process.returncode == 2

    asyncio.run(scenario())
