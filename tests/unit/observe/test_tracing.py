"""A sampled request tells its whole story in spans; one that is not sampled tells nothing, and costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import pytest

from triscale.core.cluster import NodeId, Replica, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome
from triscale.core.settings import Settings
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.recorder import Recorder
from triscale.replica.client import ReplicaClient
from triscale.serve.runner import Runner
from triscale.serve.service import Call, Reply
from triscale.testing import builders
from triscale.testing.clock import ManualClock
from triscale.wire.payload import Payload, pack

pytest.importorskip("opentelemetry.sdk", reason="needs the packages of the `otel` extra")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the packages of the `otel` extra")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from triscale.observe.tracing import OtelTracer, otlp_provider

_SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NOT_SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
_WALL = 1_700_000_000.0
"""What the world's clock says at 100.0 of the event loop's."""


class FakeClient:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def run(self, batch_id: int, variant: str, items: Sequence[Sequence[Payload]]) -> None:
        self.batches.append((batch_id, len(items)))

    def as_client(self) -> ReplicaClient:
        return cast("ReplicaClient", self)


def fan_out(slo_ms: float = 1000.0) -> Pipeline:
    """A detector that emits crops, and what reads them."""
    return builders.pipeline(
        slo_ms,
        detect=builders.stage(builders.variant("d", 10.0, accuracy=0.9, fan_out={"read": 2.0})),
        read=builders.stage(builders.variant("r", 10.0, accuracy=0.8), after="detect"),
    )


class Scene:
    """A pipeline behind a runner that traces, one lane per stage; time moves when told."""

    def __init__(self, pipeline: Pipeline, provider: TracerProvider, batch: int = 4) -> None:
        graph = Graph.of(pipeline)
        self.clock = ManualClock(100.0)
        models = [[builders.TableTimes({1: 10.0, 8: 10.0}) for _ in names] for names in graph.variants]
        fan_out = [[[2.0] * len(graph.children[s]) for _ in names] for s, names in enumerate(graph.variants)]
        plan = builders.plan(pipeline, batch=batch)
        dispatcher = Dispatcher(graph, models, fan_out, plan, Settings(), 100.0)
        self.exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = OtelTracer(graph, provider, lambda: _WALL + self.clock.now() - 100.0)
        self.runner = Runner(dispatcher, Recorder(graph), self.clock, lambda _replica, _reason: None, self.tracer)
        self.clients = {stage: FakeClient() for stage in graph.stages}
        for stage, client in self.clients.items():
            variants = tuple(variant.name for variant in pipeline.stages[stage].variants)
            spec = ReplicaSpec(id=ReplicaId(f"{stage}-1"), stage=stage, variants=variants)
            self.runner.attach(Replica(spec=spec, node=NodeId("n"), address=""), client.as_client())
        self.runner.open()
        self.replies: list[Reply] = []

    async def submit(self, traceparent: str = "", tracestate: str = "", seconds: float = 1.0) -> int:
        now = self.clock.now()
        call = Call([pack({"x": 1})], now, now + seconds, self.replies.append, "id-7", traceparent, tracestate)
        handle = self.runner.submit("test", call)
        await turn()
        return handle

    async def finish(self, stage: str, *emits: int, after: float = 0.0) -> None:
        """The stage's oldest batch is done so much later; its items emitted so many each."""
        self.clock.advance(after)
        batch_id, size = self.clients[stage].batches.pop(0)
        counts = emits or (0,) * size
        results = [(pack({"y": 1}), ([pack({"x": 1})] * count,)) for count in counts]
        self.runner.batch_done(self.clients[stage].as_client(), batch_id, 0.01, cast("Any", results))
        await turn()

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[tuple[str, str, float, float]]:
        """(name, parent's name, began, ended) of each span, in seconds after the scene's start."""
        names = {span.context.span_id: span.name for span in self.spans if span.context}
        rows = []
        for span in self.spans:
            parent = names.get(span.parent.span_id, "outside") if span.parent else ""
            rows.append((span.name, parent, seconds(span.start_time), seconds(span.end_time)))
        return sorted(rows)


def seconds(ns: int | None) -> float:
    assert ns is not None
    return round(ns / 1e9 - _WALL, 4)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {key.removeprefix("triscale."): value for key, value in (span.attributes or {}).items()}


def scene(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(test())

    wrapped.__name__ = test.__name__
    return wrapped


@scene
async def test_a_request_is_a_tree_of_stages_queues_and_batches() -> None:
    it = Scene(fan_out(), TracerProvider(), batch=2)
    await it.submit()
    await it.finish("detect", 3, after=0.02)
    await it.finish("read", after=0.01)
    await it.finish("read", after=0.01)
    assert it.tree() == [
        ("batch detect", "stage detect", 0.0, 0.02),
        ("batch read", "stage read", 0.02, 0.03),
        ("batch read", "stage read", 0.03, 0.04),
        ("infer test", "", 0.0, 0.04),
        ("queue detect", "stage detect", 0.0, 0.0),
        ("queue read", "stage read", 0.02, 0.02),
        ("queue read", "stage read", 0.02, 0.03),
        ("stage detect", "infer test", 0.0, 0.02),
        ("stage read", "infer test", 0.02, 0.04),
    ]
    (root,) = it.named("infer test")
    assert root.kind is SpanKind.SERVER
    assert root.status.status_code is StatusCode.UNSET
    assert facts(root) == {
        "pipeline": "test",
        "request_id": "id-7",
        "outcome": "answered",
        "slo_seconds": 1.0,
        "limit_seconds": 1.0,
        "items_lost": 0,
        "accuracy": pytest.approx(0.72),
        "variants": ("detect=d", "read=r"),
    }
    (first, _) = it.named("batch read")
    assert facts(first) == {
        "stage": "read",
        "variant": "r",
        "replica": "read-1",
        "batch": facts(first)["batch"],
        "batch_items": 2,
        "items": 2,
        "expected_seconds": pytest.approx(0.01),
        "unfinished": False,
    }


@scene
async def test_the_clients_trace_is_continued_and_the_answer_says_where() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit(_SAMPLED, "vendor=1")
    await it.finish("detect")
    (root,) = it.named("infer test")
    assert root.parent is not None
    assert root.context is not None
    assert f"{root.parent.trace_id:032x}-{root.parent.span_id:016x}" == _SAMPLED[3:52]
    assert root.context.trace_state.get("vendor") == "1"
    assert it.replies[0].traceparent == f"{_SAMPLED[:35]}-{root.context.span_id:016x}-01"


@scene
async def test_a_client_that_does_not_sample_is_followed_in_that_and_told_so() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit(_NOT_SAMPLED)
    await it.finish("detect")
    assert it.spans == []
    assert it.replies[0].traceparent.startswith(_NOT_SAMPLED[:36])
    assert it.replies[0].traceparent.endswith("-00")


@scene
async def test_a_header_that_is_not_one_begins_a_trace_of_its_own() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit("00-nonsense-01")
    await it.finish("detect")
    (root,) = it.named("infer test")
    assert root.parent is None


@scene
async def test_of_a_batch_only_the_sampled_requests_are_told_and_they_are_linked() -> None:
    it = Scene(fan_out(), TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    await it.submit(_SAMPLED)
    for parent in (_SAMPLED, "", _SAMPLED):
        await it.submit(parent)
    await it.finish("detect")
    await it.finish("detect")
    roots = it.named("infer test")
    assert len(roots) == 3
    together = [span for span in it.named("batch detect") if facts(span)["batch_items"] == 3]
    assert len(together) == 2
    linked = [link.context.span_id for span in together for link in span.links]
    parents = {span.context.span_id for span in roots[1:] if span.context}
    assert len(linked) == 2
    assert set(linked) == parents


@scene
async def test_a_dropped_request_says_where_it_waited_and_why_it_was_dropped() -> None:
    it = Scene(fan_out(), TracerProvider(), batch=1)
    await it.submit(seconds=5.0)
    await it.submit(seconds=0.5)
    it.clock.advance(0.6)
    it.exporter.clear()
    await it.submit(seconds=5.0)  # wakes the dispatcher, which sees that the second one is late
    (root,) = it.named("infer test")
    assert root.status.status_code is StatusCode.ERROR
    assert (facts(root)["outcome"], facts(root)["stage"]) == ("dropped", "detect")
    assert facts(root)["reason"] in ("expired", "predicted_late")
    (stage,) = it.named("stage detect")
    assert stage.status.status_code is StatusCode.ERROR
    (queue,) = it.named("queue detect")
    assert facts(queue) == {"given_up": True}
    assert (seconds(queue.start_time), seconds(queue.end_time)) == (0.0, 0.6)


@scene
async def test_a_refused_request_is_one_span() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit(seconds=0.001)
    (root,) = it.spans
    assert (facts(root)["outcome"], facts(root)["reason"]) == ("shed", "too_tight")
    assert root.status.status_code is StatusCode.UNSET


@scene
async def test_a_batch_that_fails_is_in_error_and_its_items_are_run_again() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit()
    batch_id, _ = it.clients["detect"].batches.pop(0)
    it.runner.batch_failed(it.clients["detect"].as_client(), batch_id, "model", "no such weights")
    await turn()
    (root,) = it.named("infer test")
    (batch,) = it.named("batch detect")
    assert (batch.status.status_code, batch.status.description) == (StatusCode.ERROR, "no such weights")
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "no such weights")
    assert facts(root)["reason"] == "model_error"


@scene
async def test_a_lost_replica_is_in_the_trace_of_what_it_ran() -> None:
    it = Scene(fan_out(), TracerProvider())
    await it.submit()
    it.runner.lost(it.clients["detect"].as_client(), "killed by SIGKILL")
    client = it.clients["detect"] = FakeClient()
    spec = ReplicaSpec(id=ReplicaId("detect-2"), stage="detect", variants=("d",))
    it.runner.attach(Replica(spec=spec, node=NodeId("n"), address=""), client.as_client())
    await turn()
    await it.finish("detect")
    first, second = it.named("batch detect")
    assert first.status.description == "replica detect-1 is gone: killed by SIGKILL"
    assert (facts(second)["replica"], second.status.status_code) == ("detect-2", StatusCode.UNSET)
    assert it.replies[0].outcome is Outcome.ANSWERED


@scene
async def test_a_request_whose_client_goes_ends_its_trace() -> None:
    it = Scene(fan_out(), TracerProvider())
    handle = await it.submit()
    it.clock.advance(0.005)
    it.runner.cancel(handle)
    await turn()
    (root,) = it.named("infer test")
    assert facts(root)["outcome"] == "cancelled"
    (batch,) = it.named("batch detect")
    assert facts(batch)["unfinished"] is True
    assert seconds(batch.end_time) == 0.005


@pytest.mark.parametrize(
    ("environment", "name"), [("", "triscale/ocr"), ("service.name=mine,zone=a", "mine")], ids=["by default", "stated"]
)
def test_the_service_is_named_after_the_pipeline_unless_the_environment_says_otherwise(
    environment: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", environment)
    provider = otlp_provider("http://localhost:4318", "ocr")
    provider.shutdown()
    assert provider.resource.attributes["service.name"] == name
