"""The control plane's metrics: what the plan wants, what was granted, what runs, and what changing it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.unit.observe.scraping import Values, scraped
from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.settings import Settings
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.control_metrics import ControlCollector
from triscale.observe.decisions import Decision, DecisionLog
from triscale.observe.metrics import registry_of
from triscale.observe.recorder import ControlRecorder
from triscale.observe.window import ArrivalWindow
from triscale.testing import builders
from triscale.testing.clock import ManualClock


@dataclass
class FakeActuation:
    replicas: Sequence[ReplicaView] = ()
    nodes: Sequence[Node] = ()
    launches: int = 0
    launch_failures: int = 0
    resizes: int = 0
    holds: int = 0
    hold_failures: int = 0
    drains: int = 0


@dataclass
class FakeLoop:
    decisions: DecisionLog = field(default_factory=DecisionLog)
    ticks: int = 0
    failures: int = 0


def view(number: int, phase: Phase, lanes: int = 1, threads: int = 1) -> ReplicaView:
    spec = ReplicaSpec(id=ReplicaId(f"only-{number}"), stage="only", variants=("v",), lanes=lanes, threads=threads)
    return ReplicaView(spec=spec, node=NodeId("n"), phase=phase, cores=lanes * threads)


def plan(**fields: object) -> Plan:
    groups = (ReplicaGroup(variants=("v",), replicas=2, lanes=3, threads=2),)
    variants = {"v": VariantPlan(share=0.75), "w": VariantPlan(share=0.25)}
    return Plan(stages={"only": StagePlan(variants=variants, groups=groups)}, **fields)  # type: ignore[arg-type]


class Scene:
    def __init__(self, loop: FakeLoop | None = None, **fields: object) -> None:
        pipeline = builders.pipeline(only=builders.stage(builders.variant("v", 10.0), builders.variant("w", 5.0)))
        graph = Graph.of(pipeline)
        models = [[builders.TableTimes({1: 10.0}), builders.TableTimes({1: 5.0})]]
        self.clock = ManualClock()
        self.dispatcher = Dispatcher(graph, models, [[[], []]], plan(**fields), Settings(), 0.0)
        self.arrivals = ArrivalWindow(0.0)
        self.actuation = FakeActuation()
        self.recorder = ControlRecorder(graph.stages)
        self.registry = registry_of(
            ControlCollector(
                self.dispatcher, self.arrivals, self.actuation, self.recorder, self.clock, "triscale", loop
            )
        )

    def values(self) -> Values:
        return scraped(self.registry)

    def value(self, name: str, **labels: str) -> float:
        return self.values()[name, tuple(sorted({"pipeline": "test", **labels}.items()))]


def test_lanes_and_cores_are_told_as_wanted_granted_and_running() -> None:
    scene = Scene()
    scene.dispatcher.replica_ready(ReplicaId("only-1"), "only", ["v", "w"], 3, 2, "n", 0.0)
    scene.actuation.replicas = [view(1, Phase.READY, 3, 2), view(2, Phase.STARTING, 1, 2)]
    scene.dispatcher.arrive(1, ["x"], 1.0, 0.0)
    scene.dispatcher.step(0.0)
    found = {
        (what, state): scene.value(f"triscale_stage_{what}_{state}", stage="only")
        for what in ("lanes", "cores")
        for state in ("wanted", "granted", "running")
    }
    assert found == {
        ("lanes", "wanted"): 6,
        ("lanes", "granted"): 3,
        ("lanes", "running"): 1,
        ("cores", "wanted"): 12,
        ("cores", "granted"): 8,
        ("cores", "running"): 2,
    }


def test_replicas_are_told_by_phase_and_a_phase_that_nobody_is_in_is_zero() -> None:
    scene = Scene()
    scene.actuation.replicas = [view(1, Phase.READY), view(2, Phase.READY), view(3, Phase.DRAINING)]
    counts = {phase: scene.value("triscale_stage_replicas", stage="only", phase=str(phase)) for phase in Phase}
    assert counts == {Phase.STARTING: 0, Phase.READY: 2, Phase.DRAINING: 1}


def test_the_plan_in_force_is_told() -> None:
    scene = Scene(capacity=42.0, demand=40.0, accuracy=0.9, cores=6.0, served_fraction=0.5, mode="overload")
    assert scene.value("triscale_plan_capacity") == 42.0
    assert scene.value("triscale_demand_forecast") == 40.0
    assert scene.value("triscale_plan_accuracy") == 0.9
    assert scene.value("triscale_plan_cores") == 6.0
    assert scene.value("triscale_plan_served_fraction") == 0.5
    assert scene.value("triscale_plan_share", stage="only", variant="w") == 0.25
    modes = {mode: scene.value("triscale_plan_mode", mode=mode) for mode in ("hardware", "accuracy", "overload")}
    assert modes == {"hardware": 0.0, "accuracy": 0.0, "overload": 1.0}


def test_measured_demand_is_that_of_the_last_whole_second() -> None:
    scene = Scene()
    scene.arrivals.arrived(0.5, 7)
    scene.arrivals.arrived(1.5, 3)
    scene.clock.move_to(1.9)
    assert scene.value("triscale_demand_measured") == 7.0
    scene.clock.move_to(2.0)
    assert scene.value("triscale_demand_measured") == 3.0


def test_steps_are_counted_and_what_they_took_is_a_histogram() -> None:
    scene = Scene()
    scene.actuation.launches, scene.actuation.launch_failures = 5, 2
    scene.recorder.launched("only", 1.5)
    scene.recorder.resized("only", 0.004)
    assert scene.value("triscale_replica_launches_total") == 5
    assert scene.value("triscale_replica_launch_failures_total") == 2
    assert scene.value("triscale_replica_cold_start_seconds_bucket", stage="only", le="2.0") == 1
    assert scene.value("triscale_replica_cold_start_seconds_bucket", stage="only", le="1.0") == 0
    assert scene.value("triscale_replica_resize_seconds_sum", stage="only") == pytest.approx(0.004)


def test_a_node_that_is_gone_has_no_cores() -> None:
    scene = Scene()
    scene.actuation.nodes = [Node(id=NodeId("a"), cores=4.0), Node(id=NodeId("b"), cores=8.0, ready=False)]
    assert scene.value("triscale_node_cores", node="a") == 4.0
    assert scene.value("triscale_node_cores", node="b") == 0.0


def decision(**changes: object) -> Decision:
    fields: dict[str, object] = {
        "number": 1, "wall_s": 0.0, "policy": "triscale", "reason": "demand rose", "mode": "hardware", "demand": 1.0,
        "arrivals": 1.0, "queued": 0, "cores": 2.0, "cores_before": 2.0, "accuracy": 0.9, "accuracy_before": 0.9,
        "served_fraction": 1.0, "variants": {}, "ready": 1, "starting": 0, "decide_s": 0.001,
    }  # fmt: skip
    return Decision(**{**fields, **changes})  # type: ignore[arg-type]


def test_decisions_are_counted_by_mode_and_kind_and_the_loop_by_its_ticks() -> None:
    loop = FakeLoop(ticks=9, failures=2)
    scene = Scene(loop)
    loop.decisions.add(decision(cores=4.0))
    loop.decisions.add(decision(cores=4.0, accuracy=0.8, mode="accuracy"))
    assert scene.value("triscale_decisions_total", policy="triscale", mode="hardware", kind="cores_up") == 1
    assert scene.value("triscale_decisions_total", policy="triscale", mode="accuracy", kind="accuracy_down") == 1
    assert scene.value("triscale_decisions_total", policy="triscale", mode="overload", kind="other") == 0
    assert scene.value("triscale_control_ticks_total") == 9
    assert scene.value("triscale_control_failed_ticks_total") == 2
    assert scene.value("triscale_control_decide_seconds_count") == 0


def test_a_plan_that_never_changes_has_no_decisions_to_count() -> None:
    names = {name for name, _ in Scene().values()}
    assert "triscale_plan_capacity" in names
    assert not any(name.startswith(("triscale_decisions", "triscale_control")) for name in names)
