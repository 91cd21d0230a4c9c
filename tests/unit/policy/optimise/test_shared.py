"""Plans for nodes whose stages share the cores."""

from __future__ import annotations

import pytest

from tests.unit.policy.optimise.profiles import profile_of
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.policy.optimise import Problem, Settings, solve
from triscale.policy.optimise.check import violations
from triscale.testing.builders import pipeline, stage, variant

SHARED = Settings(sharing="shared")


def reader(slo_ms: float = 800.0) -> Pipeline:
    return pipeline(
        slo_ms,
        detect=stage(
            variant("small", {1: 98.0, 4: 423.0}, accuracy=0.97, fan_out={"turn": 9.6}),
            variant("tiny", {1: 18.0, 4: 90.0}, accuracy=0.88, fan_out={"turn": 9.2}),
        ),
        turn=stage(variant("turn", {1: 0.9, 8: 7.2}), after="detect"),
        read=stage(
            variant("small", {1: 25.5, 8: 219.0}, accuracy=0.79),
            variant("tiny", {1: 4.8, 8: 43.0}, accuracy=0.70),
            after="turn",
        ),
    )


def problem(demand: float, nodes: list[Node] | int = 2, settings: Settings = SHARED, slo_ms: float = 800.0) -> Problem:
    spec = reader(slo_ms)
    profile = inline_profile(spec)
    assert profile is not None
    return Problem.of(Graph.of(spec), profile, demand, nodes, settings)


def test_three_stages_run_on_two_cores() -> None:
    plan = solve(problem(2.0))
    assert (plan.mode, plan.shared_cores, plan.cores) == ("hardware", 2.0, 2.0)
    for planned in plan.stages.values():
        assert [(group.replicas, group.lanes, group.threads) for group in planned.groups] == [(1, 2, 1)]
    assert max(path.latency_s for path in plan.paths) <= 0.8


def test_as_the_load_grows_accuracy_gives_way_and_then_requests() -> None:
    plans = [solve(problem(demand)) for demand in (0.5, 2.0, 6.0, 12.0, 20.0, 60.0, 200.0)]
    assert plans[0].mode == plans[1].mode == "hardware"
    assert plans[-2].mode == plans[-1].mode == "overload"
    assert [plan.accuracy for plan in plans] == sorted((plan.accuracy for plan in plans), reverse=True)
    assert plans[-1].served_fraction * 200.0 == pytest.approx(plans[-2].served_fraction * 60.0, rel=0.01)
    profile = inline_profile(reader())
    assert profile is not None
    for plan in plans:
        assert violations(plan, Graph.of(reader()), profile, [Node(id=NodeId("n"), cores=2)], SHARED) == []


def test_the_cores_are_busy_no_more_than_they_may() -> None:
    plan = solve(problem(200.0))
    busy = sum(mine.utilisation for planned in plan.stages.values() for mine in planned.variants.values())
    assert busy <= SHARED.utilisation + 1e-6


def test_chosen_variants_are_resident_together() -> None:
    plan = solve(problem(6.0))
    mixed = [planned for planned in plan.stages.values() if len(planned.variants) > 1]
    assert mixed
    assert all(set(planned.groups[0].variants) == set(planned.variants) for planned in mixed)


def test_a_tighter_slo_carries_less() -> None:
    carried = []
    for slo_ms in (250.0, 400.0, 800.0, 1600.0):
        plan = solve(problem(200.0, slo_ms=slo_ms))
        carried.append(plan.served_fraction)
    assert carried == sorted(carried)
    assert carried[0] < carried[-1]


def test_every_node_holds_every_stage() -> None:
    nodes = [Node(id=NodeId(f"n{i}"), cores=2) for i in range(3)]
    plan = solve(problem(6.0, nodes))
    assert plan.mode == "hardware"
    assert all(group.replicas == 3 for planned in plan.stages.values() for group in planned.groups)
    assert plan.cores == 6.0


def test_the_papers_waits_work_on_shared_cores_too() -> None:
    plan = solve(problem(2.0, settings=Settings(sharing="shared", wait="half_slo", utilisation=1.0)))
    assert plan.stages["detect"].variants["small"].wait_s == pytest.approx(0.098)


def test_what_memory_does_not_hold_is_not_mixed() -> None:
    spec = reader()
    profile = profile_of(spec, memory_bytes=10)
    node = Node(id=NodeId("n"), cores=2, memory_bytes=30)
    plan = solve(Problem.of(Graph.of(spec), profile, 6.0, [node], SHARED))
    assert plan.served_fraction == 1.0
    assert all(len(planned.variants) == 1 for planned in plan.stages.values())


def test_an_accuracy_floor_sheds_rather_than_degrades() -> None:
    plan = solve(problem(20.0, settings=Settings(sharing="shared", min_accuracy=0.75)))
    assert plan.mode == "overload"
    assert plan.accuracy >= 0.75


def test_an_slo_that_not_even_one_request_meets_on_shared_cores() -> None:
    plan = solve(problem(2.0, slo_ms=30.0))
    assert plan.served_fraction == 0.0
    assert plan.reason == "not one request at a time meets the SLO on shared cores: its work and waits are too long"
