"""The static autoscaler: provisioned once, by its options alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.autoscalers.server_worlds import both_branches, car_branch, servers, setting, snapshot, used
from triscale.core.cluster import Node, NodeId
from triscale.errors import ConfigError
from triscale.policy.autoscalers.static import Static, static_plan
from triscale.policy.plan_rules import broken_rules


def test_its_plan_never_changes() -> None:
    static = Static(setting(car_branch()))
    plan = static.first(10.0)
    assert static.first(1000.0) == plan
    assert static.decide(snapshot(60.0, plan, [1000] * 60)) is plan


def test_by_default_all_cores_run_the_most_accurate_variants() -> None:
    world = setting(both_branches(), 20)
    plan = Static(world).first(10.0)
    assert plan.cores == 20
    assert used(plan, "detect") == {"yolov5x"}
    assert list(broken_rules(plan, world.graph, world.nodes)) == []


def test_on_one_node_it_is_the_plan_that_a_server_without_a_policy_follows() -> None:
    world = setting(car_branch(), nodes=(Node(id=NodeId("here"), cores=4),))
    plan = Static(world).first(10.0)
    alone = static_plan(world.graph, world.profile, 4)
    assert {name: dict(s.variants) for name, s in plan.stages.items()} == {
        name: dict(s.variants) for name, s in alone.stages.items()
    }
    assert (plan.shared_cores, plan.accuracy) == (alone.shared_cores, alone.accuracy)
    for stage, planned in plan.stages.items():
        assert [(g.lanes, g.threads, set(g.variants)) for g in planned.groups] == [
            (g.lanes, g.threads, set(g.variants)) for g in alone.stages[stage].groups
        ]


def test_fewer_cores_can_be_used() -> None:
    plan = Static(setting(car_branch(), cores=5)).first(10.0)
    assert plan.cores == 5
    assert [node for node, cores in plan.node_cores.items() if cores] == [f"server-{i}" for i in range(5)]


def test_for_a_stated_demand_the_planner_provides() -> None:
    quiet, loud = (Static(setting(car_branch(), demand=d)).first(1.0) for d in (50, 600))
    assert quiet.cores < 10
    assert quiet.capacity >= 50
    assert (loud.cores, loud.mode) == (18, "accuracy")
    assert loud.accuracy < quiet.accuracy


def test_variants_can_be_fixed() -> None:
    plan = Static(setting(car_branch(), variants={"detect": "yolov5s"})).first(10.0)
    assert (used(plan, "detect"), used(plan, "vehicles")) == ({"yolov5s"}, {"efficientnet-b6"})


def test_the_accuracy_of_branches_is_their_mean() -> None:
    plan = Static(setting(both_branches(), 20)).first(10.0)
    assert plan.accuracy == pytest.approx((0.99644 + 1.0) / 2)


def test_cores_are_taken_node_after_node() -> None:
    nodes = [
        Node(id=NodeId("a"), cores=4),
        Node(id=NodeId("b"), cores=4, ready=False),
        Node(id=NodeId("c"), cores=0.5),
        Node(id=NodeId("d"), cores=4),
        Node(id=NodeId("e"), cores=4),
    ]
    plan = Static(setting(car_branch(), nodes=nodes, cores=6)).first(1.0)
    assert plan.node_cores == {"a": 4.0, "b": 0.0, "c": 0.0, "d": 2.0, "e": 0.0}
    assert {group.node for stage in plan.stages.values() for group in stage.groups} == {"a", "d"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cores": 19}, "policy.options.cores: is 19, but the nodes have 18"),
        ({"cores": 0}, "policy.options.cores: is 0, but must be a whole number of cores, at least 1"),
        ({"demand": -1}, "policy.options.demand: is -1, but must be a number of requests/s from 0 on"),
        (
            {"variants": {"detekt": "yolov5s"}},
            "policy.options.variants.detekt: the pipeline has no such stage; it has detect, vehicles",
        ),
        (
            {"variants": {"vehicles": "b9"}},
            "policy.options.variants.vehicles: there is no variant 'b9'; there are "
            + ", ".join(f"efficientnet-b{i}" for i in range(6, -1, -1)),
        ),
        (
            {"variants": {"detect": "yolov5s"}, "demand": 5},
            "policy.options.variants: are chosen by the planner where `demand` is stated; leave one of them out",
        ),
    ],
)
def test_options_that_are_wrong_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Static(setting(car_branch(), **options))
    assert caught.value.problems == (problem,)


def test_nodes_without_a_core_are_refused() -> None:
    with pytest.raises(ConfigError, match="but the nodes have 0"):
        Static(setting(car_branch(), nodes=[Node(id=NodeId("a"), cores=8, ready=False)]))


def test_servers_of_one_core_are_all_used() -> None:
    plan = Static(setting(car_branch(), 6)).first(1.0)
    assert set(plan.node_cores) == {node.id for node in servers(6)}
