"""What is true of the local engine beyond the contract: processes, processors, logs, and what survives whom."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract.harness import PIPELINE, ROOT, WAIT, Runner, next_of, spec
from triscale.core.ports import ReplicaExited
from triscale.engines.local import LocalEngine
from triscale.errors import EngineError

pytestmark = pytest.mark.processes


def on_engine(scenario: Callable[[LocalEngine], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        engine = LocalEngine(PIPELINE, (ROOT,), **options)
        try:
            await asyncio.wait_for(scenario(engine), 2 * WAIT)
        finally:
            await engine.close()

    asyncio.run(main())


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_model_prints_goes_to_the_log_under_the_replicas_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triscale.replica")

    async def scenario(engine: LocalEngine) -> None:
        replica = await engine.launch(spec("prints"))
        runner = Runner(engine, replica)
        for i in range(20):
            assert await runner.run(i=i) == {"i": i}
        await engine.drain(replica.spec.id, WAIT)
        lines = [r.getMessage() for r in caplog.records if r.name == f"triscale.replica.{replica.spec.id}"]
        assert lines[0] == "loading from standard output"
        assert lines.count("to standard error") == 20
        assert sum(line.endswith("not a frame") for line in lines) == 20

    on_engine(scenario)


async def placed(*runners: Runner) -> list[list[int]]:
    """The processors that each replica may run on."""
    return [(await runner.run(seconds=0))["cpus"] for runner in runners]


def two_cpus() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two processors")
    return cpus


def test_replicas_have_as_many_processors_as_cores_and_share_them_only_where_they_must() -> None:
    cpus = two_cpus()

    async def scenario(engine: LocalEngine) -> None:
        first, second = [await engine.launch(spec("sleeps")) for _ in range(2)]
        runners = [Runner(engine, first), Runner(engine, second)]
        assert await placed(*runners) == [[cpus[0]], [cpus[1]]]
        await engine.resize(first.spec.id, 2, 1)
        assert await placed(*runners) == [cpus, [cpus[1]]], "the other one stays where it is"
        await engine.resize(second.spec.id, 2, 1)
        assert await placed(*runners) == [cpus, cpus]
        await engine.resize(first.spec.id, 1, 1)
        assert await placed(*runners) == [[cpus[0]], cpus]
        await engine.resize(second.spec.id, 1, 1)
        assert await placed(*runners) == [[cpus[0]], [cpus[1]]]
        assert [replica.spec.cpus for replica in await engine.replicas()] == [(cpus[0],), (cpus[1],)]

    on_engine(scenario, cpus=cpus)


def test_a_shrinking_replica_keeps_its_processors_until_its_lanes_are_closed() -> None:
    cpus = two_cpus()

    async def scenario(engine: LocalEngine) -> None:
        first = await engine.launch(spec("never", lanes=2))
        runner = Runner(engine, first)
        batches = [runner.start() for _ in range(2)]
        await engine.resize(first.spec.id, 2, 1)  # when this is answered, both run
        shrinking = asyncio.ensure_future(engine.resize(first.spec.id, 1, 1))
        second = await engine.launch(spec("sleeps"))
        assert engine._workers[first.spec.id].spec.lanes == 1
        assert os.sched_getaffinity(first.pid) == set(cpus)
        await engine.kill(first.spec.id, "done")
        await asyncio.gather(*batches)
        with pytest.raises(EngineError, match="the connection to the replica ended: done"):
            await shrinking
        assert await placed(Runner(engine, second)) == [[cpus[0]]]

    on_engine(scenario, cpus=cpus)


def test_a_replica_that_starts_while_processors_change_hands_has_the_right_ones_in_the_end() -> None:
    cpus = two_cpus()

    async def scenario(engine: LocalEngine) -> None:
        first, second = await asyncio.gather(*(engine.launch(spec("sleeps", lanes=2)) for _ in range(2)))
        await engine.resize(first.spec.id, 1, 1)
        starting = asyncio.ensure_future(engine.launch(spec("sleeps")))
        await asyncio.sleep(0)
        await engine.kill(second.spec.id, "room")
        third = Runner(engine, await starting)
        runner = Runner(engine, first)
        while sorted(await placed(runner, third)) != [[cpus[0]], [cpus[1]]]:  # one of them is moved behind the scenes
            await asyncio.sleep(0.01)

    on_engine(scenario, cpus=cpus)


def test_over_a_thousand_resizes_under_load_no_more_threads_run_than_a_replica_has_processors() -> None:
    async def scenario(engine: LocalEngine) -> None:
        rng = random.Random(3)
        most = len(os.sched_getaffinity(0))
        sizes = [(lanes, threads) for lanes in range(1, 5) for threads in range(1, 3) if lanes * threads <= most]
        replicas = [await engine.launch(spec("meters")) for _ in range(3)]
        runners = [Runner(engine, replica) for replica in replicas]
        answers: list[asyncio.Future[Any]] = []
        waiting: list[asyncio.Future[Any]] = []
        target = dict.fromkeys((replica.spec.id for replica in replicas), (1, 1))
        for _ in range(1200):
            name = rng.choice(replicas).spec.id
            target[name] = rng.choice(sizes)
            waiting.append(asyncio.ensure_future(engine.resize(name, *target[name])))
            for runner in runners:
                answers += [runner.start() for _ in range(8 - len(runner.client.in_flight))]
            if rng.random() < 0.5:
                await waiting.pop()
            elif rng.random() < 0.5:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        found = await asyncio.gather(*answers)
        assert all(answer["using"] <= answer["cores"] for answer in found)
        assert {replica.spec.id: (replica.spec.lanes, replica.spec.threads) for replica in await engine.replicas()} == (
            target
        )
        for replica, runner in zip(replicas, runners, strict=True):
            lanes, threads = target[replica.spec.id]
            assert (await runner.run())["cores"] == lanes * threads

    on_engine(scenario, cpus=sorted(os.sched_getaffinity(0)))


def test_a_variant_that_does_not_fit_takes_the_place_of_another_or_is_refused() -> None:
    async def scenario(engine: LocalEngine) -> None:
        empty = await engine.launch(spec("echo"))
        held = engine.client(empty.spec.id).ready.rss
        room = msgspec.structs.replace(spec("large-a"), memory_bytes=held + 100 * 2**20)
        replica = await engine.launch(room)
        runner = Runner(engine, replica)
        assert await engine.hold(replica.spec.id, ["large-b"]) == ("large-b",), "not both at a time"
        assert await runner.run("large-b") == {"bytes": 2**26}
        with pytest.raises(
            EngineError, match=r"variant large-a of stage work .* which does not fit: the replica holds"
        ):
            await engine.hold(replica.spec.id, ["large-b", "large-a"])
        assert await engine.hold(replica.spec.id, ["large-b", "echo"]) == ("large-b", "echo")
        too_little = msgspec.structs.replace(spec("large-a"), memory_bytes=held + 10 * 2**20)
        with pytest.raises(EngineError, match=r"did not start: variant large-a .* which does not fit"):
            await engine.launch(too_little)

    on_engine(scenario)


def test_what_had_to_go_comes_back_where_that_did_not_help() -> None:
    async def scenario(engine: LocalEngine) -> None:
        empty = await engine.launch(spec("echo"))
        held = engine.client(empty.spec.id).ready.rss
        replica = await engine.launch(msgspec.structs.replace(spec("echo"), memory_bytes=held + 40 * 2**20))
        with pytest.raises(EngineError, match="does not fit"):
            await engine.hold(replica.spec.id, ["large-a"])
        assert [other.spec.variants for other in await engine.replicas()] == [("echo",), ("echo",)]
        assert await Runner(engine, replica).run(a=1) == {"a": 1}

    on_engine(scenario)


def test_without_pinning_replicas_run_anywhere() -> None:
    async def scenario(engine: LocalEngine) -> None:
        runner = Runner(engine, await engine.launch(spec("sleeps")))
        assert set((await runner.run(seconds=0))["cpus"]) == os.sched_getaffinity(0)

    on_engine(scenario, pin=False)


def test_reported_cores_may_exceed_the_machine_for_emulated_replicas() -> None:
    async def scenario(engine: LocalEngine) -> None:
        [node] = await engine.nodes()
        assert node.cores == 512
        replica = await engine.launch(spec("emulated", lanes=40))
        runner = Runner(engine, replica)
        assert len(await asyncio.gather(*(runner.start(i=i) for i in range(80)))) == 80

    on_engine(scenario, cores=512)


def test_processes_that_a_model_leaves_behind_go_with_it() -> None:
    async def scenario(engine: LocalEngine) -> None:
        replica = await engine.launch(spec("spawns"))
        left = (await Runner(engine, replica).run())["pid"]
        assert alive(left)
        await engine.kill(replica.spec.id, "test")
        wait_until(lambda: not alive(left))

    on_engine(scenario)


def test_a_closed_engine_lets_models_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "closed"
    monkeypatch.setenv("TRISCALE_TEST_CLOSED", str(path))

    async def scenario(engine: LocalEngine) -> None:
        await engine.launch(spec("slow-close"))
        await engine.close()
        assert path.read_text() == "closed"

    on_engine(scenario)


def test_ctrl_c_at_the_terminal_does_not_reach_replicas_and_sigterm_drains_them() -> None:
    async def scenario(engine: LocalEngine) -> None:
        replica = await engine.launch(spec("sleeps"))
        events = engine.events()
        runner = Runner(engine, replica)
        batch = runner.start(seconds=0.3)
        os.kill(replica.pid, signal.SIGINT)
        await engine.resize(replica.spec.id, 1, 1)  # both batch and signal have arrived by now
        os.kill(replica.pid, signal.SIGTERM)
        assert (await batch)["inside"] == 1
        exited = await next_of(ReplicaExited, events)
        assert (exited.expected, exited.reason) == (False, "exited with code 0")

    on_engine(scenario)


def test_models_may_use_signals_of_their_own() -> None:
    async def scenario(engine: LocalEngine) -> None:
        runner = Runner(engine, await engine.launch(spec("alarms")))
        for _ in range(3):
            assert await runner.run() == {"rung": True}
        assert runner.losses == []

    on_engine(scenario)


def test_a_program_that_cannot_be_started_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    async def scenario(engine: LocalEngine) -> None:
        wanted = spec("echo")
        with pytest.raises(
            EngineError, match=f"replica {wanted.id} of stage work cannot be started: .*/no/such/python"
        ):
            await engine.launch(wanted)
        assert list(await engine.replicas()) == []

    on_engine(scenario)


def test_replicas_do_not_outlive_a_parent_that_is_killed() -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from tests.contract.harness import PIPELINE, ROOT, Runner, spec
        from triscale.engines.local import LocalEngine

        async def main():
            engine = LocalEngine(PIPELINE, (ROOT,))
            replicas = [await engine.launch(spec(variant)) for variant in ("echo", "never")]
            Runner(engine, replicas[1]).start()
            starting = asyncio.ensure_future(engine.launch(spec("slow-load")))
            await asyncio.sleep(0.3)
            print(*(worker.child.pid for worker in engine._workers.values()), flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(alive, pids))
        parent.kill()
        parent.wait(WAIT)
        wait_until(lambda: not any(map(alive, pids)))
    finally:
        parent.kill()
        parent.communicate()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_replica_that_hangs_up_without_ending_is_ended() -> None:
    async def scenario(engine: LocalEngine) -> None:
        replica = await engine.launch(spec("never"))
        events = engine.events()
        runner = Runner(engine, replica)
        runner.start()
        runner.client.close()
        assert await next_of(ReplicaExited, events) == ReplicaExited(replica.spec.id, expected=False, reason="closed")
        assert not alive(replica.pid)

    on_engine(scenario)
