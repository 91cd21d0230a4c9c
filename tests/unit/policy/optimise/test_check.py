"""The checker finds what is wrong with a plan: every mistake is planted in a good one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.profile import Profile, inline_profile
from triscale.policy.optimise import Problem, ReplicaBounds, Settings, solve
from triscale.policy.optimise.check import violations
from triscale.testing.builders import pipeline, stage, variant

NODES = [Node(id=NodeId("a"), cores=4), Node(id=NodeId("b"), cores=4)]
SETTINGS = Settings(wait="half_slo", utilisation=1.0)
SPEC: Pipeline = pipeline(
    200.0,
    find=stage(variant("good", 40.0, accuracy=1.0, max_batch=1), variant("quick", 10.0, accuracy=0.8, max_batch=1)),
    read=stage(variant("good", 20.0, accuracy=0.9, max_batch=1), after="find"),
)
GRAPH = Graph.of(SPEC)


def profile() -> Profile:
    found = inline_profile(SPEC)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def plan() -> Plan:
    found = solve(Problem.of(GRAPH, profile(), 160.0, NODES, SETTINGS))
    assert set(found.stages["find"].variants) == {"good", "quick"}
    return found


def broken(plan: Plan, settings: Settings = SETTINGS) -> str:
    return " | ".join(violations(plan, GRAPH, profile(), NODES, settings))


def with_variant(plan: Plan, stage_name: str, name: str, **changes: Any) -> Plan:
    planned = plan.stages[stage_name]
    changed = msgspec.structs.replace(planned.variants[name], **changes)
    return with_stage(plan, stage_name, variants={**planned.variants, name: changed})


def with_stage(plan: Plan, stage_name: str, **changes: Any) -> Plan:
    stages = {**plan.stages, stage_name: msgspec.structs.replace(plan.stages[stage_name], **changes)}
    return msgspec.structs.replace(plan, stages=stages)


def test_a_good_plan_has_nothing_wrong(plan: Plan) -> None:
    assert broken(plan) == ""


def test_a_plan_that_sheds_everything_promises_nothing() -> None:
    assert broken(Plan(stages={}, served_fraction=0.0)) == ""


PLANTED: Mapping[str, Any] = {
    "the shares sum to": lambda plan: with_variant(plan, "find", "good", share=0.9),
    "served_fraction is 1.5": lambda plan: msgspec.structs.replace(plan, served_fraction=1.5),
    "items/s on lanes that carry": lambda plan: msgspec.structs.replace(plan, demand=320.0),
    "batches of 2, but its largest is 1": lambda plan: with_variant(plan, "read", "good", batch=2),
    "the shares after quick sum to 0.5": lambda plan: with_stage(plan, "read", by_parent={"quick": {"good": 0.5}}),
    "read.good: is planned for 0.5000 of the items and gets another share": lambda plan: with_variant(
        plan, "read", "good", share=0.5
    ),
    "other gets a share after quick, but is not planned": lambda plan: with_stage(
        plan, "read", by_parent={"quick": {"other": 1.0}}
    ),
    "the paths' shares sum to 0.": lambda plan: msgspec.structs.replace(plan, paths=plan.paths[:1]),
    "but the paths' mean is": lambda plan: msgspec.structs.replace(plan, accuracy=0.99),
    "9 lanes are planned, its replicas have": lambda plan: with_variant(plan, "read", "good", lanes=9),
    "cores are planned, the replicas have": lambda plan: msgspec.structs.replace(plan, cores=3.0),
    "no way was found to put replicas": lambda plan: with_stage(
        plan, "read", groups=(ReplicaGroup(variants=("good",), lanes=5),)
    ),
}


@pytest.mark.parametrize("words", PLANTED)
def test_a_planted_mistake_is_found(plan: Plan, words: str) -> None:
    assert words in broken(PLANTED[words](plan))


def test_settings_that_the_plan_was_not_made_for(plan: Plan) -> None:
    assert "is below the least allowed, 0.9500" in broken(
        plan, Settings(wait="half_slo", utilisation=1.0, min_accuracy=0.95)
    )
    few = Settings(wait="half_slo", utilisation=1.0, replicas={"read": ReplicaBounds(5)})
    assert "read: 1 replicas, allowed are 5 to None" in broken(plan, few)
    small = Settings(wait="half_slo", utilisation=1.0, replica_cores=1)
    assert "allowed are 1" in broken(plan, small)
    hops = Settings(wait="half_slo", utilisation=1.0, hop_s=0.05)
    assert "good -> good takes 220.00 ms of 200 ms" in broken(plan, hops)


def test_shared_cores_have_their_own_rules() -> None:
    settings = Settings(sharing="shared")
    node = [Node(id=NodeId("a"), cores=4)]
    found = solve(Problem.of(GRAPH, profile(), 50.0, node, settings))
    assert violations(found, GRAPH, profile(), node, settings) == []
    busier = msgspec.structs.replace(found, demand=200.0)
    assert any("the shared cores work" in line for line in violations(busier, GRAPH, profile(), node, settings))
    larger = msgspec.structs.replace(found, cores=9.0)
    assert any("more than there are" in line for line in violations(larger, GRAPH, profile(), node, settings))
