"""The runner: the dispatcher's commands reach replicas, results reach whoever asked, and no call is left hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import pytest

from triscale import Pipeline, Stage, Variant
from triscale.core.cluster import NodeId, Replica, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.request import Outcome, Reason
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.results import Rejection
from triscale.errors import NotFound, NotReady
from triscale.observe.recorder import Recorder
from triscale.policy.learned import LearnedTimes
from triscale.replica.client import ReplicaClient
from triscale.serve.runner import Runner
from triscale.serve.service import Call, Reply
from triscale.wire.payload import Payload, pack, unpack


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


class FakeClient:
    """Remembers the batches that it was sent."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, str, list[list[Payload]]]] = []
        self.observer: Runner

    def run(self, batch_id: int, variant: str, items: Sequence[Sequence[Payload]]) -> None:
        self.batches.append((batch_id, variant, [list(parts) for parts in items]))

    def as_client(self) -> ReplicaClient:
        return cast("ReplicaClient", self)


class Scene:
    """A pipeline `a -> b` with one replica each, and a runner that is open."""

    def __init__(self) -> None:
        variant = Variant(name="v", model="m:M", accuracy=0.9)
        pipeline = Pipeline(
            name="p", slo_ms=1000, stages={"a": Stage(variants=(variant,)), "b": Stage(after="a", variants=(variant,))}
        )
        plan = Plan(stages={s: StagePlan(variants={"v": VariantPlan(share=1.0, batch=4)}) for s in ("a", "b")})
        graph = Graph.of(pipeline)
        self.clock = Clock()
        self.recorder = Recorder(graph)
        dispatcher = Dispatcher(
            graph, [[LearnedTimes()], [LearnedTimes()]], [[[1.0]], [[]]], plan, pipeline.dispatch, self.clock.time
        )
        self.killed: list[ReplicaId] = []
        self.runner = Runner(dispatcher, self.recorder, self.clock, lambda replica, _: self.killed.append(replica))
        self.clients = {stage: FakeClient() for stage in ("a", "b")}
        for stage, client in self.clients.items():
            self.attach(stage, client)
        self.runner.open()
        self.replies: list[Reply] = []

    def attach(self, stage: str, client: FakeClient, number: int = 1, lanes: int = 1) -> None:
        spec = ReplicaSpec(id=ReplicaId(f"{stage}-{number}"), stage=stage, variants=("v",), lanes=lanes)
        self.runner.attach(Replica(spec=spec, node=NodeId("n"), address=""), client.as_client())

    def submit(self, value: str = "x", seconds: float = 1.0) -> int:
        now = self.clock.time
        return self.runner.submit("p", Call([pack({"x": value})], now, now + seconds, self.replies.append))

    def finish(self, stage: str, output: str | None = None, items: int = 1) -> None:
        client = self.clients[stage]
        batch_id, _, sent = client.batches.pop(0)
        one = (pack({"y": output}) if output else None, ([pack({"x": "c"})] * items,) if stage == "a" else ())
        self.runner.batch_done(client.as_client(), batch_id, 0.01, [one] * len(sent))


def scene(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        it = Scene()
        await test(it)
        await it.runner.close(0.0)

    def wrapped() -> None:
        asyncio.run(run())

    wrapped.__name__ = test.__name__
    return wrapped


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@scene
async def test_a_call_goes_through_the_stages_and_is_answered(it: Scene) -> None:
    it.submit("hello")
    await turn()
    assert [unpack(parts[0]) for parts in it.clients["a"].batches[0][2]] == [{"x": "hello"}]
    it.finish("a")
    await turn()
    it.finish("b", "bye")
    await turn()
    (reply,) = it.replies
    assert reply.outcome is Outcome.ANSWERED
    assert [unpack(payload) for payload in reply.outputs[0]] == [{"y": "bye"}]
    assert reply.variants == {"a": "v", "b": "v"}
    assert reply.accuracy == pytest.approx(0.81)


@scene
async def test_calls_of_one_turn_share_a_batch(it: Scene) -> None:
    for _ in range(3):
        it.submit()
    await turn()
    assert [len(items) for _, _, items in it.clients["a"].batches] == [3]


@scene
async def test_a_call_that_is_cancelled_hears_nothing_and_is_counted(it: Scene) -> None:
    handle = it.submit()
    await turn()
    it.runner.cancel(handle)
    it.finish("a")
    await turn()
    assert it.replies == []
    assert it.clients["b"].batches == []
    assert it.runner.dispatcher.accounts.outcomes[Outcome.CANCELLED] == 1
    it.runner.cancel(handle)  # unknown by now: ignored


@scene
async def test_what_a_lost_replica_ran_is_run_by_the_next_one(it: Scene) -> None:
    it.submit("again")
    await turn()
    it.runner.lost(it.clients["a"].as_client(), "it closed the connection")
    await turn()
    it.clients["a"] = FakeClient()
    it.attach("a", it.clients["a"], number=2)
    await turn()
    assert [unpack(parts[0]) for parts in it.clients["a"].batches[0][2]] == [{"x": "again"}]


@scene
async def test_a_late_result_of_a_lost_replica_is_ignored(it: Scene) -> None:
    it.submit()
    await turn()
    old = it.clients["a"]
    it.runner.lost(old.as_client(), "no heartbeat for 3 s")
    it.clients["a"] = FakeClient()
    it.attach("a", it.clients["a"], number=2)
    await turn()
    it.runner.batch_done(old.as_client(), old.batches[0][0], 0.01, [(None, ([],))])
    await turn()
    assert it.replies == []
    it.finish("a", items=0)
    await turn()
    assert len(it.replies) == 1


@scene
async def test_a_rejected_item_is_told_in_words(it: Scene) -> None:
    it.submit()
    await turn()
    batch_id, _, _ = it.clients["a"].batches.pop(0)
    it.runner.batch_done(it.clients["a"].as_client(), batch_id, 0.01, [Rejection("not a JPEG")])
    await turn()
    assert (it.replies[0].outcome, it.replies[0].reason) == (Outcome.FAILED, Reason.REJECTED)
    assert it.replies[0].message == "rejected at stage 'a': not a JPEG"


@scene
async def test_a_deadline_that_passes_is_answered_by_the_timer(it: Scene) -> None:
    it.submit(seconds=0.01)
    await turn()
    it.clock.time += 1.0
    async with asyncio.timeout(5):
        while not it.replies:
            await asyncio.sleep(0.001)
    assert (it.replies[0].outcome, it.replies[0].reason, it.replies[0].stage) == (Outcome.DROPPED, Reason.EXPIRED, "a")
    assert it.replies[0].message == "dropped at stage 'a': its deadline passed"


@scene
async def test_a_drain_is_done_when_the_last_batch_is(it: Scene) -> None:
    it.submit()
    await turn()
    drained = it.runner.drain(ReplicaId("a-1"))
    it.submit()
    await turn()
    assert not drained.done()
    assert len(it.clients["a"].batches) == 1, "it got no new work"
    it.finish("a")
    await turn()
    assert drained.done()
    assert not it.runner.ready("p"), "a stage without lanes is not ready"


@scene
async def test_closing_fails_what_is_not_done_in_time(it: Scene) -> None:
    it.submit()
    await turn()
    await it.runner.close(0.0)
    assert (it.replies[0].outcome, it.replies[0].reason) == (Outcome.FAILED, Reason.SHUTDOWN)
    with pytest.raises(NotReady, match="pipeline 'p' is not ready; it is starting or shutting down"):
        it.submit()


@scene
async def test_closing_waits_for_what_is_in_progress(it: Scene) -> None:
    it.submit()
    await turn()
    closing = asyncio.create_task(it.runner.close(30.0))
    await turn()
    it.finish("a", items=0)
    await closing
    assert it.replies[0].outcome is Outcome.ANSWERED


@scene
async def test_unknown_pipelines_are_not_found(it: Scene) -> None:
    with pytest.raises(NotFound, match="there is no pipeline 'q' here; this server serves 'p'"):
        it.runner.submit("q", Call([], 0.0, 1.0, it.replies.append))
    assert not it.runner.ready("q")


@scene
async def test_a_door_that_breaks_does_not_stop_the_others(it: Scene) -> None:
    def broken(_: Reply) -> None:
        raise RuntimeError("the door is broken")

    it.runner.submit("p", Call([pack({"x": 1})], 100.0, 101.0, broken))
    it.submit()
    await turn()
    it.finish("a", items=0)
    await turn()
    assert len(it.replies) == 1


@scene
async def test_statistics_add_up(it: Scene) -> None:
    it.submit()
    it.submit()
    await turn()
    it.clock.time += 0.5
    it.finish("a", items=0)
    await turn()
    found = it.runner.statistics("p")
    assert found["success"] == {"count": 2, "seconds": pytest.approx(1.0)}
    assert (found["rows"], found["batches"]) == (2, 1)
    assert found["batch_sizes"] == {2: {"count": 1, "seconds": pytest.approx(0.5)}}


@scene
async def test_a_replica_that_is_attached_again_keeps_its_batches_and_has_the_shape_that_is_named(it: Scene) -> None:
    it.submit("first")
    await turn()
    it.attach("a", it.clients["a"], lanes=2)
    it.submit("second")
    await turn()
    assert len(it.clients["a"].batches) == 2, "the first one runs on, and the new lane took the second"
    for _ in range(2):
        it.finish("a", items=0)
    await turn()
    assert [reply.outcome for reply in it.replies] == [Outcome.ANSWERED] * 2


async def drained_and_attached_again(it: Scene, requests: int) -> None:
    it.runner.drain(ReplicaId("a-1"))
    it.attach("a", it.clients["a"])
    it.submit("last")
    await turn()
    for _ in range(requests + 1):
        it.finish("a", items=0)
        await turn()
    assert [reply.outcome for reply in it.replies] == [Outcome.ANSWERED] * (requests + 1)


@scene
async def test_a_busy_replica_that_was_to_be_drained_serves_on_when_it_is_attached_again(it: Scene) -> None:
    it.submit("first")
    await turn()
    await drained_and_attached_again(it, 1)


@scene
async def test_an_idle_replica_that_is_attached_before_it_is_said_to_be_drained_serves_on(it: Scene) -> None:
    await drained_and_attached_again(it, 0)


@scene
async def test_whoever_waits_for_lanes_to_close_does_not_suffer_from_the_last_one_who_was_cancelled(it: Scene) -> None:
    it.submit()
    await turn()
    it.runner.lanes_closed(ReplicaId("a-1")).cancel()
    closed = it.runner.lanes_closed(ReplicaId("a-1"))
    it.runner.resize(ReplicaId("a-1"), 0, 1)
    await turn()
    assert not closed.done()
    it.finish("a", items=0)
    await turn()
    assert closed.done()
    assert not closed.cancelled()


@scene
async def test_a_drain_also_answers_whoever_waits_for_lanes_to_close(it: Scene) -> None:
    closed = it.runner.lanes_closed(ReplicaId("a-1"))
    it.runner.drain(ReplicaId("a-1"))
    await turn()
    assert closed.done()
