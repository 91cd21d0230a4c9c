"""The picture that an autoscaler decides from is what the dispatcher, the window and the engine know."""

from __future__ import annotations

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.assemble import make_dispatcher
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.snapshots import snapshot_of
from triscale.observe.window import ArrivalWindow
from triscale.policy.learned import LearnedTimes
from triscale.testing.builders import pipeline, plan, stage, variant

PIPELINE = pipeline(
    a=stage(variant("x", 100.0, fan_out={"b": 2.0}), variant("y", 50.0)), b=stage(variant("v", 10.0), after="a")
)


def dispatcher() -> Dispatcher:
    return make_dispatcher(Graph.of(PIPELINE), inline_profile(PIPELINE), plan(PIPELINE), 0.0)


def test_queues_and_running_items_are_those_of_the_dispatcher() -> None:
    it = dispatcher()
    it.replica_ready(ReplicaId("a-1"), "a", ("x",), 1, 1, "n", 0.0)
    for number in range(3):
        it.arrive(number, [None], 10.0, 0.0)
    it.step(0.0)
    seen = snapshot_of(it, ArrivalWindow(0.0), (), (), it.plan, 0.0)
    assert (seen.stages["a"].queued, seen.stages["a"].running, seen.stages["a"].entered) == (2, 1, 3)
    assert (seen.stages["b"].queued, seen.stages["b"].running, seen.stages["b"].entered) == (0, 0, 0)


def test_drift_is_told_where_it_was_measured() -> None:
    it = dispatcher()
    assert snapshot_of(it, ArrivalWindow(0.0), (), (), it.plan, 0.0).drift == {}
    it.stages[0].models[1].observe(1, 0.1)
    drift = snapshot_of(it, ArrivalWindow(0.0), (), (), it.plan, 0.0).drift
    assert list(drift) == [("a", "y")]
    assert drift["a", "y"] > 1.0


def test_what_has_no_profile_has_no_drift() -> None:
    graph = Graph.of(PIPELINE)
    it = Dispatcher(
        graph,
        [[LearnedTimes(), LearnedTimes()], [LearnedTimes()]],
        [[[1.0], [1.0]], [[]]],
        plan(PIPELINE),
        PIPELINE.dispatch,
        0.0,
    )
    it.stages[0].models[0].observe(1, 5.0)
    assert snapshot_of(it, ArrivalWindow(0.0), (), (), it.plan, 0.0).drift == {}


def test_fan_outs_are_the_measured_ones() -> None:
    it = dispatcher()
    it.stages[0].learn_fan_out(0, 500, [2000])
    seen = snapshot_of(it, ArrivalWindow(0.0), (), (), it.plan, 0.0).fan_out
    assert seen == {("a", "x"): {"b": 3.0}, ("a", "y"): {"b": 1.0}}


def test_arrivals_replicas_nodes_and_delays_are_handed_on() -> None:
    it = dispatcher()
    window = ArrivalWindow(0.0)
    for tenth in range(10):
        window.arrived(tenth / 10.0, 2)
    spec = ReplicaSpec(id=ReplicaId("a-1"), stage="a", variants=("x",))
    views = (ReplicaView(spec=spec, node=NodeId("n"), phase=Phase.READY, cores=1),)
    nodes = (Node(id=NodeId("n"), cores=2.0),)
    seen = snapshot_of(it, window, views, nodes, it.plan, 1.0, cold_start_s=6.0, resize_s=0.1)
    assert (seen.now, seen.replicas, seen.nodes, seen.plan) == (1.0, views, nodes, it.plan)
    assert (seen.per_second, seen.rate(0.5), seen.peak(10)) == ((20,), 20.0, 20.0)
    assert (seen.cold_start_s, seen.resize_s) == (6.0, 0.1)
