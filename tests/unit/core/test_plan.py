"""The steps from what runs to a plan: capacity comes before it goes, and nothing is done without need."""

from __future__ import annotations

import itertools

from triscale.core.cluster import NodeId, Replica, ReplicaId, ReplicaSpec
from triscale.core.plan import Drain, Launch, Plan, ReplicaGroup, Resize, Route, StagePlan, VariantPlan, actions


def plan(**groups: tuple[ReplicaGroup, ...]) -> Plan:
    return Plan(
        stages={
            stage: StagePlan(variants={"v": VariantPlan(share=1.0)}, groups=found) for stage, found in groups.items()
        }
    )


def running(name: str, stage: str, lanes: int, *variants: str) -> Replica:
    spec = ReplicaSpec(id=ReplicaId(name), stage=stage, variants=variants or ("v",), lanes=lanes)
    return Replica(spec=spec, node=NodeId("n"), address="")


def test_what_runs_as_planned_is_left_alone() -> None:
    wanted = plan(a=(ReplicaGroup(variants=("v",), lanes=2),))
    assert actions([running("a-1", "a", 2)], wanted, itertools.count(2)) == (Route(wanted),)


def test_grow_then_launch_then_route_then_shrink_then_drain() -> None:
    wanted = plan(
        a=(ReplicaGroup(variants=("v",), lanes=4),),
        b=(ReplicaGroup(variants=("v",), lanes=1),),
        c=(ReplicaGroup(variants=("w",), lanes=1),),
    )
    steps = actions(
        [running("a-1", "a", 2), running("b-1", "b", 3), running("c-1", "c", 1)], wanted, itertools.count(9)
    )
    assert steps == (
        Resize(ReplicaId("a-1"), 4, 1),
        Launch(ReplicaSpec(id=ReplicaId("c-9"), stage="c", variants=("w",), lanes=1, threads=1)),
        Route(wanted),
        Resize(ReplicaId("b-1"), 1, 1),
        Drain(ReplicaId("c-1")),
    )


def test_of_too_many_replicas_the_largest_stay() -> None:
    wanted = plan(a=(ReplicaGroup(variants=("v",), lanes=4),))
    steps = actions([running("a-1", "a", 1), running("a-2", "a", 4)], wanted, itertools.count(3))
    assert steps == (Route(wanted), Drain(ReplicaId("a-1")))
