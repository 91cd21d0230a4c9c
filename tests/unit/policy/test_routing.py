"""MostAccurateFirst: who gets the accurate lanes, what is left, and who can help out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.core.graph import Graph
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.policy.routing import Backup, Routes, Tier, even_split, planned_tiers, route
from triscale.testing.builders import pipeline, stage, variant

GRAPH = Graph.of(
    pipeline(
        find=stage(variant("good", 40.0, accuracy=1.0), variant("quick", 10.0, accuracy=0.8)),
        read=stage(variant("good", 20.0, accuracy=0.9), variant("quick", 5.0, accuracy=0.6), after="find"),
    )
)
FAN_OUT = (((3.0,), (2.0,)), ((), ()))


def tiers(*rates: tuple[float, float]) -> list[list[Tier]]:
    return [[Tier(0, good, 0.04 / (s + 1)), Tier(1, quick, 0.01 / (s + 1))] for s, (good, quick) in enumerate(rates)]


def test_the_most_accurate_tier_fills_to_the_head_room_first() -> None:
    routes = route(GRAPH, tiers((100.0, 100.0), (1000.0, 1000.0)), 100.0, FAN_OUT, headroom=0.8)
    assert routes.shares(0) == pytest.approx({0: 0.8, 1: 0.2})
    assert routes.loads[0] == pytest.approx({0: 80.0, 1: 20.0})


def test_while_it_has_room_it_gets_everything() -> None:
    routes = route(GRAPH, tiers((100.0, 100.0), (1000.0, 1000.0)), 79.0, FAN_OUT)
    assert routes.shares(0) == {0: 1.0}
    assert routes.backups[0] == (Backup(0, 0.04, 21.0), Backup(1, 0.01, 100.0))


def test_head_room_is_given_up_before_anything_overflows() -> None:
    routes = route(GRAPH, tiers((100.0, 50.0), (1000.0, 1000.0)), 130.0, FAN_OUT)
    assert routes.loads[0] == pytest.approx({0: 90.0, 1: 40.0})
    assert routes.leftover[0] == pytest.approx({0: 10.0, 1: 10.0})


def test_an_overload_is_shared_out_by_capacity() -> None:
    routes = route(GRAPH, tiers((100.0, 50.0), (1000.0, 1000.0)), 300.0, FAN_OUT)
    assert routes.shares(0) == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert routes.leftover[0] == {0: 0.0, 1: 0.0}
    assert routes.backups[0] == ()


def test_the_most_accurate_paths_choose_first() -> None:
    routes = route(GRAPH, tiers((50.0, 100.0), (150.0, 1000.0)), 60.0, FAN_OUT)
    # 40 frames on the good detector emit 120 items: just the good reader's 120; the other 40 items go elsewhere.
    assert routes.shares(1, 0, (0,)) == pytest.approx({0: 1.0})
    assert routes.shares(1, 0, (1,)) == pytest.approx({1: 1.0})
    assert routes.overall(1) == pytest.approx({0: 0.75, 1: 0.25})


def test_an_unforeseen_path_gets_the_stage_s_overall_shares() -> None:
    routes = route(GRAPH, tiers((100.0, 0.0), (100.0, 1000.0)), 60.0, FAN_OUT)
    assert (0, (1,)) not in routes.tables[1]
    assert routes.shares(1, 0, (1,)) == routes.overall(1)


def test_where_nothing_flows_the_most_accurate_tier_with_room_is_named() -> None:
    routes = route(GRAPH, tiers((100.0, 100.0), (0.0, 10.0)), 0.0, FAN_OUT)
    assert routes.shares(0) == {0: 1.0}
    assert routes.shares(1, 0, (0,)) == {1: 1.0}
    nothing = route(GRAPH, [[], []], 10.0, FAN_OUT)
    assert nothing.shares(0) == {}


def test_items_of_a_join_have_no_past() -> None:
    graph = Graph.of(
        pipeline(
            a=stage(variant("a", 1.0)),
            b=stage(variant("b", 1.0), after="a"),
            c=stage(variant("c", 1.0), after="a"),
            d=stage(variant("d", 1.0), after=("b", "c"), join="all"),
            e=stage(variant("e", 1.0), after="d"),
        )
    )
    one = [[Tier(0, 1000.0)] for _ in range(5)]
    fan_out = (((5.0, 7.0),), ((1.0,),), ((1.0,),), ((2.0,),), ((),))
    routes = route(graph, one, 10.0, fan_out)
    assert [sum(load.values()) for load in routes.loads] == [10.0, 50.0, 70.0, 10.0, 20.0]
    assert list(routes.tables[3]) == [(-1, ())]


def test_lateness_is_recovered_by_the_most_accurate_variant_that_saves_enough() -> None:
    routes = route(GRAPH, tiers((100.0, 100.0), (1000.0, 1000.0)), 10.0, FAN_OUT)
    assert routes.recover(0, instead_of_s=0.1, late_s=0.05) == routes.backups[0][0]
    saved = routes.recover(0, instead_of_s=0.05, late_s=0.03)
    assert saved is not None
    assert saved.variant == 1
    assert routes.recover(0, instead_of_s=0.05, late_s=0.2) is None


def test_inside_a_tier_replicas_get_as_many_parts_as_they_have_lanes() -> None:
    assert even_split({"a": 3, "b": 1}) == {"a": 0.75, "b": 0.25}
    assert even_split({"a": 0}) == {}


def test_a_plan_s_own_tiers() -> None:
    plan = Plan(
        stages={
            "find": StagePlan(variants={"good": VariantPlan(share=1.0, batch=2, lanes=3, latency_s=0.06, wait_s=0.01)}),
            "read": StagePlan(variants={"quick": VariantPlan(share=0.0)}),
        }
    )
    ((tier,), nothing) = planned_tiers(GRAPH, plan)
    assert (tier.variant, nothing) == (0, ())
    assert (tier.items_per_s, tier.latency_s) == pytest.approx((100.0, 0.07))


rates = st.floats(0.0, 500.0)


@given(st.tuples(rates, rates), st.tuples(rates, rates), rates, st.floats(0.5, 1.0))
def test_promises(first: tuple[float, float], second: tuple[float, float], demand: float, headroom: float) -> None:
    world = tiers(first, second)
    routes: Routes = route(GRAPH, world, demand, FAN_OUT, headroom)
    for stage_number, table in enumerate(routes.tables):
        capacity = {tier.variant: tier.items_per_s for tier in world[stage_number]}
        for shares in table.values():
            assert sum(shares.values()) == pytest.approx(1.0)
        loads = routes.loads[stage_number]
        if loads[1] > 1e-6:
            # No less accurate tier works while a more accurate one has room.
            assert loads[0] >= headroom * capacity[0] - 1e-6
        for variant_number, left in routes.leftover[stage_number].items():
            assert left == pytest.approx(max(0.0, capacity[variant_number] - loads[variant_number]), abs=1e-6)
    assert sum(routes.loads[0].values()) == pytest.approx(demand if sum(first) > 0.0 else 0.0)


def test_shares_by_the_variant_before_are_the_mean_over_the_paths_that_end_in_it() -> None:
    graph = Graph.of(
        pipeline(
            find=stage(variant("good", 40.0, accuracy=1.0), variant("quick", 10.0, accuracy=0.8)),
            crop=stage(variant("only", 1.0), after="find"),
            read=stage(variant("good", 20.0, accuracy=0.9), variant("quick", 5.0, accuracy=0.6), after="crop"),
        )
    )
    made = [[Tier(0, 50.0), Tier(1, 100.0)], [Tier(0, 1000.0)], [Tier(0, 50.0), Tier(1, 1000.0)]]
    routes = route(graph, made, 60.0, (((1.0,), (1.0,)), ((1.0,),), ((), ())))
    # 40 items a second come by way of the good detector and fill the good reader; 20 come by way of the quick one.
    assert routes.tables[2] == {(1, (0, 0)): {0: 1.0}, (1, (1, 0)): {1: 1.0}}
    assert routes.by_parent(2) == {0: pytest.approx({0: 2 / 3, 1: 1 / 3})}
    assert routes.by_parent(0) == {}
