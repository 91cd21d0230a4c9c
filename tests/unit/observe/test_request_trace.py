"""What is remembered of a request is put in order stage by stage, and never claims more than is known."""

from __future__ import annotations

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.settings import Settings
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.work import Batch, Request
from triscale.observe.request_trace import BatchNote, RequestTrace, Visit, visits
from triscale.testing import builders

PIPELINE: Pipeline = builders.pipeline(
    1000.0,
    partial="allow",
    detect=builders.stage(builders.variant("d", 10.0)),
    read=builders.stage(builders.variant("r", 10.0), after="detect"),
)
GRAPH = Graph.of(PIPELINE)


class Scene:
    """One request, followed by hand: `detect` may emit several items, `read` has one lane for batches of one."""

    def __init__(self) -> None:
        models = [[builders.TableTimes({1: 10.0})], [builders.TableTimes({1: 400.0})]]
        self.dispatcher = Dispatcher(GRAPH, models, [[[1.0]], [[]]], builders.plan(PIPELINE), Settings(), 0.0)
        for stage, variant in (("detect", "d"), ("read", "r")):
            self.dispatcher.replica_ready(ReplicaId(stage), stage, [variant], 1, 1, "n", 0.0)
        self.request = self.dispatcher.arrive(1, ["x"], 1.0, 0.0)
        self.request.dropped_items = []
        self.trace = RequestTrace("span")
        self.trace.entered[0] = 0.0
        self.notes: dict[int, BatchNote] = {}
        self.ended: list[Request] = []
        self.batches: list[Batch] = []
        self.step(0.0)

    def step(self, now: float) -> None:
        commands = self.dispatcher.step(now)
        self.ended += commands.ends
        for batch in commands.runs:
            note = self.notes[batch.id] = BatchNote(batch)
            self.batches.append(batch)
            for item in batch.items:
                self.trace.item_started(note, item.since)

    def finish(self, now: float, emits: int = 0) -> None:
        batch = self.batches.pop(0)
        self.notes[batch.id].ended = now
        results = [("y", (["c"] * emits,)) for _ in batch.items]
        for result in results:
            self.trace.item_done(result, GRAPH.children[batch.stage], now)
        self.dispatcher.batch_done(batch.id, results, now)
        self.step(now)

    def visits(self) -> list[Visit]:
        return list(visits(self.trace, self.request, GRAPH))


def test_a_stage_lasts_from_its_first_item_to_its_last() -> None:
    it = Scene()
    it.finish(0.01, emits=2)
    it.finish(0.41)
    it.finish(0.81)
    detect, read = it.visits()
    assert (detect.began, detect.ended) == (0.0, 0.01)
    assert (read.began, read.ended) == (0.01, 0.81)
    assert [(run.since, run.batch.started, run.batch.ended) for run in read.runs] == [
        (0.01, 0.01, 0.41),
        (0.01, 0.41, 0.81),
    ]


def test_an_item_that_is_dropped_while_others_are_run_waited_until_then() -> None:
    it = Scene()
    it.finish(0.01, emits=3)
    it.step(0.65)  # the third would be late by now
    it.finish(0.7)
    while it.batches:
        it.finish(0.9)
    (_, read) = it.visits()
    drops = [(wait.since, wait.until) for wait in read.waits]
    assert drops
    assert all(since == 0.01 for since, _ in drops)
    assert len(drops) + len(read.runs) == 3
    assert it.request.lost == len(drops)


def test_what_still_runs_when_its_request_ends_has_no_end_of_its_own() -> None:
    it = Scene()
    it.finish(0.01, emits=1)
    it.dispatcher.cancel(it.request, 0.2)
    (_, read) = it.visits()
    assert read.ended == 0.2
    assert [run.batch.ended for run in read.runs] == [None]
    assert read.waits == []


def test_what_never_ran_waited_until_its_request_ended() -> None:
    it = Scene()
    it.dispatcher.drain(ReplicaId("read"), 0.0)
    it.finish(0.01, emits=2)
    it.dispatcher.cancel(it.request, 0.3)
    (_, read) = it.visits()
    assert [(wait.since, wait.until) for wait in read.waits] == [(0.01, 0.3)]


def test_a_stage_that_was_not_reached_is_not_there() -> None:
    it = Scene()
    it.finish(0.01, emits=0)
    assert [visit.stage for visit in it.visits()] == [0]
