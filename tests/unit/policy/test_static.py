"""The static plan: the most accurate variants that leave room for waiting, on shared cores."""

from __future__ import annotations

import pytest

from triscale import Pipeline, Stage, Variant
from triscale.core.graph import Graph
from triscale.core.profile import PathAccuracy, Profile, inline_profile
from triscale.policy.autoscalers.static import static_plan


def variant(name: str, ms: dict[int, float], accuracy: float, max_batch: int = 8, **fan_out: float) -> Variant:
    return Variant(
        name=name, runtime="emulated", latency_ms=ms, accuracy=accuracy, max_batch=max_batch, fan_out=dict(fan_out)
    )


def pipeline(slo_ms: float = 1000) -> Pipeline:
    return Pipeline(
        name="p",
        slo_ms=slo_ms,
        stages={
            "detect": Stage(
                variants=(
                    variant("big", {1: 100}, 0.9, max_batch=1, read=4.0),
                    variant("small", {1: 10}, 0.7, max_batch=1, read=4.0),
                )
            ),
            "read": Stage(after="detect", variants=(variant("big", {1: 50}, 0.9, 1), variant("small", {1: 5}, 0.8, 1))),
        },
    )


def plan_of(spec: Pipeline, cores: int = 2, profile: Profile | None = None, **fixed: str) -> dict[str, str]:
    plan = static_plan(Graph.of(spec), profile or inline_profile(spec), cores, fixed)
    return dict(plan.paths[0].variants)


def test_with_room_the_most_accurate_variants_run() -> None:
    assert plan_of(pipeline()) == {"detect": "big", "read": "big"}


def test_a_tighter_objective_costs_accuracy_where_it_is_cheapest() -> None:
    # big/big takes 100 + 2 * 50 = 200 ms on two cores; 60 % of 250 ms leave room for 150 ms.
    assert plan_of(pipeline(250)) == {"detect": "big", "read": "small"}
    assert plan_of(pipeline(100)) == {"detect": "small", "read": "small"}


def test_an_objective_that_nothing_meets_gets_the_fastest_and_says_so() -> None:
    spec = pipeline(15)
    plan = static_plan(Graph.of(spec), inline_profile(spec), 2)
    assert plan.paths[0].variants == {"detect": "small", "read": "small"}
    assert plan.reason == (
        "no variants' path takes at most 60 % of the SLO: the fastest ones, which take 20 ms of 15 ms"
    )
    assert not plan.feasible
    tight = pipeline(30)
    assert static_plan(Graph.of(tight), inline_profile(tight), 2).feasible


def test_capacity_is_what_the_cores_can_do() -> None:
    spec = pipeline()
    plan = static_plan(Graph.of(spec), inline_profile(spec), 2)
    # 100 ms + 4 items of 50 ms = 0.3 core-seconds a request.
    assert plan.capacity == pytest.approx(0.95 * 2 / 0.3, rel=0.002)
    assert plan.accuracy == pytest.approx(0.81)
    assert plan.shared_cores == 2


def test_every_variant_is_resident_so_that_faster_ones_can_rescue() -> None:
    plan = static_plan(Graph.of(pipeline()), inline_profile(pipeline()), 2)
    for stage in plan.stages.values():
        assert [(group.variants, group.replicas, group.lanes) for group in stage.groups] == [(("big", "small"), 1, 2)]
        assert sum(variant.share for variant in stage.variants.values()) == 1.0


def test_variants_can_be_fixed() -> None:
    assert plan_of(pipeline(), read="small") == {"detect": "big", "read": "small"}
    with pytest.raises(ValueError, match="tuple"):
        plan_of(pipeline(), read="huge")


def test_measured_accuracy_of_a_path_wins_over_the_product_of_its_stages() -> None:
    spec = pipeline()
    inline = inline_profile(spec)
    assert inline is not None
    measured = Profile(
        pipeline="p",
        stages=inline.stages,
        paths=(PathAccuracy(variants={"detect": "big", "read": "small"}, accuracy=0.95),),
    )
    assert plan_of(spec, profile=measured) == {"detect": "big", "read": "small"}


def test_batches_grow_only_where_they_pay() -> None:
    stages = {
        "flat": Stage(variants=(variant("v", {1: 10, 8: 80}, 1.0, 8, free=1.0),)),
        "free": Stage(after="flat", variants=(variant("v", {1: 10, 8: 12}, 1.0, 8),)),
    }
    spec = Pipeline(name="p", slo_ms=1000, stages=stages)
    plan = static_plan(Graph.of(spec), inline_profile(spec), 2)
    assert {stage: found.variants["v"].batch for stage, found in plan.stages.items()} == {"flat": 1, "free": 8}


def test_without_a_profile_the_most_accurate_run_and_the_reason_says_why() -> None:
    plan = static_plan(Graph.of(pipeline()), None, 2)
    assert plan.paths[0].variants == {"detect": "big", "read": "big"}
    assert plan.capacity == 0.0
    assert plan.reason.startswith("no profile")


def test_a_join_is_visited_once_however_much_it_gathers() -> None:
    stages = {
        "split": Stage(variants=(variant("v", {1: 10}, 1.0, 1, work=8.0),)),
        "work": Stage(after="split", variants=(variant("v", {1: 10}, 1.0, 1, end=1.0),)),
        "end": Stage(after="work", join="all", variants=(variant("v", {1: 10}, 1.0, 1),)),
    }
    spec = Pipeline(name="p", slo_ms=1000, stages=stages)
    plan = static_plan(Graph.of(spec), inline_profile(spec), 1)
    assert plan.capacity == pytest.approx(0.95 / 0.1, rel=0.01)
