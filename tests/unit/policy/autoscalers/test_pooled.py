"""The pooled planner remembers what it has planned, learns what has moved, and keeps within a node's memory."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.pooled import PooledPlanner
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.policy.autoscalers.residency import resident_variants
from triscale.sim.run import simulate
from triscale.sim.settings import SimSettings
from triscale.testing.builders import pipeline, stage, variant
from triscale.traces.spec import parse_trace

MIB = 2**20


def sized(memory_mb: Mapping[str, float]) -> Pipeline:
    """Three variants whose memory is given."""
    variants = (
        variant("large", 40.0, accuracy=1.0),
        variant("middle", 20.0, accuracy=0.95),
        variant("small", 10.0, accuracy=0.9),
    )
    return pipeline(
        400.0,
        detect=stage(*(msgspec.structs.replace(v, memory_mb=memory_mb.get(v.name, 0.0)) for v in variants)),
    )


def setting(of: Pipeline, memory_mb: float = 0.0, cores: int = 8) -> Setting:
    profile = inline_profile(of)
    assert profile is not None
    node = Node(id=NodeId("n0"), cores=cores, memory_bytes=int(memory_mb * MIB))
    return Setting(graph=Graph.of(of), profile=profile, nodes=(node,))


def test_all_variants_are_resident_where_memory_is_enough_or_unknown() -> None:
    of = sized({"large": 300.0, "middle": 200.0, "small": 100.0})
    for memory_mb in (0.0, 600.0):
        assert resident_variants(setting(of, memory_mb)) == {"detect": ("large", "middle", "small")}


def test_in_little_memory_a_stage_keeps_its_most_accurate_and_its_fastest_variant() -> None:
    of = sized({"large": 300.0, "middle": 200.0, "small": 100.0})
    assert resident_variants(setting(of, 500.0)) == {"detect": ("large", "small")}


def test_plans_use_resident_variants_only() -> None:
    of = sized({"large": 300.0, "middle": 200.0, "small": 100.0})
    planner = PooledPlanner(setting(of, 500.0))
    plan = planner.plan(300.0, 8)
    assert plan.mode == "accuracy"
    assert set(plan.stages["detect"].variants) <= {"large", "small"}


SCARCE = {"large": 300.0, "middle": 200.0, "small": 100.0}


def test_where_memory_is_scarce_what_is_resident_follows_the_demand() -> None:
    """The mix of middle and large is best, and does not fit beside the fastest: middle alone is next."""
    planner = PooledPlanner(setting(sized(SCARCE), 500.0))
    before = planner.plan(330.0, 8)
    assert planner.learn({}, {})
    assert planner.resident == {"detect": ("middle", "small")}
    after = planner.plan(330.0, 8)
    assert after.accuracy > before.accuracy + 0.01
    assert after.served_fraction == before.served_fraction
    assert not planner.learn({}, {}), "nothing more is to be had"
    planner.plan(20.0, 8)
    assert planner.learn({}, {})
    assert planner.resident == {"detect": ("large", "small")}


def test_what_is_resident_stays_where_memory_suffices_and_where_little_is_to_be_gained() -> None:
    for memory_mb, demand in ((600.0, 330.0), (0.0, 330.0), (500.0, 20.0)):
        planner = PooledPlanner(setting(sized(SCARCE), memory_mb))
        planner.plan(demand, 8)
        before = planner.resident
        assert not planner.learn({}, {})
        assert planner.resident == before


def test_replicas_are_kept_to_their_part_of_a_scarce_memory() -> None:
    for memory_mb, limit in ((600.0, 0), (500.0, 500 * MIB)):
        planner = PooledPlanner(setting(sized(SCARCE), memory_mb))
        spread = planner.spread(planner.plan(20.0, 8), {NodeId("n0"): 8}, [NodeId("n0")])
        (group,) = spread.stages["detect"].groups
        assert group.memory_bytes == limit


def test_a_surge_in_scarce_memory_is_served_by_variants_that_are_loaded_for_it() -> None:
    of = sized(SCARCE)
    its = setting(of, 500.0)
    policy = make_autoscaler("triscale", its)
    trace = parse_trace("spike:base=100,peak=330,start=10,length=20,seconds=40,process=even")
    result = simulate(of, its.profile, trace, policy, its.nodes, SimSettings(load_s=1.0))
    assert (result.actions["hold"], result.actions["launch"]) == (2, 0), "there and back"
    assert result.attainment == 1.0


def test_a_demand_that_was_planned_for_is_not_planned_for_again() -> None:
    planner = PooledPlanner(setting(sized({})))
    assert planner.plan(100.0, 8) is planner.plan(100.5, 8)
    assert planner.plan(100.0, 8) is not planner.plan(100.0, 4)


def test_a_plan_is_made_for_at_least_the_demand_asked_for() -> None:
    planner = PooledPlanner(setting(sized({})))
    for demand in (0.01, 1.0, 17.3, 99.9, 450.0):
        assert demand <= planner.plan(demand, 8).demand <= 1.03 * demand


def test_a_small_change_of_latency_is_noise_and_a_larger_one_is_learned() -> None:
    planner = PooledPlanner(setting(sized({})))
    before = planner.plan(100.0, 8)
    assert not planner.learn({("detect", "large"): 1.05}, {})
    assert planner.plan(100.0, 8) is before
    assert planner.learn({("detect", "large"): 1.5}, {})
    assert planner.plan(100.0, 8).cores > before.cores
    assert not planner.learn({("detect", "large"): 1.45}, {})


def test_measured_fan_outs_replace_the_profiled_ones() -> None:
    of = pipeline(
        400.0,
        detect=stage(variant("only", 10.0, fan_out={"read": 1.0})),
        read=stage(variant("only", 10.0), after="detect"),
    )
    planner = PooledPlanner(setting(of, cores=16))
    before = planner.plan(100.0, 16)
    assert not planner.learn({}, {("detect", "only"): {"read": 1.02}})
    assert planner.learn({}, {("detect", "only"): {"read": 4.0}})
    assert planner.plan(100.0, 16).cores > 1.5 * before.cores


def test_what_a_rise_would_need_is_planned_ahead_one_plan_at_a_time_up_to_overload() -> None:
    planner = PooledPlanner(setting(sized({})))
    made = 0
    while planner.foresee(50.0, 8):
        made += 1
    assert 100 < made < 300, "steps of 2 % from 50 requests/s to what eight cores carry on the fastest variant"
    for demand in (60.0, 200.0, 600.0):
        assert planner.plan(demand, 8) is planner.plan(demand, 8)
    assert planner.plan(1000.0, 8).mode == "overload"
    assert not planner.foresee(50.0, 8)
