"""Proteus as Loki's evaluation models it: the whole cluster, each stage for itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.policy.autoscalers.server_worlds import both_branches, car_branch, servers, setting, snapshot, used
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.errors import ConfigError
from triscale.policy.autoscalers.families import Family, Member, allocate
from triscale.policy.autoscalers.proteus import Proteus
from triscale.policy.plan_rules import broken_rules
from triscale.testing.builders import pipeline, stage, variant


def after(proteus: Proteus, plan: Plan, items: dict[str, int], seconds: int = 30) -> Plan:
    """The plan after so many items per second have entered the stages for a while."""
    for second in range(seconds + 1):
        entered = {name: rate * second for name, rate in items.items()}
        plan = proteus.decide(snapshot(float(second), plan, [items["detect"]] * second, entered=entered))
    return plan


class TestPlans:
    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.0, 3000.0), st.integers(3, 24))
    def test_the_whole_cluster_is_in_use_whatever_the_demand(self, demand: float, count: int) -> None:
        world = setting(both_branches(), count)
        plan = Proteus(world).first(demand)
        assert plan.cores == count
        assert list(broken_rules(plan, world.graph, world.nodes)) == []

    def test_at_low_demand_the_spare_servers_run_the_most_accurate_variants(self) -> None:
        plan = Proteus(setting(both_branches(), 20)).first(20.0)
        assert plan.accuracy == pytest.approx(0.9982, abs=1e-4)
        assert {v for s in plan.stages.values() for v in s.variants} == {"yolov5x", "efficientnet-b6", "gendernet-19"}

    def test_batches_fill_half_of_the_stages_part_of_the_slo(self) -> None:
        plan = Proteus(setting(car_branch())).first(100.0)
        # 250 ms / 2 stages / 2: YOLOv5x takes 40.84 ms alone and 70.85 ms in twos, B6 51.82 ms in batches of 16.
        assert plan.stages["detect"].variants["yolov5x"].batch == 1
        assert plan.stages["vehicles"].variants["efficientnet-b6"].batch == 16

    def test_items_count_alike_so_the_few_at_the_root_lose_their_accuracy_first(self) -> None:
        plan = Proteus(setting(car_branch())).first(300.0)
        assert "yolov5x" not in used(plan, "detect")
        assert plan.stages["vehicles"].variants["efficientnet-b6"].share > 0.15

    def test_what_all_servers_at_their_fastest_do_not_carry_is_left(self) -> None:
        proteus = Proteus(setting(car_branch()))
        plans = [proteus.first(demand) for demand in (1500.0, 3000.0)]
        assert [plan.mode for plan in plans] == ["overload", "overload"]
        carried = [plan.demand * plan.served_fraction for plan in plans]
        assert carried[0] == pytest.approx(carried[1], rel=0.02)

    def test_a_stage_that_never_fits_its_part_runs_its_quickest_variant(self) -> None:
        slow: Pipeline = pipeline(
            200.0,
            detect=stage(variant("good", 90.0), variant("quick", 60.0, accuracy=0.5)),
            read=stage(variant("only", 5.0), after="detect"),
        )
        assert used(Proteus(setting(slow)).first(5.0), "detect") == {"quick"}

    def test_replica_bounds_of_the_stages_hold(self) -> None:
        bounded = replace(
            car_branch(),
            stages={**car_branch().stages, "detect": replace(car_branch().stages["detect"], max_replicas=4)},
        )
        plan = Proteus(setting(bounded)).first(50.0)
        assert sum(group.replicas for group in plan.stages["detect"].groups) == 4
        assert plan.cores == 18

    def test_models_too_large_for_the_nodes_give_a_plan_that_serves_nothing(self) -> None:
        proteus = Proteus(setting(car_branch()))
        none = [replace(node, ready=False) for node in servers(18)]
        plan = after(proteus, proteus.first(50.0), {"detect": 50, "vehicles": 900})
        lost = proteus.decide(snapshot(60.0, plan, [50] * 60, nodes=none, entered={"detect": 3000, "vehicles": 54000}))
        assert (lost.feasible, lost.served_fraction) == (False, 0.0)
        assert lost.reason == "0 servers cannot hold a variant of each of 2 stages"


class TestObservation:
    def test_each_stage_is_planned_for_the_items_that_enter_it(self) -> None:
        proteus = Proteus(setting(car_branch()))
        plan = after(proteus, proteus.first(100.0), {"detect": 100, "vehicles": 500})
        few = after(Proteus(setting(car_branch())), plan, {"detect": 100, "vehicles": 3000})
        lanes = [sum(mine.lanes for mine in found.stages["vehicles"].variants.values()) for found in (plan, few)]
        assert lanes[0] < lanes[1]
        assert plan.demand == pytest.approx(100.0, rel=0.011)

    def test_plans_are_made_once_per_interval_and_kept_while_nothing_changes(self) -> None:
        proteus = Proteus(setting(car_branch(), interval_s=10.0))
        first = proteus.first(100.0)
        assert after(proteus, first, {"detect": 300, "vehicles": 5000}, seconds=9) is first
        plan = after(Proteus(setting(car_branch())), first, {"detect": 300, "vehicles": 5000}, seconds=20)
        assert plan is not first
        again = Proteus(setting(car_branch()))
        assert after(again, plan, {"detect": 300, "vehicles": 5000}, seconds=40) is plan

    def test_before_any_stage_was_counted_the_first_plan_stays(self) -> None:
        proteus = Proteus(setting(car_branch()))
        first = proteus.first(100.0)
        assert proteus.decide(snapshot(30.0, first, [100] * 30)) is first


class TestAllocation:
    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_no_allocation_is_more_accurate(self, data: st.DataObject) -> None:
        member = st.builds(Member, st.floats(0.1, 1.0), st.floats(2.0, 40.0))
        families = [
            Family(
                demand=data.draw(st.floats(1.0, 50.0)),
                members=sorted(data.draw(st.lists(member, min_size=1, max_size=3)), key=lambda m: -m.accuracy),
            )
            for _ in range(2)
        ]
        count = data.draw(st.integers(2, 6))
        found = allocate(families, count, 1.05)
        assert found is not None
        assert sum(share.servers for shares in found for share in shares) == count
        served = [
            sum(share.items_per_s for share in shares) / f.demand for f, shares in zip(families, found, strict=True)
        ]
        value = sum(
            member.accuracy * share.items_per_s
            for family, shares in zip(families, found, strict=True)
            for member, share in zip(family.members, shares, strict=True)
        )
        best = _best(families, count, 1.05)
        if best is None:
            assert max(served) < 1.05
        else:
            assert served == pytest.approx([1.0, 1.0])
            assert value == pytest.approx(best, rel=1e-4)

    def test_fewer_servers_than_families_need(self) -> None:
        assert allocate([Family(1.0, [Member(1.0, 1.0)])] * 3, 2, 1.0) is None

    def test_families_that_may_not_grow_leave_servers_over(self) -> None:
        found = allocate([Family(1.0, [Member(1.0, 10.0)], most=2)], 5, 1.0)
        assert found is not None
        assert found[0][0].servers == 2


def _best(families: list[Family], count: int, beta: float) -> float | None:
    """By trying every allocation; None where none has beta times the demand."""
    options = [
        [
            (sum(n), _value(family, n))
            for n in itertools.product(range(count + 1), repeat=len(family.members))
            if 1 <= sum(n) <= count
            and sum(m.rate * k for m, k in zip(family.members, n, strict=True)) >= beta * family.demand
        ]
        for family in families
    ]
    values = [
        sum(value for _, value in way) for way in itertools.product(*options) if sum(used for used, _ in way) <= count
    ]
    return max(values, default=None)


def _value(family: Family, servers: tuple[int, ...]) -> float:
    left, value = family.demand, 0.0
    for member, n in zip(family.members, servers, strict=True):
        items = min(left, n * member.rate)
        left, value = left - items, value + items * member.accuracy
    return value


def test_options_that_are_wrong_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^policy.options.beta: is 0, but must be a factor above 0$"):
        Proteus(setting(car_branch(), beta=0))
