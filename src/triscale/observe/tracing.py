"""OpenTelemetry traces: what `request_trace.py` remembers of a request becomes spans when it ends.

    infer PIPELINE            from the first byte to the end; continues the client's trace (W3C Trace Context)
    └── stage NAME            from its first item's entering the stage to its last one's leaving it
        ├── queue NAME        its items' wait for one batch, or until they were given up
        └── batch NAME        that batch, from the lane to its results; linked to the other requests in it

Whether a request is sampled is decided when it arrives, by the SDK's sampler: its parent's decision, unless the
environment says otherwise. Spans are made afterwards, from timestamps. This module imports OpenTelemetry, so it is
imported only where tracing is wanted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

import triscale
from triscale.clock import wall
from triscale.core.graph import Graph
from triscale.core.request import Outcome, Reason
from triscale.dispatch.results import ItemResult
from triscale.dispatch.work import Batch, Request
from triscale.observe.request_trace import BatchNote, Origin, RequestTrace, Run, Visit, visits

__all__ = ["OtelTracer", "otlp_provider"]

_PATH = "/v1/traces"
_MOST_LINKS = 16
"""Of a batch span to the other requests in the batch: who wants all of a large batch looks for its number."""


def otlp_provider(endpoint: str, pipeline: str) -> TracerProvider:
    """Sends spans to a collector over OTLP/HTTP, from a thread of its own.

    `endpoint` is the collector's base URL, as in `OTEL_EXPORTER_OTLP_ENDPOINT`. Resource attributes, headers, sampler,
    limits and batching are those of the standard environment variables.
    """
    base = endpoint.rstrip("/")
    resource = Resource.create({"service.name": f"triscale/{pipeline}", "service.version": triscale.__version__})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(base if base.endswith(_PATH) else f"{base}{_PATH}"))
    )
    return provider


class OtelTracer:
    """A `request_trace.Tracer`."""

    def __init__(self, graph: Graph, provider: TracerProvider, wall: Callable[[], float] = wall) -> None:
        self._graph = graph
        self._pipeline = graph.pipeline.name
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("triscale", triscale.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._wall = wall
        self._live: dict[int, _Sampled] = {}
        self._running: dict[int, BatchNote] = {}

    def request_arrived(self, request: Request, origin: Origin, now: float) -> str:
        """Decide whether it is sampled; the header to answer with either way."""
        offset = self._wall() - now
        facts: dict[str, AttributeValue] = {"triscale.pipeline": self._pipeline}
        if origin.request_id:
            facts["triscale.request_id"] = origin.request_id
        context = self._context(origin)
        at = _ns(origin.arrived + offset)
        span = self._tracer.start_span(f"infer {self._pipeline}", context, SpanKind.SERVER, facts, start_time=at)
        if span.is_recording():
            self._live[request.id] = trace = _Sampled(span, origin.arrived, offset)
            request.dropped_items = []
            if request.pending:
                trace.entered[0] = now
        return _traceparent(span.get_span_context())

    def batch_started(self, batch: Batch) -> None:
        """Note it, if a sampled request is in it."""
        if not self._live:
            return
        note: BatchNote | None = None
        for item in batch.items:
            trace = self._live.get(item.request.id)
            if trace is not None:
                if note is None:
                    note = self._running[batch.id] = BatchNote(batch)
                trace.item_started(note, item.since)

    def batch_ended(self, batch: Batch, now: float, results: Sequence[ItemResult] = (), error: str = "") -> None:
        """Note how it ended, and which stages its sampled requests enter with it."""
        note = self._running.pop(batch.id, None)
        if note is None:
            return
        note.ended = now
        note.error = error
        children = self._graph.children[batch.stage]
        if children:
            for item, result in zip(batch.items, results, strict=False):
                trace = self._live.get(item.request.id)
                if trace is not None:
                    trace.item_done(result, children, now)

    def request_ended(self, request: Request, variants: Mapping[str, str]) -> None:
        """Make its spans."""
        trace = self._live.pop(request.id, None)
        if trace is None:
            return
        context = set_span_in_context(trace.span, Context())
        for visit in visits(trace, request, self._graph):
            self._stage(visit, request, context, trace)
        trace.span.set_attributes(self._facts(request, trace, variants))
        _set_error(trace.span, request)
        trace.span.end(trace.ns(request.ended))

    def close(self, grace_s: float) -> None:
        """Export what is left."""
        # The SDK waits for an unreachable collector for as long as its own limits allow; the server need not.
        closing = threading.Thread(target=self._provider.shutdown, name="triscale-traces", daemon=True)
        closing.start()
        closing.join(grace_s)

    # --- spans --------------------------------------------------------------------------------------------------

    def _context(self, origin: Origin) -> Context:
        if not origin.traceparent:
            return Context()
        headers = {"traceparent": origin.traceparent, "tracestate": origin.tracestate}
        return self._propagator.extract(headers, Context())

    def _facts(self, request: Request, trace: _Sampled, variants: Mapping[str, str]) -> dict[str, AttributeValue]:
        """What is known of a request when it has ended."""
        outcome = request.outcome
        assert outcome is not None
        facts: dict[str, AttributeValue] = {
            "triscale.outcome": outcome.label,
            "triscale.slo_seconds": self._graph.pipeline.slo_s,
            "triscale.limit_seconds": request.deadline - trace.arrived,
            "triscale.items_lost": request.lost,
            "triscale.variants": [f"{stage}={names}" for stage, names in variants.items()],
        }
        if request.reason:
            facts["triscale.reason"] = str(request.reason)
        if request.stage >= 0:
            facts["triscale.stage"] = self._graph.stages[request.stage]
        if outcome is Outcome.ANSWERED or outcome is Outcome.LATE:
            facts["triscale.accuracy"] = request.accuracy
        return facts

    def _stage(self, visit: Visit, request: Request, parent: Context, trace: _Sampled) -> None:
        stage = self._graph.stages[visit.stage]
        facts: dict[str, AttributeValue] = {
            "triscale.stage": stage,
            "triscale.items_run": sum(run.items for run in visit.runs),
            "triscale.items_dropped": sum(drop.stage == visit.stage for drop in request.dropped_items or ()),
        }
        span = self._start(f"stage {stage}", parent, trace.ns(visit.began), facts)
        if request.stage == visit.stage:
            span.set_attribute("triscale.reason", str(request.reason))
            _set_error(span, request)
        context = set_span_in_context(span, Context())
        for wait in visit.waits:
            queue = self._start(f"queue {stage}", context, trace.ns(wait.since), {"triscale.given_up": True})
            queue.end(trace.ns(wait.until))
        for run in visit.runs:
            self._run(stage, run, request, context, trace)
        span.end(trace.ns(visit.ended))

    def _run(self, stage: str, run: Run, request: Request, parent: Context, trace: _Sampled) -> None:
        batch = run.batch
        began = trace.ns(batch.started)
        self._start(f"queue {stage}", parent, trace.ns(run.since), {"triscale.items": run.items}).end(began)
        facts: dict[str, AttributeValue] = {
            "triscale.stage": stage,
            "triscale.variant": self._graph.variants[batch.stage][batch.variant],
            "triscale.replica": batch.replica,
            "triscale.batch": batch.number,
            "triscale.batch_items": batch.size,
            "triscale.items": run.items,
            "triscale.expected_seconds": batch.expected,
            "triscale.unfinished": batch.ended is None,
        }
        others = [other for other in batch.spans if other is not trace.span][:_MOST_LINKS]
        links = [Link(other.get_span_context()) for other in others if isinstance(other, Span)]
        span = self._start(f"batch {stage}", parent, began, facts, links)
        if batch.error:
            span.set_status(Status(StatusCode.ERROR, batch.error))
        span.end(trace.ns(request.ended if batch.ended is None else batch.ended))

    def _start(
        self, name: str, parent: Context, at: int, facts: dict[str, AttributeValue], links: Sequence[Link] = ()
    ) -> Span:
        return self._tracer.start_span(name, parent, SpanKind.INTERNAL, facts, links, start_time=at)


class _Sampled(RequestTrace):
    """With its span, and what turns the event loop's time into the world's."""

    __slots__ = ("_offset", "arrived")

    span: Span

    def __init__(self, span: Span, arrived: float, offset: float) -> None:
        super().__init__(span)
        self.arrived = arrived
        """At the door."""
        self._offset = offset

    def ns(self, now: float) -> int:
        """A moment of the event loop's clock as nanoseconds since 1970."""
        return _ns(now + self._offset)


def _set_error(span: Span, request: Request) -> None:
    """As HTTP's conventions have it, a server's span is in error where the status is 500 or more."""
    if request.outcome in (Outcome.DROPPED, Outcome.FAILED) and request.reason is not Reason.REJECTED:
        span.set_status(Status(StatusCode.ERROR, request.message or str(request.reason)))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _traceparent(context: SpanContext) -> str:
    """The header's value for a span; empty where there is none (the SDK is disabled)."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
