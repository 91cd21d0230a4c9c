"""Prometheus metrics of what flows through a pipeline: read when they are scraped, so that serving pays nothing.

Names have the prefix `triscale_`, base units (seconds), `_total` on counters; latencies are histograms. Labels are
few and bounded: pipeline, stage, variant, outcome, reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from triscale.core.request import Outcome
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.recorder import Recorder
from triscale.policy.drift import measured_drift

__all__ = ["PipelineCollector", "registry_of", "render"]


class PipelineCollector(Collector):
    """Makes Prometheus's families from one pipeline's accounts and distributions."""

    def __init__(self, dispatcher: Dispatcher, recorder: Recorder, version: str) -> None:
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._version = version
        self._pipeline = dispatcher.graph.pipeline.name

    def collect(self) -> Iterable[Metric]:
        """Every metric, with its current value."""
        yield InfoMetricFamily("triscale_build", "What serves.", {"version": self._version})
        yield from self._requests()
        yield from self._stages()

    def _requests(self) -> Iterator[Metric]:
        accounts = self._dispatcher.accounts
        stages = self._dispatcher.graph.stages
        slo = GaugeMetricFamily("triscale_slo_seconds", "The end-to-end latency objective.", labels=["pipeline"])
        slo.add_metric([self._pipeline], self._dispatcher.graph.pipeline.slo_s)
        yield slo
        ended = CounterMetricFamily(
            "triscale_requests",
            "Requests by how they ended; every request that arrived ends in exactly one outcome.",
            labels=["pipeline", "outcome"],
        )
        for outcome in Outcome:
            ended.add_metric([self._pipeline, outcome.label], accounts.outcomes[outcome])
        yield ended
        causes = CounterMetricFamily(
            "triscale_requests_unanswered",
            "Requests that were not answered in time, by outcome, reason and the stage where it happened.",
            labels=["pipeline", "outcome", "reason", "stage"],
        )
        for (outcome, stage, reason), count in sorted(accounts.causes.items()):
            where = stages[stage] if stage >= 0 else ""
            causes.add_metric([self._pipeline, outcome.label, str(reason) or "late", where], count)
        yield causes
        arrived = CounterMetricFamily("triscale_requests_arrived", "Requests at the door.", labels=["pipeline"])
        arrived.add_metric([self._pipeline], accounts.arrived)
        yield arrived
        partial = CounterMetricFamily(
            "triscale_requests_partial", "Requests answered with some items given up.", labels=["pipeline"]
        )
        partial.add_metric([self._pipeline], accounts.partial)
        yield partial
        live = GaugeMetricFamily("triscale_requests_live", "Requests in the system now.", labels=["pipeline"])
        live.add_metric([self._pipeline], accounts.live)
        yield live
        latency = HistogramMetricFamily(
            "triscale_request_latency_seconds",
            "From the first byte of a request to its answer, of answered and late requests.",
            labels=["pipeline"],
        )
        latency.add_metric([self._pipeline], self._recorder.latency_s.cumulative(), self._recorder.latency_s.total)
        yield latency
        accuracy = CounterMetricFamily(
            "triscale_expected_accuracy",
            "Sum of the expected accuracies of the requests answered in time; divide by their count.",
            labels=["pipeline"],
        )
        accuracy.add_metric([self._pipeline], self._recorder.accuracy_sum)
        yield accuracy

    def _stages(self) -> Iterator[Metric]:
        graph = self._dispatcher.graph
        by_stage = ["pipeline", "stage"]
        by_variant = [*by_stage, "variant"]
        waiting = GaugeMetricFamily("triscale_stage_items_waiting", "Items in the stage's queue.", labels=by_stage)
        running = GaugeMetricFamily("triscale_stage_items_running", "Items in batches now.", labels=by_stage)
        entered = CounterMetricFamily("triscale_stage_items", "Items that entered the stage.", labels=by_stage)
        given_up = CounterMetricFamily(
            "triscale_stage_items_given_up", "Items that were not completed.", labels=[*by_stage, "reason"]
        )
        requeued = CounterMetricFamily(
            "triscale_stage_items_requeued", "Items run again after a failure.", labels=by_stage
        )
        rescued = CounterMetricFamily(
            "triscale_stage_items_rescued", "Items run on a faster variant to be in time.", labels=by_stage
        )
        busy = CounterMetricFamily(
            "triscale_stage_busy_core_seconds", "Core-seconds of work, of the batches that ended.", labels=by_stage
        )
        batches = CounterMetricFamily("triscale_stage_batches", "Batches run.", labels=by_variant)
        items = CounterMetricFamily("triscale_stage_items_run", "Items run, retries included.", labels=by_variant)
        size = HistogramMetricFamily("triscale_stage_batch_items", "Items per batch.", labels=by_stage)
        queue = HistogramMetricFamily(
            "triscale_stage_queue_seconds", "Wait of each batch's oldest item before its lane.", labels=by_stage
        )
        service = HistogramMetricFamily(
            "triscale_stage_service_seconds", "From handing a batch to a lane to its results.", labels=by_variant
        )
        for state, counts, record, name in zip(
            self._dispatcher.stages, self._dispatcher.accounts.stages, self._recorder.stages, graph.stages, strict=True
        ):
            at = [self._pipeline, name]
            waiting.add_metric(at, max(0, state.live - state.running))
            running.add_metric(at, state.running)
            entered.add_metric(at, counts.entered)
            for reason, count in sorted(counts.given_up.items()):
                given_up.add_metric([*at, str(reason)], count)
            requeued.add_metric(at, counts.requeued)
            rescued.add_metric(at, counts.rescued)
            busy.add_metric(at, record.busy_core_s)
            size.add_metric(at, record.batch_items.cumulative(), record.batch_items.total)
            queue.add_metric(at, record.queue_s.cumulative(), record.queue_s.total)
            for v, variant in enumerate(graph.variants[state.index]):
                batches.add_metric([*at, variant], counts.batches[v])
                items.add_metric([*at, variant], counts.items_run[v])
                service.add_metric([*at, variant], record.service_s[v].cumulative(), record.service_s[v].total)
        yield from (waiting, running, entered, given_up, requeued, rescued, busy)
        yield from (batches, items, size, queue, service)
        drift = GaugeMetricFamily(
            "triscale_stage_drift",
            "Measured over profiled latency; 1 is as profiled, and what was not measured follows the rest.",
            labels=by_variant,
        )
        models = [state.models for state in self._dispatcher.stages]
        for (stage, variant), factor in measured_drift(graph, models).items():
            drift.add_metric([self._pipeline, stage, variant], factor)
        yield drift
        exits = CounterMetricFamily(
            "triscale_replica_exits", "Replicas that died without being asked to.", labels=["pipeline"]
        )
        exits.add_metric([self._pipeline], self._recorder.replica_exits)
        yield exits


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """A registry of its own: several servers in one process do not mix."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics as text, and its content type, in the format that the scraper's Accept header asks for."""
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type
