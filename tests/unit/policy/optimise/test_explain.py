"""What limits a plan, what a little more buys, and how far the demand may grow: each checked by planning again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from tests.unit.policy.optimise.profiles import profile_of
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import LatencyPoint, Profile, VariantProfile, inline_profile
from triscale.policy.optimise import Problem, ReplicaBounds, Settings, Solver, solve
from triscale.policy.optimise.explain import Explanation, Limit, explain
from triscale.testing.builders import pipeline, stage, variant

Example = Callable[..., Problem]
CAR = "traffic_analysis/car_branch.yaml"
PLAIN = Settings(wait="none", utilisation=1.0)


def two_stages(slo_ms: float = 400.0) -> Pipeline:
    return pipeline(
        slo_ms,
        find=stage(variant("good", 40.0, accuracy=1.0, max_batch=1), variant("quick", 10.0, accuracy=0.8, max_batch=1)),
        read=stage(variant("good", 20.0, accuracy=0.9, max_batch=1), after="find"),
    )


def nodes(*cores: int, memory: int = 0, gpus: int = 0) -> list[Node]:
    return [Node(id=NodeId(f"n{i}"), cores=c, memory_bytes=memory, gpus=gpus) for i, c in enumerate(cores)]


def explained(
    spec: Pipeline,
    demand: float,
    machines: list[Node],
    settings: Settings = PLAIN,
    *,
    profile: Profile | None = None,
    solver: Solver = "auto",
) -> tuple[Plan, Explanation]:
    profile = profile or profile_of(spec)
    problem = Problem.of(Graph.of(spec), profile, demand, machines, settings)
    plan = solve(problem, solver)
    return plan, explain(problem, profile, plan, solver)


def limit(found: Explanation, constraint: str) -> Limit:
    (only,) = [limit for limit in found.limits if limit.constraint == constraint]
    return only


def test_where_the_cores_limit_it_says_what_more_of_them_buy() -> None:
    plan, found = explained(two_stages(), 100.0, nodes(5))
    assert plan.mode == "accuracy"
    assert [limit.constraint for limit in found.limits] == ["cores"]
    assert (limit(found, "cores").used, limit(found, "cores").allowed, limit(found, "cores").factor) == (5.0, 5.0, 2.0)
    better = solve(Problem.of(Graph.of(two_stages()), profile_of(two_stages()), 100.0, 6, PLAIN))
    assert found.one_more_core.gain.accuracy == pytest.approx(better.accuracy - plan.accuracy)
    assert found.one_more_core.gain.served_per_s == 0.0
    assert not found.longer_slo.gain.better


def test_where_the_best_variants_have_room_nothing_limits_it_but_the_demand() -> None:
    plan, found = explained(two_stages(), 20.0, nodes(8))
    assert plan.mode == "hardware"
    assert found.limits == ()
    # Six lanes find 150 requests/s, and need three lanes to read them; five find 125 and need three.
    assert found.hardware_until == pytest.approx(125.0, rel=2e-3)
    assert found.headroom == pytest.approx(105.0, rel=5e-3)
    assert not found.one_more_core.gain.better
    assert found.one_more_core.hardware_until == pytest.approx(150.0, rel=2e-3)


@pytest.mark.parametrize("demand", [100.0, 500.0, 3000.0])
def test_the_modes_end_where_it_says(example: Example, demand: float) -> None:
    world = example(CAR, 18).at(demand)
    profile = inline_profile(world.graph.pipeline)
    assert profile is not None
    plan = solve(world)
    found = explain(world, profile, plan)
    assert found.hardware_until == pytest.approx(190.6, rel=2e-3)
    assert solve(world.at(found.hardware_until)).mode == "hardware"
    assert solve(world.at(found.hardware_until * 1.002)).mode == "accuracy"
    assert solve(world.at(found.accuracy_until)).mode == "accuracy"
    assert solve(world.at(found.accuracy_until * 1.002)).mode == "overload"
    ends = {"hardware": found.hardware_until, "accuracy": found.accuracy_until, "overload": demand}
    assert found.headroom == pytest.approx(ends[plan.mode] - demand)


def test_in_overload_more_cores_and_a_lower_floor_shed_less() -> None:
    plan, found = explained(two_stages(), 1000.0, nodes(6), replace(PLAIN, min_accuracy=0.85))
    assert plan.mode == "overload"
    assert [limit.constraint for limit in found.limits] == ["cores", "min_accuracy"]
    assert limit(found, "min_accuracy").least
    assert limit(found, "min_accuracy").allowed == 0.85
    # Two lanes of the quick variant find 200 requests/s, and four read as many.
    assert limit(found, "min_accuracy").gain.served_per_s == pytest.approx(
        200.0 - plan.served_fraction * 1000, rel=1e-3
    )
    assert limit(found, "min_accuracy").gain.accuracy < 0.0
    assert found.one_more_core.gain.served_per_s > 0.0
    assert found.headroom == 0.0
    assert found.accuracy_until == pytest.approx(plan.served_fraction * 1000.0, rel=2e-3)


def test_the_slo_binds_with_its_slowest_path_and_the_stage_that_takes_the_most_of_it() -> None:
    # Batches of four need 70 ms, and a request has 65 in all.
    spec = pipeline(
        65.0,
        find=stage(variant("v", {1: 30.0, 4: 40.0}, max_batch=4)),
        read=stage(variant("w", {1: 10.0, 4: 30.0}, max_batch=4), after="find"),
    )
    plan, found = explained(spec, 380.0, nodes(12))
    assert plan.mode == "hardware"
    assert found.slowest is not None
    assert found.slowest.variants == {"find": "v", "read": "w"}
    assert (found.slowest.stage, found.slowest.stage_s, found.slowest.slo_s) == ("find", 0.04, 0.065)
    assert found.slowest.latency_s == pytest.approx(plan.paths[0].latency_s)
    looser = solve(Problem.of(Graph.of(msgspec.structs.replace(spec, slo_ms=75.0)), profile_of(spec), 380.0, 12, PLAIN))
    assert looser.cores < plan.cores
    assert found.longer_slo.gain.cores == plan.cores - looser.cores
    assert limit(found, "slo").gain.cores >= found.longer_slo.gain.cores


def test_the_slowest_route_through_branches_is_followed() -> None:
    spec = pipeline(
        500.0,
        root=stage(variant("v", 10.0)),
        short=stage(variant("v", 100.0), after="root"),
        long=stage(variant("v", 60.0), after="root"),
        end=stage(variant("v", 70.0), after="long"),
    )
    _, found = explained(spec, 1.0, nodes(8))
    assert found.slowest is not None
    # The slowest stage of all is not on the slowest route.
    assert found.slowest.stage == "end"
    assert found.slowest.route == ("root", "long", "end")
    assert found.slowest.latency_s == pytest.approx(0.14)


def test_memory_binds_where_it_keeps_variants_out() -> None:
    spec = two_stages()
    plan, found = explained(spec, 150.0, nodes(6, memory=20), profile=profile_of(spec, memory_bytes=10))
    assert plan.mode in ("accuracy", "overload")
    assert "memory" in [limit.constraint for limit in found.limits]
    assert (limit(found, "memory").used, limit(found, "memory").allowed) == (20.0, 20.0)
    without = solve(Problem.of(Graph.of(spec), profile_of(spec), 150.0, 6, PLAIN))
    assert limit(found, "memory").gain.accuracy == pytest.approx(without.accuracy - plan.accuracy)


def test_gpus_bind_where_there_are_too_few() -> None:
    on_gpu = msgspec.structs.replace(variant("on-gpu", 10.0, max_batch=1), gpus=1)
    spec = pipeline(200.0, only=stage(on_gpu, variant("on-cpu", 50.0, accuracy=0.9, max_batch=1)))
    plan, found = explained(spec, 120.0, nodes(4, gpus=1))
    assert plan.mode == "accuracy"
    assert (limit(found, "gpus").used, limit(found, "gpus").allowed) == (1.0, 1.0)
    assert limit(found, "gpus").gain.accuracy > 0.0


def test_replica_bounds_bind_on_either_side() -> None:
    spec = two_stages()
    plan, found = explained(spec, 20.0, nodes(8), replace(PLAIN, replicas={"find": ReplicaBounds(3)}))
    mine = limit(found, "replicas")
    assert (mine.stage, mine.used, mine.allowed, mine.least) == ("find", 3.0, 3.0, True)
    assert mine.gain.cores == 2.0
    assert plan.cores == 4.0

    plan, found = explained(spec, 180.0, nodes(4, 4), replace(PLAIN, replicas={"read": ReplicaBounds(1, 1)}))
    assert sum(group.replicas for group in plan.stages["read"].groups) == 1
    small = replace(PLAIN, replicas={"find": ReplicaBounds(1, 1)}, replica_cores=2)
    plan, found = explained(spec, 100.0, nodes(8), small)
    mine = limit(found, "replicas")
    assert (mine.stage, mine.used, mine.allowed, mine.least) == ("find", 1.0, 1.0, False)
    assert mine.gain.better


def test_one_more_core_goes_where_it_helps_most() -> None:
    # A lane takes two threads: a core more on the node of four is of no use, on the node of three it is a lane.
    spec = pipeline(100.0, only=stage(variant("v", 10.0, max_batch=1)))
    points = (LatencyPoint(batch=1, threads=2, p50_s=0.02, p95_s=0.02, p99_s=0.02),)
    profile = Profile(pipeline="test", stages={"only": {"v": VariantProfile(latency=points)}})
    plan, found = explained(spec, 1000.0, nodes(4, 3), profile=profile)
    assert plan.served_fraction * 1000.0 == pytest.approx(150.0, rel=1e-3)
    assert found.one_more_core.gain.served_per_s == pytest.approx(50.0, rel=1e-3)
    assert found.one_more_core.accuracy_until == pytest.approx(200.0, rel=2e-3)


def test_a_plan_that_serves_nothing_is_explained_too() -> None:
    plan, found = explained(two_stages(slo_ms=25.0), 5.0, nodes(4))
    assert plan.served_fraction == 0.0
    assert found.slowest is None
    assert limit(found, "slo").used == 0.0
    assert limit(found, "slo").gain.served_per_s == pytest.approx(5.0)
    assert found.longer_slo.gain.served_per_s == pytest.approx(5.0), "35 ms are enough for the quick way"
    assert (found.hardware_until, found.accuracy_until, found.headroom) == (0.0, 0.0, 0.0)
    assert found.longer_slo.accuracy_until == pytest.approx(100.0)


def test_nodes_that_are_not_ready_have_no_core_to_add() -> None:
    spec = two_stages()
    away = [Node(id=NodeId("a"), cores=8, ready=False)]
    _, found = explained(spec, 5.0, away)
    assert found.limits == ()
    assert not found.one_more_core.gain.better


def test_no_demand_has_head_room_as_well() -> None:
    _, found = explained(two_stages(), 0.0, nodes(8))
    assert found.headroom == pytest.approx(125.0, rel=2e-3)


@pytest.mark.parametrize("solver", ["auto", "milp", "dp", "greedy"])
def test_every_solver_s_plans_are_explained_by_that_solver(solver: Solver) -> None:
    plan, found = explained(two_stages(), 100.0, nodes(5), solver=solver)
    assert plan.solver in (solver, "milp", "dp")
    assert found.hardware_until == pytest.approx(75.0, rel=2e-3)
    assert found.accuracy_until >= found.hardware_until
    assert limit(found, "cores").gain.better


def test_shared_cores_and_waits_by_batch_are_explained() -> None:
    shared, found = explained(two_stages(), 20.0, nodes(2), Settings(sharing="shared"))
    assert found.hardware_until >= 0.0
    assert found.accuracy_until > shared.demand * (shared.mode != "overload")
    _, found = explained(two_stages(), 20.0, nodes(4), Settings(wait="batch_fill", utilisation=1.0), solver="dp")
    assert found.accuracy_until > 20.0


def test_the_same_problem_has_the_same_explanation() -> None:
    assert explained(two_stages(), 100.0, nodes(5)) == explained(two_stages(), 100.0, nodes(5))
