"""Impossible plans are named by the rule that they break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.policy.plan_rules import broken_rules
from triscale.testing.builders import pipeline, stage, variant

PIPELINE = pipeline(a=stage(variant("x", 1.0), variant("y", 1.0)), b=stage(variant("v", 1.0), after="a"))
NODES = (Node(id=NodeId("n1"), cores=8.0), Node(id=NodeId("n2"), cores=4.0))


def group(**fields: Any) -> ReplicaGroup:
    return ReplicaGroup(**{"variants": ("x",), **fields})


def good(**fields: Any) -> Plan:
    a = StagePlan(variants={"x": VariantPlan(share=0.4), "y": VariantPlan(share=0.6)}, groups=(group(lanes=2),))
    b = StagePlan(variants={"v": VariantPlan(share=1.0)}, by_parent={"y": {"v": 1.0}}, groups=(group(variants=("v",)),))
    return Plan(**{"stages": {"a": a, "b": b}, **fields})


def rules(plan: Plan, running: Plan | None = None, nodes: Sequence[Node] = NODES) -> list[str]:
    return list(broken_rules(plan, Graph.of(PIPELINE), nodes, running))


def with_a(**fields: Any) -> Plan:
    plan = good()
    return replace(plan, stages={**plan.stages, "a": replace(plan.stages["a"], **fields)})


def test_a_possible_plan_breaks_none() -> None:
    assert rules(good()) == []
    assert rules(good(shared_cores=4.0, node_cores={"n1": 8.0})) == []
    assert rules(with_a(variants={}, groups=())) == [], "a stage may run nothing"


@pytest.mark.parametrize(
    ("plan", "rule"),
    [
        (
            replace(good(), stages={"a": good().stages["a"]}),
            "stages.b is missing; a plan says what is to be done about every stage",
        ),
        (
            replace(good(), stages={**good().stages, "c": good().stages["a"]}),
            "stages.c: the pipeline has no such stage; it has a, b",
        ),
        (
            with_a(variants={"z": VariantPlan(share=1.0)}),
            "stages.a.variants.z: the stage has no such variant; it has x, y",
        ),
        (
            with_a(variants={"x": VariantPlan(share=0.5), "y": VariantPlan(share=0.4)}),
            "stages.a.variants: the shares sum to 0.9, but must sum to 1, or to 0 where nothing runs",
        ),
        (
            with_a(variants={"x": VariantPlan(share=1.5), "y": VariantPlan(share=-0.5)}),
            "stages.a.variants.x: the share is 1.5, but must be between 0 and 1",
        ),
        (
            with_a(variants={"x": VariantPlan(share=1.0, batch=0)}),
            "stages.a.variants.x.batch is 0, but a batch has at least one item",
        ),
        (
            with_a(linger_s=float("nan")),
            "stages.a.linger_s is nan, but must be a finite number of seconds from 0 on",
        ),
        (with_a(by_parent={"v": {"x": 1.0}}), "stages.a.by_parent.v: no stage before this one has such a variant"),
        (with_a(groups=(group(lanes=0),)), "stages.a.groups[0].lanes is 0, but must be at least 1"),
        (with_a(groups=(group(threads=0),)), "stages.a.groups[0].threads is 0, but must be at least 1"),
        (with_a(groups=(group(replicas=-1),)), "stages.a.groups[0].replicas is -1, but must not be negative"),
        (
            with_a(groups=(group(variants=()),)),
            "stages.a.groups[0].variants is empty, but a replica holds at least one variant",
        ),
        (
            with_a(groups=(group(variants=("z",)),)),
            "stages.a.groups[0].variants: the stage has no variant 'z'; it has x, y",
        ),
        (with_a(groups=(group(node="n3"),)), "stages.a.groups[0].node: there is no node 'n3'; there are n1, n2"),
        (
            with_a(groups=(group(lanes=9),)),
            "stages.a.groups[0]: a replica of 9 cores fits on no node; the largest has 8",
        ),
        (with_a(groups=(group(replicas=12),)), "the replicas need 13 cores, but all nodes together have 12"),
        (
            with_a(groups=(group(replicas=3, lanes=2, node="n2"),)),
            "the replicas on node n2 need 6 cores, but it has 4",
        ),
        (good(shared_cores=6.0), "node n2 would grant 6.0 cores, but it has 4"),
        (
            good(
                shared_cores=1.0, stages={**good().stages, "a": replace(good().stages["a"], groups=(group(threads=2),))}
            ),
            "stages.a.groups[0].threads is 2, but its lanes share 1 cores and could never run",
        ),
        (good(served_fraction=1.5), "served_fraction is 1.5, but no more than all (1) can be served"),
        (good(demand=float("inf")), "demand is inf, but must be a finite number from 0 on"),
    ],
)
def test_what_is_impossible_is_said(plan: Plan, rule: str) -> None:
    assert rule in rules(plan)


def test_lanes_do_not_change_sides_between_own_and_shared_cores() -> None:
    assert rules(good(shared_cores=2.0), running=good()) == [
        "shared_cores is 2: lanes would go from their own to shared cores while they run"
    ]
    assert rules(good(), running=good(shared_cores=2.0)) == [
        "shared_cores is 0: lanes would go from shared to their own cores while they run"
    ]


def test_a_node_that_is_down_still_counts() -> None:
    down = (NODES[0], replace(NODES[1], ready=False))
    assert rules(with_a(groups=(group(replicas=11),)), nodes=down) == []
