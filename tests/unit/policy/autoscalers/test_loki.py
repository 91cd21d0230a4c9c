"""Loki through the autoscaler: its published decisions, when it makes them, and the balancing in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.policy.autoscalers.server_worlds import (
    both_branches,
    car_branch,
    replicas,
    servers,
    setting,
    snapshot,
    used,
)
from triscale.core.plan import Plan
from triscale.core.snapshot import Phase
from triscale.errors import ConfigError
from triscale.policy.autoscalers.loki import Loki
from triscale.policy.optimise.check import violations
from triscale.policy.optimise.settings import Settings as PlannerSettings
from triscale.policy.plan_rules import broken_rules

PUBLISHED: dict[str, Any] = {"beta": 1.0, "change": 0.0}
"""The figures of Loki's simulator are without over-provisioning, and it plans at its intervals only."""


def settled(loki: Loki, demand: int, count: int = 18) -> Plan:
    """The plan after half a minute of a steady demand."""
    plan = loki.first(float(demand))
    for second in range(1, 31):
        plan = loki.decide(snapshot(float(second), plan, [demand] * second, nodes=servers(count)))
    return plan


class TestTwoSteps:
    @pytest.mark.parametrize(("demand", "cores"), [(50, 5), (100, 10), (150, 15)])
    def test_while_servers_suffice_the_best_variants_run_on_as_few_as_carry_the_demand(
        self, demand: int, cores: int
    ) -> None:
        plan = settled(Loki(setting(car_branch(), **PUBLISHED)), demand)
        assert (plan.mode, plan.cores, plan.served_fraction) == ("hardware", cores, 1.0)
        assert used(plan, "detect") == {"yolov5x"}
        assert used(plan, "vehicles") == {"efficientnet-b6"}

    @pytest.mark.parametrize(("demand", "accuracy"), [(500, 0.8849), (600, 0.8405), (800, 0.7706), (1000, 0.7298)])
    def test_beyond_that_all_servers_run_at_the_published_accuracy(self, demand: int, accuracy: float) -> None:
        plan = Loki(setting(car_branch(), **PUBLISHED)).first(float(demand))
        assert (plan.mode, plan.cores) == ("accuracy", 18)
        # Demand is rounded up to a step of 1 %.
        assert accuracy - 0.01 <= plan.accuracy <= accuracy + 1e-3

    def test_as_demand_rises_servers_are_added_then_the_classifier_gives_way_then_the_detector(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        plans = [loki.first(demand) for demand in (20.0, 100.0, 180.0, 200.0, 400.0, 1000.0)]
        assert [plan.cores for plan in plans] == sorted(plan.cores for plan in plans)
        assert [plan.accuracy for plan in plans] == sorted((plan.accuracy for plan in plans), reverse=True)
        assert used(plans[3], "detect") == {"yolov5x"}
        assert used(plans[3], "vehicles") != {"efficientnet-b6"}
        assert "yolov5x" not in used(plans[5], "detect")

    def test_demand_beyond_the_fastest_variants_is_carried_as_far_as_they_go(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        plans = [loki.first(2500.0), loki.first(5000.0)]
        assert [plan.mode for plan in plans] == ["overload", "overload"]
        carried = [plan.demand * plan.served_fraction for plan in plans]
        assert carried[0] == pytest.approx(carried[1], rel=1e-3)
        assert carried[0] == pytest.approx(2030, rel=0.01)

    def test_without_demand_one_server_of_each_stage_holds_the_best_variant(self) -> None:
        plan = settled(Loki(setting(both_branches())), 0)
        assert plan.cores == 3
        assert plan.accuracy == pytest.approx(0.9982, abs=1e-4)

    def test_an_accuracy_floor_sheds_rather_than_going_below(self) -> None:
        plan = Loki(setting(car_branch(), min_accuracy=0.9, **PUBLISHED)).first(800.0)
        assert plan.mode == "overload"
        assert plan.accuracy >= 0.9 - 1e-6

    def test_beta_widens_every_stage(self) -> None:
        exact = Loki(setting(car_branch(), beta=1.0)).first(100.0)
        wide = Loki(setting(car_branch(), beta=1.3)).first(100.0)
        for name in ("detect", "vehicles"):
            assert exact.stages[name].groups[0].replicas < wide.stages[name].groups[0].replicas
        assert exact.capacity < 130.0 <= wide.capacity

    def test_an_slo_of_which_half_is_too_little_is_planned_without_time_for_waiting(self) -> None:
        # The fastest path takes 9.45 + 3.91 ms.
        plan = Loki(setting(replace(car_branch(), slo_ms=20.0))).first(20.0)
        assert plan.served_fraction == 1.0
        assert max(path.latency_s for path in plan.paths) <= 0.020

    def test_an_slo_below_the_fastest_path_gets_a_plan_that_serves_nothing_and_says_why(self) -> None:
        loki = Loki(setting(replace(car_branch(), slo_ms=10.0)))
        plan = loki.first(20.0)
        assert (plan.feasible, plan.served_fraction) == (False, 0.0)
        assert plan.reason.startswith("the SLO of 10 ms is 3.4 ms too short for the fastest path")
        assert loki.decide(snapshot(10.0, plan, [20] * 10)).served_fraction == 0.0

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0.0, 3000.0), st.integers(3, 24))
    def test_every_plan_keeps_what_it_promises(self, demand: float, count: int) -> None:
        world = setting(both_branches(), count)
        plan = Loki(setting(both_branches(), count, beta=1.0)).first(demand)
        assert list(broken_rules(plan, world.graph, world.nodes)) == []
        rules = PlannerSettings(wait="half_slo", service_quantile="p50", utilisation=1.0, threads=(1,), replica_cores=1)
        assert violations(plan, world.graph, world.profile, world.nodes, rules) == []
        assert all(
            len(group.variants) == group.lanes == group.threads == 1 for s in plan.stages.values() for group in s.groups
        )


class TestWhen:
    def test_plans_follow_the_smoothed_demand_once_per_interval(self) -> None:
        loki = Loki(setting(car_branch(), interval_s=10.0, **PUBLISHED))
        plan = loki.first(50.0)
        demands = []
        for second in range(1, 21):
            plan = loki.decide(snapshot(float(second), plan, [100] * second))
            demands.append(plan.demand)
        assert demands[:9] == [plan_demand(50)] * 9
        assert demands[9:] == [plan_demand(100)] * 11

    def test_the_demand_is_the_mean_with_the_newest_second_weighing_1_over_1_plus_com(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        counts = [100, 100, 50, 200]
        keep = 1.6 / 2.6
        weights = [keep**j for j in range(4)]
        expected = sum(w * d for w, d in zip(weights, reversed(counts), strict=True)) / sum(weights)
        plan = loki.decide(snapshot(10.0, loki.first(50.0), counts))
        assert expected <= plan.demand <= 1.011 * expected

    def test_a_large_change_brings_the_next_plan_forward_where_that_is_asked_for(self) -> None:
        for change, follows in ((0.0, False), (0.3, True)):
            loki = Loki(setting(car_branch(), interval_s=10.0, change=change))
            plan = loki.decide(snapshot(1.0, loki.first(50.0), [100]))
            assert (plan.demand >= 100.0) is follows

    def test_a_steady_world_keeps_the_very_same_plan(self) -> None:
        loki = Loki(setting(car_branch()))
        plan = settled(loki, 300)
        assert loki.decide(snapshot(60.0, plan, [300] * 60)) is plan

    def test_before_anything_arrived_the_first_plan_stays(self) -> None:
        loki = Loki(setting(car_branch()))
        plan = loki.first(50.0)
        assert loki.decide(snapshot(30.0, plan, [])) is plan

    def test_plans_beyond_so_many_are_forgotten_and_made_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("triscale.policy.autoscalers.servers._MOST_PLANS", 2)
        loki = Loki(setting(car_branch()))
        first = loki.first(50.0)
        assert loki.first(50.0) is first
        for demand in (60.0, 70.0):
            loki.first(demand)
        assert loki.first(50.0) == first

    def test_measured_fan_outs_replace_the_profiled_ones(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        before = loki.first(100.0)
        half = {("detect", "yolov5x"): {"vehicles": 8.9}}
        after = loki.decide(snapshot(10.0, before, [100] * 10, fan_out=half))
        assert after.stages["vehicles"].groups[0].replicas < before.stages["vehicles"].groups[0].replicas
        noise = {("detect", "yolov5x"): {"vehicles": 9.1}}
        assert loki.decide(snapshot(20.0, after, [100] * 20, fan_out=noise)) is after

    def test_a_lost_server_is_planned_around(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        nodes = [replace(node, ready=i > 0) for i, node in enumerate(servers(18))]
        plan = loki.decide(snapshot(10.0, loki.first(400.0), [400] * 10, nodes=nodes))
        assert plan.cores == 17


class TestBalancing:
    """A plan for 300 requests/s runs two detectors and two classifiers."""

    def world(self) -> tuple[Loki, Plan]:
        loki = Loki(setting(car_branch(), interval_s=1000.0, **PUBLISHED))
        plan = loki.first(300.0)
        assert used(plan, "vehicles") == {"efficientnet-b4", "efficientnet-b3"}
        return loki, plan

    def shares(self, counts: Sequence[int]) -> dict[str, float]:
        loki, plan = self.world()
        new = loki.decide(snapshot(1.0, plan, counts))
        assert new.stages["vehicles"].groups == plan.stages["vehicles"].groups
        return {name: mine.share for name, mine in new.stages["vehicles"].variants.items()}

    def test_while_the_most_accurate_tier_has_room_all_items_go_there(self) -> None:
        assert self.shares([30]) == {"efficientnet-b4": 1.0, "efficientnet-b3": 0.0}

    def test_what_it_has_no_room_for_goes_to_the_next(self) -> None:
        shares = self.shares([300])
        assert 0.0 < shares["efficientnet-b4"] < shares["efficientnet-b3"]
        assert sum(shares.values()) == pytest.approx(1.0)

    def test_the_most_accurate_paths_choose_first(self) -> None:
        loki, plan = self.world()
        rows = loki.decide(snapshot(1.0, plan, [300])).stages["vehicles"].by_parent
        assert rows["yolov5x"]["efficientnet-b4"] > rows["yolov5l"].get("efficientnet-b4", 0.0)

    def test_replicas_of_a_former_plan_take_their_part_until_they_are_gone(self) -> None:
        loki = Loki(setting(car_branch(), **PUBLISHED))
        before = loki.first(180.0)
        old = replicas(before)
        after = loki.decide(snapshot(10.0, before, [400] * 10, running=old))
        new = [replace(view, phase=Phase.STARTING) for view in replicas(after)]
        while_starting = loki.decide(snapshot(11.0, after, [400] * 11, running=[*old, *new]))
        assert used(while_starting, "vehicles") == {"efficientnet-b6"}
        assert while_starting.stages["vehicles"].groups == after.stages["vehicles"].groups
        assert list(broken_rules(while_starting, setting(car_branch()).graph, servers(18))) == []
        done = loki.decide(snapshot(12.0, while_starting, [400] * 12, running=replicas(after)))
        assert "efficientnet-b6" not in done.stages["vehicles"].variants

    def test_other_batches_for_the_same_replicas_are_another_plan(self) -> None:
        loki, plan = self.world()
        plan = loki.decide(snapshot(1.0, plan, [300]))
        vehicles = plan.stages["vehicles"]
        smaller = {name: replace(mine, batch=1) for name, mine in vehicles.variants.items()}
        other = replace(plan, stages={**plan.stages, "vehicles": replace(vehicles, variants=smaller)})
        again = loki.decide(snapshot(2.0, other, [300] * 2)).stages["vehicles"]
        assert {name: mine.batch for name, mine in again.variants.items()} == {
            name: mine.batch for name, mine in vehicles.variants.items()
        }

    def test_the_accuracy_follows_the_shares(self) -> None:
        loki, plan = self.world()
        assert loki.decide(snapshot(1.0, plan, [30])).accuracy > plan.accuracy + 0.01


class TestOptions:
    def test_what_is_wrong_is_named(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Loki(setting(car_branch(), interval_s=0, betta=1.1))
        assert caught.value.problems == (
            "policy.options.interval_s: is 0, but must be a number above 0",
            "policy.options.betta: loki has no such option; do you mean `beta`?",
        )

    def test_fewer_servers_than_stages_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"policy: loki gives every stage servers .* 2 cores are too few for 3"):
            Loki(setting(both_branches(), 2))


def plan_demand(demand: float) -> float:
    """The demand that plans are made for: rounded up to a step of 1 %."""
    return Loki(setting(car_branch(), **PUBLISHED)).first(float(demand)).demand
