"""The metrics say what the accounts say, in the form that Prometheus reads."""

from __future__ import annotations

import pytest

from tests.unit.observe.scraping import Values, scraped
from triscale import Pipeline, Stage, Variant
from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.profile import LatencyPoint, VariantProfile
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.histogram import Histogram
from triscale.observe.metrics import PipelineCollector, registry_of, render
from triscale.observe.recorder import Recorder
from triscale.policy.latency import ServiceTimes
from triscale.policy.learned import LearnedTimes


class Scene:
    def __init__(self) -> None:
        pipeline = Pipeline(
            name="p", slo_ms=500, stages={"only": Stage(variants=(Variant(name="v", model="m:M", accuracy=0.9),))}
        )
        graph = Graph.of(pipeline)
        plan = Plan(stages={"only": StagePlan(variants={"v": VariantPlan(share=1.0, batch=4)})})
        self.dispatcher = Dispatcher(graph, [[LearnedTimes()]], [[[]]], plan, pipeline.dispatch, 0.0)
        self.dispatcher.replica_ready(ReplicaId("r"), "only", ["v"], 2, 1, "n", 0.0)
        self.recorder = Recorder(graph)
        self.registry = registry_of(PipelineCollector(self.dispatcher, self.recorder, "9.9"))

    def run(self) -> None:
        """Three requests in one batch, of which the client cancels one; a fourth is hopeless."""
        requests = [self.dispatcher.arrive(i, ["x"], 0.5, 0.0) for i in range(3)]
        (batch,) = self.dispatcher.step(0.0).runs
        self.recorder.batch_started(batch)
        self.dispatcher.cancel(requests[2], 0.1)
        self.recorder.batch_ended(batch, 0.2)
        self.dispatcher.batch_done(batch.id, [("y", ())] * 3, 0.2)
        self.dispatcher.arrive(3, ["x"], 0.1, 0.2)
        for request in self.dispatcher.step(0.2).ends:
            self.recorder.request_ended(request)

    def values(self) -> Values:
        return scraped(self.registry)

    def value(self, name: str, **labels: str) -> float:
        return self.values()[name, tuple(sorted({"pipeline": "p", **labels}.items()))]


def test_the_counters_are_the_accounts() -> None:
    scene = Scene()
    scene.run()
    assert scene.value("triscale_requests_arrived_total") == 4
    assert scene.value("triscale_requests_total", outcome="answered") == 2
    assert scene.value("triscale_requests_total", outcome="cancelled") == 1
    assert scene.value("triscale_requests_total", outcome="shed") == 1
    assert scene.value("triscale_requests_unanswered_total", outcome="shed", reason="too_tight", stage="") == 1
    assert scene.value("triscale_stage_items_run_total", stage="only", variant="v") == 3
    assert scene.value("triscale_stage_busy_core_seconds_total", stage="only") == pytest.approx(0.2)
    assert scene.value("triscale_expected_accuracy_total") == pytest.approx(1.8)
    assert scene.value("triscale_slo_seconds") == 0.5
    assert scene.values()["triscale_build_info", (("version", "9.9"),)] == 1.0


def test_latencies_are_histograms_in_seconds() -> None:
    scene = Scene()
    scene.run()
    assert scene.value("triscale_request_latency_seconds_count") == 2
    assert scene.value("triscale_request_latency_seconds_sum") == pytest.approx(0.4)
    assert scene.value("triscale_request_latency_seconds_bucket", le="0.2") == 2
    assert scene.value("triscale_request_latency_seconds_bucket", le="0.15") == 0
    assert scene.value("triscale_stage_batch_items_bucket", stage="only", le="4.0") == 1


def test_a_scraper_may_ask_for_openmetrics() -> None:
    text, content_type = render(Scene().registry, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_a_histogram_counts_at_or_below_its_bounds() -> None:
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert (histogram.count, histogram.total) == (5, 14.0)


def test_the_drift_of_profiled_variants_is_shown_once_batches_were_observed() -> None:
    scene = Scene()
    point = LatencyPoint(batch=1, p50_s=0.1, p95_s=0.1, p99_s=0.1)
    model = ServiceTimes(VariantProfile(latency=(point,)))
    scene.dispatcher.stages[0].models[0] = model
    assert not any(name == "triscale_stage_drift" for name, _ in scene.values())
    for _ in range(200):
        model.observe(1, 0.2)
    assert scene.value("triscale_stage_drift", stage="only", variant="v") == pytest.approx(2.0, rel=0.01)
