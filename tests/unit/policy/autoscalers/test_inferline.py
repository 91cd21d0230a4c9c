"""InferLine as Loki's evaluation models it: servers in and out, the most accurate variants whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.policy.autoscalers.server_worlds import both_branches, car_branch, servers, setting, snapshot, used
from triscale.errors import ConfigError
from triscale.policy.autoscalers.inferline import InferLine
from triscale.policy.plan_rules import broken_rules


@pytest.mark.parametrize(("demand", "cores"), [(50, 5), (100, 10), (150, 15)])
def test_as_few_servers_as_carry_the_demand(demand: int, cores: int) -> None:
    inferline = InferLine(setting(car_branch(), beta=1.0))
    plan = inferline.decide(snapshot(10.0, inferline.first(1.0), [demand] * 10))
    assert (plan.mode, plan.cores) == ("hardware", cores)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 3000.0))
def test_accuracy_is_never_lowered(demand: float) -> None:
    world = setting(both_branches(), 20)
    plan = InferLine(world).first(demand)
    assert plan.accuracy == pytest.approx(0.9982, abs=1e-4)
    assert (used(plan, "detect"), used(plan, "vehicles")) == ({"yolov5x"}, {"efficientnet-b6"})
    assert list(broken_rules(plan, world.graph, world.nodes)) == []


def test_beyond_all_servers_it_carries_as_much_as_they_do() -> None:
    inferline = InferLine(setting(car_branch(), beta=1.0))
    plans = [inferline.first(demand) for demand in (250.0, 500.0)]
    assert [plan.mode for plan in plans] == ["overload", "overload"]
    # Hardware scaling alone ends at 190 requests/s on 18 servers.
    assert [plan.demand * plan.served_fraction for plan in plans] == pytest.approx([191, 191], rel=0.01)
    assert [plan.cores for plan in plans] == [18.0, 18.0]


def test_variants_that_never_meet_the_slo_are_not_the_best() -> None:
    # YOLOv5x takes 40.84 ms, so twice that and a classifier exceed 100 ms only together.
    tight = replace(car_branch(), slo_ms=80.0)
    plan = InferLine(setting(tight)).first(50.0)
    assert used(plan, "detect") == {"yolov5l"}


def test_an_slo_that_nothing_meets_gets_a_plan_that_serves_nothing() -> None:
    plan = InferLine(setting(replace(car_branch(), slo_ms=10.0))).first(50.0)
    assert (plan.feasible, plan.served_fraction) == (False, 0.0)


def test_plans_are_made_once_per_interval() -> None:
    inferline = InferLine(setting(car_branch(), interval_s=10.0))
    plan = inferline.first(50.0)
    for second in range(1, 10):
        assert inferline.decide(snapshot(float(second), plan, [150] * second)) is plan
    later = inferline.decide(snapshot(10.0, plan, [150] * 10))
    assert later.cores > plan.cores
    assert inferline.decide(snapshot(20.0, later, [150] * 20)) is later


def test_before_anything_arrived_the_first_plan_stays() -> None:
    inferline = InferLine(setting(car_branch()))
    plan = inferline.first(50.0)
    assert inferline.decide(snapshot(30.0, plan, [])) is plan


def test_what_is_late_is_dropped_and_never_rerouted() -> None:
    assert (InferLine.dispatch.drop, InferLine.dispatch.admission) == ("per_stage", False)


def test_options_that_are_wrong_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^policy.options.beta: is 0.5, but must be a factor of at least 1$"):
        InferLine(setting(car_branch(), beta=0.5))


def test_a_server_that_is_back_is_used_again() -> None:
    inferline = InferLine(setting(car_branch()))
    down = [replace(node, ready=i > 2) for i, node in enumerate(servers(18))]
    plan = inferline.decide(snapshot(10.0, inferline.first(300.0), [300] * 10, nodes=down))
    assert plan.cores == 15
    assert inferline.decide(snapshot(20.0, plan, [300] * 20)).cores == 18
