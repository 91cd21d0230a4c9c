"""A process that decides gives the plans that a thread would give, and costs nothing but time however it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.integration.conftest import alive
from triscale.clock import SystemClock
from triscale.control import process_decider
from triscale.control.decider import Decider, LocalDecider, at_once
from triscale.control.decider_messages import Answer, Recipe, Unprepared
from triscale.control.loop import Controller
from triscale.control.process_decider import DecisionError, ProcessDecider
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.testing.builders import pipeline, stage, variant

NODES = (Node(id=NodeId("n-1"), cores=8),)
PIPELINE = pipeline(
    500.0,
    detect=stage(variant("large", {1: 40.0, 8: 200.0}), variant("small", {1: 10.0, 8: 50.0}, accuracy=0.8)),
)


def setting() -> Setting:
    profile = inline_profile(PIPELINE)
    assert profile is not None
    return Setting(graph=Graph.of(PIPELINE), profile=profile, nodes=NODES, options={"hold_s": 0.5})


def recipe() -> Recipe:
    return Recipe.of(make_autoscaler("triscale", setting()), setting(), 5.0)


def snapshot(plan: Plan, tick: int, per_s: int) -> Snapshot:
    return Snapshot(
        now=100.0 + 0.1 * tick,
        plan=plan,
        nodes=NODES,
        replicas=(),
        per_second=(per_s,) * 10,
        recent=(per_s // 10,) * 20,
        resize_s=0.01,
    )


def first_plan() -> Plan:
    return make_autoscaler("triscale", setting()).first(5.0)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a process to do something that nothing announces; fails when it never does."""
    async with asyncio.timeout(30.0):
        while not true():
            await asyncio.sleep(0.005)


def decided(test: Callable[[ProcessDecider], Awaitable[None]], patience_s: float = 20.0) -> ProcessDecider:
    """Run a test on a decider that is ready; afterwards nothing of it is left."""
    it = ProcessDecider(recipe(), patience_s=patience_s)

    async def run() -> None:
        it.start()
        try:
            await until(lambda: it.ready)
            await test(it)
        finally:
            last = it.pid
            await it.close()
        assert not it.ready
        assert not Path(f"/proc/{last}").exists(), "it is gone, and no zombie is left"

    asyncio.run(run())
    return it


@pytest.mark.processes
def test_the_same_snapshots_give_the_same_plans_as_in_this_process() -> None:
    load = [5] * 4 + [60] * 4 + [400] * 4 + [2000] * 3 + [5] * 12

    async def plans(it: Decider) -> list[Plan]:
        found, current = [], first_plan()
        for tick, per_s in enumerate(load):
            wanted = await it.decide(snapshot(current, tick, per_s))
            assert wanted == current or wanted is not current
            found.append(wanted)
            current = wanted
        return found

    here = asyncio.run(plans(LocalDecider(recipe().make(), at_once)))
    there: list[Plan] = []

    async def test(it: ProcessDecider) -> None:
        there.extend(await plans(it))

    decided(test)
    assert there == here
    assert len({plan.reason for plan in here}) > 2, "the load made it change its mind"


@pytest.mark.processes
def test_no_change_is_the_very_plan_of_the_snapshot() -> None:
    async def test(it: ProcessDecider) -> None:
        plan = await it.decide(snapshot(first_plan(), 0, 60))
        for tick in range(1, 4):
            assert await it.decide(snapshot(plan, tick, 60)) is plan

    decided(test)


@pytest.mark.processes
def test_before_it_is_ready_the_plan_stays_and_nobody_waits() -> None:
    it = ProcessDecider(recipe())
    seen = snapshot(first_plan(), 0, 400)

    async def run() -> None:
        assert await it.decide(seen) is seen.plan
        it.start()
        assert await it.decide(seen) is seen.plan
        await it.close()

    asyncio.run(run())
    assert it.failures == 0


@pytest.mark.processes
def test_a_process_that_is_killed_is_logged_counted_and_replaced_and_the_next_one_decides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = snapshot(first_plan(), 0, 400)

    async def test(it: ProcessDecider) -> None:
        wanted = await it.decide(seen)
        victim = it.pid
        os.kill(victim, signal.SIGKILL)
        await until(lambda: not it.ready)
        assert await it.decide(seen) is seen.plan
        await until(lambda: it.ready)
        assert it.pid != victim
        assert await it.decide(seen) == wanted

    caplog.set_level(logging.INFO, "triscale.control")
    assert decided(test).failures == 1
    lost, again = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "was killed by SIGKILL; the last plan stays in force and requests are served on; another one is" in lost
    assert "policy triscale decides again, in process" in again


@pytest.mark.processes
def test_one_that_dies_while_it_decides_leaves_the_last_plan_in_force() -> None:
    seen = snapshot(first_plan(), 0, 400)

    async def test(it: ProcessDecider) -> None:
        os.kill(it.pid, signal.SIGSTOP)
        deciding = asyncio.create_task(it.decide(seen))
        await asyncio.sleep(0)
        os.kill(it.pid, signal.SIGKILL)
        assert await deciding is seen.plan

    assert decided(test).failures == 1


@pytest.mark.processes
def test_one_that_hangs_is_killed_when_patience_ends_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    seen = snapshot(first_plan(), 0, 400)

    async def test(it: ProcessDecider) -> None:
        victim = it.pid
        os.kill(victim, signal.SIGSTOP)
        assert await it.decide(seen) is seen.plan
        await until(lambda: it.ready and it.pid != victim)

    assert decided(test, patience_s=0.05).failures == 1
    assert "did not answer for 0.05 s and was killed; the last plan stays in force" in caplog.text


@pytest.mark.processes
def test_one_that_never_gets_ready_is_killed_and_tried_again_more_and_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = ProcessDecider(recipe(), start_patience_s=0.0)

    async def run() -> None:
        it.start()
        await until(lambda: it.failures >= 2)
        await it.close()

    asyncio.run(run())
    assert "was not ready after 0 s and was killed" in caplog.text
    assert "failure 2 in a row, another one is started in 0.1 s" in caplog.text


@pytest.mark.processes
def test_a_policy_that_raises_is_told_with_its_traceback_and_asked_again() -> None:
    seen = snapshot(first_plan(), 0, 400)

    async def test(it: ProcessDecider) -> None:
        with pytest.raises(DecisionError, match=r"(?s)Traceback.*in decide.*KeyError"):
            await it.decide(replace(seen, plan=Plan(stages={})))
        assert await it.decide(seen) is not seen.plan

    assert decided(test).failures == 0, "whoever asked knows, and counts it"


@pytest.mark.processes
def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_the_next() -> None:
    plan = first_plan()

    async def test(it: ProcessDecider) -> None:
        os.kill(it.pid, signal.SIGSTOP)
        given_up = asyncio.create_task(it.decide(snapshot(plan, 0, 2000)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        os.kill(it.pid, signal.SIGCONT)
        with pytest.raises(DecisionError):
            await it.decide(replace(snapshot(plan, 1, 5), plan=Plan(stages={})))

    decided(test)


@pytest.mark.processes
def test_signals_to_stop_are_for_the_server_to_act_on() -> None:
    seen = snapshot(first_plan(), 0, 60)

    async def test(it: ProcessDecider) -> None:
        os.kill(it.pid, signal.SIGINT)
        os.kill(it.pid, signal.SIGTERM)
        await it.decide(seen)

    assert decided(test).failures == 0


@pytest.mark.processes
def test_what_cannot_be_understood_costs_the_process_that_said_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    it = ProcessDecider(recipe())

    async def garbled(stream: asyncio.StreamReader) -> Answer:
        raise ModuleNotFoundError("triscale.newer")

    monkeypatch.setattr(process_decider, "receive", garbled)

    async def run() -> None:
        it.start()
        await until(lambda: it.failures >= 1)
        await it.close()

    asyncio.run(run())
    assert (
        "said what cannot be understood (ModuleNotFoundError('triscale.newer'); if triscale was upgraded" in caplog.text
    )


@pytest.mark.processes
def test_one_that_hangs_up_without_ending_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    it = ProcessDecider(recipe())

    async def hung_up(stream: asyncio.StreamReader) -> Answer:
        raise ConnectionResetError

    monkeypatch.setattr(process_decider, "receive", hung_up)
    monkeypatch.setattr(process_decider, "_EXIT_S", 0.0)

    async def run() -> None:
        it.start()
        await until(lambda: it.failures >= 1)
        await it.close()

    asyncio.run(run())
    assert "closed its socket, did not end and was killed" in caplog.text


def test_a_machine_that_cannot_start_one_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    it = ProcessDecider(recipe())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def run() -> None:
        it.start()
        await until(lambda: it.failures >= 2)
        assert not it.ready
        await it.close()

    asyncio.run(run())
    assert "could not be started: [Errno 2]" in caplog.text
    assert "failure 2 in a row, another one is started in 0.1 s" in caplog.text


def test_what_cannot_be_told_to_another_process_is_refused_at_once() -> None:
    with pytest.raises(AttributeError, match="pickle"):
        ProcessDecider(replace_setting(recipe(), future=lambda now: now))


def replace_setting(made: Recipe, **changes: Any) -> Recipe:
    return dataclasses.replace(made, setting=dataclasses.replace(made.setting, **changes))


@pytest.mark.processes
def test_a_control_loop_that_is_restarted_goes_on_with_the_same_process() -> None:
    class Hands:
        def pursue(self, plan: Plan) -> None: ...

    async def test(it: ProcessDecider) -> None:
        pid = it.pid
        plan = first_plan()
        controller = Controller(it, Hands(), lambda plan: snapshot(plan, 0, 400), plan, SystemClock())  # type: ignore[arg-type]
        for _ in range(3):
            running, ticks = asyncio.create_task(controller.run()), controller.ticks
            await until(lambda ticks=ticks: controller.ticks > ticks)  # type: ignore[misc]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert await it.decide(snapshot(plan, 0, 400)) == controller.plan
        assert it.pid == pid

    assert decided(test).failures == 0


def test_an_error_while_it_thinks_ahead_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    it = ProcessDecider(recipe())
    it._heard(Unprepared("ZeroDivisionError: no rate"))
    assert it.failures == 1
    assert "policy triscale could not prepare:\nZeroDivisionError: no rate" in caplog.text


_PARENT = """
import asyncio
from tests.unit.control.test_process_decider import ProcessDecider, recipe, until
async def run():
    it = ProcessDecider(recipe())
    it.start()
    await until(lambda: it.ready)
    print(it.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(run())
"""


@pytest.mark.processes
def test_when_the_server_is_killed_the_process_is_gone_too() -> None:
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, cwd=root, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    stop = threading.Event()
    for _ in range(1000):
        if not alive(pid):
            return
        stop.wait(0.02)
    raise AssertionError("it lives on without its server")
