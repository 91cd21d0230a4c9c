"""What every engine promises (core/ports.py). Parametrised over `conftest.ENGINES`; a new engine adds itself there."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.conftest import Check
from tests.contract.harness import ConnectedEngine, Runner, next_of, spec
from triscale.core.cluster import ReplicaId, Resizing
from triscale.core.ports import ReplicaExited, ReplicaReady, ReplicaResized
from triscale.errors import EngineError

pytestmark = pytest.mark.processes


def test_a_launched_replica_takes_batches_and_is_listed(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        events = engine.events()
        wanted = spec("echo", lanes=2)
        replica = await engine.launch(wanted)
        assert (replica.spec.id, replica.spec.lanes, replica.spec.variants) == (wanted.id, 2, ("echo",))
        assert replica.ready_after_s > 0
        assert [node.id for node in await engine.nodes()] == [replica.node]
        assert list(await engine.replicas()) == [replica]
        assert await next_of(ReplicaReady, events) == ReplicaReady(replica)
        assert await Runner(engine, replica).run(word="hello") == {"word": "hello"}

    check(scenario)


def test_several_replicas_live_side_by_side(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replicas = await asyncio.gather(*(engine.launch(spec("echo", "sleeps")) for _ in range(3)))
        answers = await asyncio.gather(*(Runner(engine, replica).run(pid=replica.pid) for replica in replicas))
        assert answers == [{"pid": replica.pid} for replica in replicas]
        assert len({replica.pid for replica in replicas}) == 3

    check(scenario)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("fails-to-load", r"failed to load: FileNotFoundError: no weights at /nowhere"),
        ("missing", r"there is no module 'no_such_models'; looked in "),
        ("exits-in-load", r"exited with code 7; last log line: last line of a dying model"),
    ],
)
def test_a_replica_that_does_not_start_is_quoted_and_gone(check: Check, variant: str, message: str) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        events = engine.events()
        wanted = spec(variant)
        with pytest.raises(EngineError) as caught:
            await engine.launch(wanted)
        assert str(caught.value).startswith(f"replica {wanted.id} of stage work did not start: ")
        assert message in str(caught.value)
        assert list(await engine.replicas()) == []
        await engine.close()
        assert [event async for event in events] == [], "what was never ready never exits"

    check(scenario)


def test_a_launch_that_takes_too_long_is_given_up(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        wanted = spec("slow-load")
        with pytest.raises(EngineError, match=r"it was not ready within 1 s and was killed\n  reading weights"):
            await engine.launch(wanted)
        assert list(await engine.replicas()) == []

    check(scenario, launch_timeout=1.0)


def test_a_launch_that_is_cancelled_leaves_nothing(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        launch = asyncio.ensure_future(engine.launch(spec("slow-load")))
        await asyncio.sleep(0.1)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch
        assert list(await engine.replicas()) == []

    check(scenario)


def test_a_replica_that_is_being_launched_can_be_killed(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        wanted = spec("slow-load")
        launch = asyncio.ensure_future(engine.launch(wanted))
        await asyncio.sleep(0.1)
        await engine.kill(wanted.id, "changed our mind")
        with pytest.raises(EngineError, match="did not start: changed our mind"):
            await launch

    check(scenario)


def test_specs_that_make_no_sense_are_refused(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("echo"))
        with pytest.raises(EngineError, match=f"replica {replica.spec.id} runs already"):
            await engine.launch(replica.spec)
        with pytest.raises(EngineError, match="asks for variant 'nope', which stage work does not have"):
            await engine.launch(spec("nope"))
        with pytest.raises(EngineError, match="no replica 'nobody' runs here"):
            await engine.resize(ReplicaId("nobody"), 1, 1)

    check(scenario)


def test_resizing_takes_effect_and_is_told(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("sleeps"))
        events = engine.events()
        for lanes in (3, 2):
            resized = await engine.resize(replica.spec.id, lanes, 1)
            assert (resized.status, resized.lanes, resized.threads) == (Resizing.APPLIED, lanes, 1)
            assert (await next_of(ReplicaResized, events)).resized.lanes == lanes
            [now] = await engine.replicas()
            assert (now.spec.lanes, now.spec.threads) == (lanes, 1)
            runner = Runner(engine, replica)
            batches = [runner.start(seconds=0.1) for _ in range(6)]
            assert max(answer["inside"] for answer in await asyncio.gather(*batches)) == lanes

    check(scenario)


def test_resizing_under_load_never_runs_more_batches_than_lanes(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("sleeps", lanes=2))
        runner = Runner(engine, replica)
        batches = [runner.start(seconds=0.01) for _ in range(150)]
        most = 2
        for lanes in (4, 1, 3, 2):
            most = max(most, (await engine.resize(replica.spec.id, lanes, 1)).lanes)
            await asyncio.sleep(0.03)
        answers = await asyncio.gather(*batches)
        assert len(answers) == 150
        assert max(answer["inside"] for answer in answers) <= most
        last = await asyncio.gather(*(runner.start(seconds=0.05) for _ in range(6)))
        assert max(answer["inside"] for answer in last) == 2

    check(scenario)


def test_a_shrink_that_batches_hold_up_is_deferred_and_told_when_done(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("sleeps", lanes=2))
        events = engine.events()
        runner = Runner(engine, replica)
        batches = [runner.start(seconds=2.0) for _ in range(2)]
        await engine.resize(replica.spec.id, 3, 1)  # when this is answered, both run
        assert (await next_of(ReplicaResized, events)).resized.lanes == 3
        resized = await engine.resize(replica.spec.id, 1, 1)
        assert (resized.status, resized.lanes) == (Resizing.DEFERRED, 3)
        assert resized.reason == "batches still run after 0.5 s"
        assert (await next_of(ReplicaResized, events)).resized.lanes == 1
        await asyncio.gather(*batches)

    check(scenario, resize_timeout=0.5)


def test_more_threads_than_there_are_cores_are_infeasible(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("echo"))
        resized = await engine.resize(replica.spec.id, 1, 10_000)
        assert (resized.status, resized.lanes, resized.threads) == (Resizing.INFEASIBLE, 1, 1)
        assert "a lane of 10000 threads does not fit" in resized.reason

    check(scenario)


def test_another_variant_takes_the_place_of_one_that_serves(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        if not engine.capabilities.hold:
            return
        replica = await engine.launch(spec("sleeps"))
        runner = Runner(engine, replica)
        batches = [runner.start(seconds=0.05) for _ in range(3)]
        assert await engine.hold(replica.spec.id, ["echo"]) == ("echo",)
        assert [batch.result()["inside"] for batch in batches] == [1, 1, 1], "what was sent before is run"
        assert await runner.run("echo", a=1) == {"a": 1}
        assert (await runner.run("sleeps", seconds=0))[0] == "not_resident"
        assert [held.spec.variants for held in await engine.replicas()] == [("echo",)]

    check(scenario)


def test_a_variant_that_does_not_load_changes_nothing(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        if not engine.capabilities.hold:
            return
        replica = await engine.launch(spec("echo"))
        with pytest.raises(EngineError, match="FileNotFoundError: no weights at /nowhere"):
            await engine.hold(replica.spec.id, ["fails-to-load"])
        assert [held.spec.variants for held in await engine.replicas()] == [("echo",)]
        assert await Runner(engine, replica).run(a=1) == {"a": 1}
        for variants, message in (
            (["nope"], "asks for variant 'nope', which stage work does not have"),
            ([], "is to hold no variant; name at least one of stage work"),
        ):
            with pytest.raises(EngineError, match=message):
                await engine.hold(replica.spec.id, variants)
        with pytest.raises(EngineError, match="no replica 'nobody' runs here"):
            await engine.hold(ReplicaId("nobody"), ["echo"])

    check(scenario)


def test_the_newest_variants_to_hold_win(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        if not engine.capabilities.hold:
            return
        replica = await engine.launch(spec("echo"))
        wanted = (["sleeps"], ["raises", "prints"], ["wrong-count", "echo"])
        await asyncio.gather(*(engine.hold(replica.spec.id, variants) for variants in wanted))
        assert [held.spec.variants for held in await engine.replicas()] == [("wrong-count", "echo")]
        assert engine.client(replica.spec.id).in_flight == {}

    check(scenario)


def test_a_change_of_variants_that_is_called_off_unloads_nothing_and_lists_what_is_loaded_all_the_same(
    check: Check,
) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        if not engine.capabilities.hold:
            return
        replica = await engine.launch(spec("echo"))
        change = asyncio.ensure_future(engine.hold(replica.spec.id, ["sleeps"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it is under way
        change.cancel()
        held: tuple[str, ...] = ()
        while held != ("echo", "sleeps"):
            await asyncio.sleep(0.01)
            held = (await engine.replicas())[0].spec.variants
        runner = Runner(engine, replica)
        assert await runner.run("echo", a=1) == {"a": 1}
        assert await engine.hold(replica.spec.id, ["echo"]) == ("echo",)

    check(scenario)


def test_drain_finishes_what_runs_and_is_expected(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("sleeps"))
        events = engine.events()
        runner = Runner(engine, replica)
        batches = [runner.start(seconds=0.1) for _ in range(3)]
        await asyncio.gather(*(engine.drain(replica.spec.id, grace=10.0) for _ in range(2)))
        assert all(batch.result()["inside"] == 1 for batch in batches)
        assert runner.losses == ["drained"]
        assert await next_of(ReplicaExited, events) == ReplicaExited(replica.spec.id, expected=True, reason="drained")
        assert list(await engine.replicas()) == []
        await engine.drain(replica.spec.id, grace=1.0)

    check(scenario)


def test_a_replica_that_is_being_drained_is_listed_as_such(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("sleeps"))
        batch = Runner(engine, replica).start(seconds=0.2)
        draining = asyncio.ensure_future(engine.drain(replica.spec.id, grace=10.0))
        await asyncio.sleep(0)
        assert [listed.draining for listed in await engine.replicas()] == [True]
        await draining
        assert batch.done()

    check(scenario)


def test_a_drain_past_its_grace_ends_in_a_kill(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("never"))
        events = engine.events()
        runner = Runner(engine, replica)
        batch = runner.start()
        await engine.drain(replica.spec.id, grace=0.1)
        reason = "it had not finished after 0.1 s of grace and was killed"
        assert await batch == reason
        assert await next_of(ReplicaExited, events) == ReplicaExited(replica.spec.id, expected=True, reason=reason)

    check(scenario)


def test_kill_ends_it_at_once_and_batches_are_lost(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("never"))
        events = engine.events()
        runner = Runner(engine, replica)
        batch = runner.start()
        await asyncio.gather(*(engine.kill(replica.spec.id, "it hangs") for _ in range(2)))
        assert await batch == "it hangs"
        assert runner.losses == ["it hangs"]
        assert await next_of(ReplicaExited, events) == ReplicaExited(replica.spec.id, expected=False, reason="it hangs")
        await engine.kill(replica.spec.id, "again")
        assert list(await engine.replicas()) == []

    check(scenario)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("code", "exited with code 3; last log line: good bye, cruel world"),
        ("SIGKILL", "killed by SIGKILL"),
        ("SIGSEGV", "killed by SIGSEGV; last log line: Fatal Python error: Segmentation fault"),
    ],
)
def test_a_crash_loses_the_batch_once_and_says_how_it_came(check: Check, how: str, reason: str) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("exits"))
        events = engine.events()
        runner = Runner(engine, replica)
        assert await runner.run(how=how) == "it closed the connection"
        assert await next_of(ReplicaExited, events) == ReplicaExited(replica.spec.id, expected=False, reason=reason)
        assert len(runner.losses) == 1
        assert list(await engine.replicas()) == []

    check(scenario)


def test_a_replica_that_stands_still_is_found_and_killed(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("exits"))
        events = engine.events()
        assert await Runner(engine, replica).run(how="SIGSTOP") == "no heartbeat for 1.5 s"
        assert await next_of(ReplicaExited, events) == ReplicaExited(
            replica.spec.id, expected=False, reason="no heartbeat for 1.5 s"
        )

    check(scenario, heartbeat_timeout=1.5)


def test_a_models_mistakes_cost_their_batch_and_nothing_else(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replica = await engine.launch(spec("raises", "wrong-count", "echo"))
        runner = Runner(engine, replica)
        kind, message = await runner.run("raises")
        assert kind == "model_error"
        assert message.startswith(
            "variant raises of stage work (replica_models:Raises): predict raised ValueError: no digits in sight (line "
        )
        kind, message = await runner.run("wrong-count")
        assert (kind, message) == (
            "model_error",
            "variant wrong-count of stage work (replica_models:WrongCount): predict returned 0 results for 1 items",
        )
        assert await runner.run("echo", a=1) == {"a": 1}

    check(scenario)


def test_everybody_sees_every_event_from_their_call_on(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        first = engine.events()
        replica = await engine.launch(spec("echo"))
        second = engine.events()
        await engine.kill(replica.spec.id, "done")
        await engine.close()
        gone = ReplicaExited(replica.spec.id, expected=False, reason="done")
        assert [event async for event in first] == [ReplicaReady(replica), gone]
        assert [event async for event in second] == [gone]

    check(scenario)


def test_close_ends_everything_and_the_events_and_may_be_repeated(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        replicas = [await engine.launch(spec("never")) for _ in range(2)]
        batch = Runner(engine, replicas[0]).start()
        starting = asyncio.ensure_future(engine.launch(spec("slow-load")))
        await asyncio.sleep(0.05)
        events = engine.events()
        await asyncio.gather(engine.close(), engine.close())
        assert await batch == "the engine was closed"
        with pytest.raises(EngineError, match="the engine was closed"):
            await starting
        ended = [event async for event in events]
        assert {(event.replica, event.expected) for event in ended if isinstance(event, ReplicaExited)} == {
            (replica.spec.id, True) for replica in replicas
        }
        with pytest.raises(EngineError, match="cannot be launched: the engine is closed"):
            await engine.launch(spec("echo"))

    check(scenario)


def test_a_close_that_is_cancelled_still_leaves_nothing(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        await engine.launch(spec("never"))
        closing = asyncio.ensure_future(engine.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert list(await engine.replicas()) == []

    check(scenario)


def test_capabilities_are_stated(check: Check) -> None:
    async def scenario(engine: ConnectedEngine) -> None:
        capabilities = engine.capabilities
        assert capabilities.in_place
        assert capabilities.min_step > 0

    check(scenario)
