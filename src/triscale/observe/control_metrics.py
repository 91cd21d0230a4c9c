"""Prometheus metrics of the control plane: the plan, what runs of it, and what changing it took.

Beside `metrics.py`, which has what flows through the pipeline. Read when scraped, like those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, get_args, get_type_hints

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from triscale.clock import Clock
from triscale.core.cluster import Node
from triscale.core.plan import Plan
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.stage import StageState
from triscale.observe.decisions import KINDS, DecisionLog
from triscale.observe.histogram import Histogram
from triscale.observe.recorder import ControlRecorder
from triscale.observe.window import ArrivalWindow

__all__ = ["Actuation", "ControlCollector", "Loop"]

_MODES: tuple[str, ...] = get_args(get_type_hints(Plan)["mode"])


class Actuation(Protocol):
    """What carries plans out (`control/actuator.py`), as far as it is counted."""

    launches: int
    launch_failures: int
    resizes: int
    holds: int
    hold_failures: int
    drains: int

    @property
    def replicas(self) -> Sequence[ReplicaView]:
        """Every replica from the moment its launch begins until it is gone."""
        ...

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes."""
        ...


class Loop(Protocol):
    """What decides (`control/loop.py`), as far as it is counted."""

    decisions: DecisionLog
    ticks: int

    @property
    def failures(self) -> int:
        """Ticks that something went wrong in, and what went wrong beside them."""
        ...


class ControlCollector(Collector):
    """Makes Prometheus's families from one pipeline's plan, replicas and decisions."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        arrivals: ArrivalWindow,
        actuation: Actuation,
        recorder: ControlRecorder,
        clock: Clock,
        policy: str,
        loop: Loop | None = None,
    ) -> None:
        """`loop` is None where the plan never changes."""
        self._dispatcher = dispatcher
        self._arrivals = arrivals
        self._actuation = actuation
        self._recorder = recorder
        self._clock = clock
        self._policy = policy
        self._loop = loop
        self._pipeline = dispatcher.graph.pipeline.name
        self._stages = dispatcher.graph.stages

    def collect(self) -> Iterable[Metric]:
        """Every metric, with its current value."""
        yield from self._demand()
        yield from self._plan()
        yield from self._lanes_and_cores()
        yield from self._replicas()
        if self._loop is not None:
            yield from self._decisions(self._loop)

    def _demand(self) -> Iterator[Metric]:
        seconds = self._arrivals.per_second(self._clock.now())
        yield self._gauge(
            "triscale_demand_measured",
            "Requests that reached the door in the last whole second, refused ones included.",
            float(seconds[-1]) if seconds else 0.0,
        )
        yield self._gauge(
            "triscale_demand_forecast",
            "Requests per second that the plan in force was made for.",
            self._dispatcher.plan.demand,
        )

    def _plan(self) -> Iterator[Metric]:
        plan = self._dispatcher.plan
        yield self._gauge(
            "triscale_plan_capacity", "Requests per second that the plan can carry; 0 = not known.", plan.capacity
        )
        yield self._gauge(
            "triscale_plan_served_fraction", "Part of the demand that the plan admits.", plan.served_fraction
        )
        yield self._gauge("triscale_plan_accuracy", "Expected accuracy of the plan in force.", plan.accuracy)
        yield self._gauge("triscale_plan_cores", "Cores that the plan uses.", plan.cores)
        mode = GaugeMetricFamily(
            "triscale_plan_mode",
            "1 for what the plan can still do about load: hardware (add cores), accuracy (faster variants), overload.",
            labels=["pipeline", "mode"],
        )
        for name in _MODES:
            mode.add_metric([self._pipeline, name], float(plan.mode == name))
        yield mode
        share = GaugeMetricFamily(
            "triscale_plan_share",
            "Part of a stage's items that a variant is to run.",
            labels=["pipeline", "stage", "variant"],
        )
        for stage, stage_plan in plan.stages.items():
            for variant, variant_plan in stage_plan.variants.items():
                share.add_metric([self._pipeline, stage, variant], variant_plan.share)
        yield share

    def _lanes_and_cores(self) -> Iterator[Metric]:
        groups = {name: stage.groups for name, stage in self._dispatcher.plan.stages.items()}
        yield self._by_stage(
            "triscale_stage_lanes_wanted",
            "Lanes that the plan asks for.",
            {name: sum(group.replicas * group.lanes for group in groups.get(name, ())) for name in self._stages},
        )
        states = dict(zip(self._stages, self._dispatcher.stages, strict=True))
        yield self._by_stage(
            "triscale_stage_lanes_granted",
            "Lanes that can take work.",
            {name: state.lanes for name, state in states.items()},
        )
        running = {name: _running(state) for name, state in states.items()}
        yield self._by_stage(
            "triscale_stage_lanes_running",
            "Lanes that run a batch now.",
            {name: len(threads) for name, threads in running.items()},
        )
        yield self._by_stage(
            "triscale_stage_cores_wanted",
            "Cores of the lanes that the plan asks for; stages may share them (triscale_plan_cores).",
            {
                name: sum(group.replicas * group.lanes * group.threads for group in groups.get(name, ()))
                for name in self._stages
            },
        )
        granted = dict.fromkeys(self._stages, 0)
        for view in self._actuation.replicas:
            granted[view.spec.stage] += view.cores
        yield self._by_stage(
            "triscale_stage_cores_granted",
            "Cores of the stage's replicas, starting and draining ones included; stages may share them.",
            granted,
        )
        yield self._by_stage(
            "triscale_stage_cores_running",
            "Cores that run a batch now.",
            {name: sum(threads) for name, threads in running.items()},
        )
        cores = GaugeMetricFamily(
            "triscale_node_cores", "Cores of a node that may be used; 0 while it is gone.", labels=["pipeline", "node"]
        )
        for node in self._actuation.nodes:
            cores.add_metric([self._pipeline, node.id], node.cores if node.ready else 0.0)
        yield cores

    def _replicas(self) -> Iterator[Metric]:
        phases = GaugeMetricFamily(
            "triscale_stage_replicas", "Replicas by phase.", labels=["pipeline", "stage", "phase"]
        )
        views = self._actuation.replicas
        for stage in self._stages:
            for phase in Phase:
                alike = sum(view.phase is phase and view.spec.stage == stage for view in views)
                phases.add_metric([self._pipeline, stage, str(phase)], alike)
        yield phases
        yield self._counter("triscale_replica_launches", "Launches begun.", self._actuation.launches)
        yield self._counter(
            "triscale_replica_launch_failures", "Launches that failed.", self._actuation.launch_failures
        )
        yield self._counter("triscale_replica_resizes", "Resizes in place begun.", self._actuation.resizes)
        yield self._counter(
            "triscale_replica_holds", "Changes of the variants that a replica holds.", self._actuation.holds
        )
        yield self._counter(
            "triscale_replica_hold_failures",
            "Times that it could not; it goes on with what it holds.",
            self._actuation.hold_failures,
        )
        yield self._counter("triscale_replica_drains", "Replicas told to finish and stop.", self._actuation.drains)
        yield self._histograms(
            "triscale_replica_cold_start_seconds",
            "From a launch to the first batch that the replica could take.",
            self._recorder.cold_start_s,
        )
        yield self._histograms(
            "triscale_replica_resize_seconds",
            "From asking a replica for other lanes or threads to having them.",
            self._recorder.resize_s,
        )

    def _decisions(self, loop: Loop) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "triscale_decisions",
            "Changes of plan, by the aim that the new plan meets and the way it went.",
            labels=["pipeline", "policy", "mode", "kind"],
        )
        for mode in _MODES:
            for kind in KINDS:
                decisions.add_metric([self._pipeline, self._policy, mode, kind], loop.decisions.counts[mode, kind])
        yield decisions
        yield self._counter("triscale_control_ticks", "Times that the control loop looked and asked.", loop.ticks)
        yield self._counter(
            "triscale_control_failed_ticks",
            "Ticks without a decision (an error, an impossible plan), and losses of the process that decides. "
            "The last plan stayed in force.",
            loop.failures,
        )
        decide = HistogramMetricFamily(
            "triscale_control_decide_seconds",
            "From looking to having a plan, per tick, the way to the process that decides and back included.",
            labels=["pipeline"],
        )
        decide.add_metric([self._pipeline], self._recorder.decide_s.cumulative(), self._recorder.decide_s.total)
        yield decide

    # --- families -----------------------------------------------------------------------------------------------

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["pipeline"])
        family.add_metric([self._pipeline], value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=["pipeline"])
        family.add_metric([self._pipeline], value)
        return family

    def _by_stage(self, name: str, text: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["pipeline", "stage"])
        for stage, value in values.items():
            family.add_metric([self._pipeline, stage], value)
        return family

    def _histograms(self, name: str, text: str, by_stage: Mapping[str, Histogram]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=["pipeline", "stage"])
        for stage, histogram in by_stage.items():
            family.add_metric([self._pipeline, stage], histogram.cumulative(), histogram.total)
        return family


def _running(state: StageState) -> list[int]:
    """The threads of each lane that runs a batch."""
    return [
        lane.batch.group.threads
        for replica in state.replicas.values()
        for lane in replica.lanes
        if lane.batch is not None
    ]
