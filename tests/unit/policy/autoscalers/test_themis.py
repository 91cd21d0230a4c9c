"""Themis moves as the authors' state machines do, and where theirs fails it does what can be done."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.autoscalers.chains import VIDEO, broken, chain, drive, machines, seen, shape
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.themis import Themis
from triscale.testing.builders import pipeline, stage, variant

SURGE_FROM = 43
SURGE = [
    11, 13, 10, 11, 11, 9, 9, 9, 9, 10, 8, 9, 11, 11, 30, 28, 23, 23, 27, 28, 33, 39, 30,
    38, 37, 42, 44, 45, 39, 43, 40, 42, 43, 50, 47, 42, 46, 44, 48, 49, 45, 43, 41,
]  # fmt: skip
"""Requests in each of the seconds 43 to 85 of the paper's Twitter slice, divided by 4.384 as its authors do."""

MOVES = {
    43: [(2, 2), (1, 1)],
    49: [(2, 1), (1, 1)],
    55: [(2, 2), (1, 1)],
    57: [(2, 4), (1, 4)],
    63: [(2, 5), (1, 4)],
    64: [(2, 6), (1, 6)],
    68: [(2, 7), (1, 8)],
    69: [(3, 7), (2, 8)],
    75: [(9, 1), (3, 1)],
    76: [(9, 2), (3, 1)],
    82: [(10, 1), (3, 1)],
    83: [(9, 1), (3, 1)],
}
"""Second -> (replicas, cores) per stage from then on: what the authors' optimiser and state machine do with it when
each decision is made on the second's true count, the forecast is the same count, and a plan holds at once."""

REPLAY = {"window_s": 1.0, "forecaster": "persistence", "stabilisation": 5, "models": VIDEO}


def running(*stages: tuple[int, int]) -> Plan:
    """A plan of (replicas, cores) per stage of the video pipeline."""
    return Plan(
        stages={
            name: StagePlan(
                variants={"only": VariantPlan(share=1.0)},
                groups=(ReplicaGroup(variants=("only",), replicas=count, lanes=1, threads=cores),),
            )
            for name, (count, cores) in zip(VIDEO, stages, strict=True)
        }
    )


def moves(plans: list[Plan], first: Plan, start: int) -> dict[int, list[tuple[int, int]]]:
    """Second -> shape, where replicas or cores changed."""
    found = {}
    before = shape(first)
    for second, plan in enumerate(plans, start):
        if shape(plan) != before:
            found[second] = before = shape(plan)
    return found


def test_the_first_surge_of_the_papers_video_pipeline_is_met_move_by_move() -> None:
    # On a cluster with room for the 37 cores that the authors' plan at second 69 asks for.
    autoscaler = Themis(chain(REPLAY, nodes=(64,)))
    start = running((2, 1), (1, 1))
    plans = drive(autoscaler, start, SURGE, cores=(64,))
    assert moves(plans, start, SURGE_FROM) == MOVES


def test_on_the_papers_32_cores_no_move_asks_for_more() -> None:
    setting = chain(REPLAY, nodes=(32,))
    plans = drive(Themis(setting), running((2, 1), (1, 1)), SURGE)
    assert [fault for plan in plans for fault in broken(plan, setting)] == []
    cut = plans[69 - SURGE_FROM]
    assert cut.cores <= 32 < 37
    assert cut.reason.endswith("cut down to the nodes' cores")
    assert shape(cut) != MOVES[69]


def test_what_runs_is_never_taken_away_to_make_room_for_extra_replicas() -> None:
    plans = drive(Themis(chain(REPLAY)), running((2, 1), (1, 1)), SURGE[: 70 - SURGE_FROM])
    detect, classify = shape(plans[-1])
    assert detect[0] >= 2
    assert classify[0] >= 1


def test_a_surge_is_met_in_the_same_tick_by_more_cores_for_what_runs() -> None:
    autoscaler = Themis(chain({"models": VIDEO}))
    plan = drive(autoscaler, running((3, 1), (2, 1)), [10, 10, 39, 39])[-1]
    assert [count for count, _ in shape(plan)] == [3, 2]
    assert plan.capacity >= 39
    assert plan.feasible


def test_the_vertical_stage_never_shrinks() -> None:
    plan = drive(Themis(chain({"models": VIDEO})), running((3, 6), (2, 5)), [5, 5, 5, 6])[-1]
    assert shape(plan) == [(3, 6), (2, 5)]


def test_after_enough_stable_ticks_single_cores_take_over() -> None:
    autoscaler = Themis(chain({"models": VIDEO, "stabilisation": 5}))
    start = running((3, 6), (2, 5))
    plans = drive(autoscaler, start, [20] * 8)
    assert [shape(plan) == shape(start) for plan in plans] == [True] * 5 + [False] * 3
    assert shape(plans[-1]) == [(4, 1), (2, 1)]


def test_a_tick_that_is_not_stable_starts_the_count_anew() -> None:
    autoscaler = Themis(chain({"models": VIDEO, "stabilisation": 5, "window_s": 1.0, "forecaster": "persistence"}))
    start = running((3, 3), (2, 2))
    plans = drive(autoscaler, start, [20, 20, 20, 20, 20, 60, 20, 20, 20, 20, 20, 20])
    assert all(count == 3 for (count, _), _ in map(shape, plans[:5]))
    assert all(cores > 1 for (_, cores), _ in map(shape, plans[:11]))
    assert shape(plans[11]) == [(4, 1), (2, 1)]


def test_a_forecast_of_more_keeps_the_cores() -> None:
    # 20 requests/s now, but 40 within the last ten seconds: the published comparison of a rate with a peak.
    autoscaler = Themis(chain({"models": VIDEO, "stabilisation": 1}))
    start = running((3, 6), (2, 5))
    plans = drive(autoscaler, start, [40, *[20] * 9, 20, 20, 20])
    assert [shape(plan) == shape(start) for plan in plans] == [True] * 11 + [False] * 2


def revised(**options: object) -> Themis:
    autoscaler = Themis(chain({"revision": 2025, "models": VIDEO, "most_cores": 8, "most_batch": 8, **options}))
    assert autoscaler.tick_s == 0.5
    return autoscaler


def test_revised_more_than_the_capacity_is_met_by_more_cores_and_handed_over_in_the_next_tick() -> None:
    autoscaler = revised()
    up = autoscaler.decide(seen(running((3, 1), (2, 1)), [10, 30]))
    assert [count for count, _ in shape(up)] == [3, 2]
    assert shape(up)[0][1] > 1
    assert up.capacity >= 30
    out = autoscaler.decide(seen(up, [10, 30], now=2.5))
    assert all(cores == 1 for _, cores in shape(out))
    assert out.capacity >= 30


def test_revised_a_forecast_above_the_capacity_is_met_by_more_cores() -> None:
    plan = revised(window_s=1.0).decide(seen(running((3, 1), (2, 1)), [30, 10]))
    assert [count for count, _ in shape(plan)] == [3, 2]


def test_revised_single_cores_are_one_more_where_cores_go() -> None:
    # 20 requests/s need 5 and 2 single cores.
    assert shape(revised().decide(seen(running((2, 4), (2, 4)), [20]))) == [(6, 1), (3, 1)]
    assert shape(revised().decide(seen(running((2, 4), (2, 1)), [20]))) == [(6, 1), (2, 1)]


def test_revised_taking_away_alone_waits_for_its_ticks() -> None:
    plans = drive(revised(stabilisation=10), running((9, 1), (4, 1)), [20] * 12)
    assert [shape(plan) for plan in plans] == [[(9, 1), (4, 1)]] * 10 + [[(5, 1), (2, 1)]] * 2


def test_revised_where_a_stage_has_its_most_cores_replicas_are_started_though_the_load_rises() -> None:
    plan = revised().decide(seen(running((2, 8), (2, 2)), [10, 80]))
    assert all(cores == 1 for _, cores in shape(plan))
    assert plan.reason.startswith("the cores per replica are used up")


@pytest.mark.parametrize("revision", [2024, 2025])
@pytest.mark.parametrize("slo_ms", [1.0, 60.0])
def test_an_slo_out_of_reach_gives_the_best_there_is_and_no_error(revision: int, slo_ms: float) -> None:
    setting = chain({"revision": revision}, slo_ms=slo_ms)
    autoscaler = Themis(setting)
    first = autoscaler.first(20.0)
    plans = [first, *drive(autoscaler, first, [20, 40, 200, 0, 0])]
    assert [fault for plan in plans for fault in broken(plan, setting)] == []
    assert not any(plan.feasible for plan in plans)


@pytest.mark.parametrize("revision", [2024, 2025])
def test_a_minute_without_requests_and_then_a_surge(revision: int) -> None:
    setting = chain({"revision": revision, "models": VIDEO})
    autoscaler = Themis(setting)
    plans = drive(autoscaler, autoscaler.first(10.0), [0] * 60 + [40] * 30)
    assert [fault for plan in plans for fault in broken(plan, setting)] == []
    assert shape(plans[59]) == [(1, 1), (1, 1)]
    assert plans[-1].capacity >= 40


def test_without_a_measurement_nothing_changes() -> None:
    autoscaler = Themis(chain())
    plan = autoscaler.first(10.0)
    assert autoscaler.decide(seen(plan, [], now=0.5)) is plan


def test_the_same_answer_is_the_same_plan() -> None:
    autoscaler = Themis(chain({"models": VIDEO}))
    plan = autoscaler.first(20.0)
    assert all(each is plan for each in drive(autoscaler, plan, [20] * 30))


@settings(max_examples=40, deadline=None)
@given(
    arrivals=st.lists(st.integers(0, 120), min_size=1, max_size=25),
    revision=st.sampled_from([2024, 2025]),
    cores=st.lists(st.integers(2, 12), min_size=1, max_size=3),
    slo_ms=st.sampled_from([50.0, 300.0, 780.0, 3000.0]),
)
def test_whatever_arrives_plans_are_valid_and_fit_the_nodes(
    arrivals: list[int], revision: int, cores: list[int], slo_ms: float
) -> None:
    setting = chain({"revision": revision, "stabilisation": 2}, slo_ms=slo_ms, nodes=cores)
    autoscaler = Themis(setting)
    first = autoscaler.first(float(arrivals[0]))
    for plan in [first, *drive(autoscaler, first, arrivals, cores=cores)]:
        assert broken(plan, setting, cores) == []


def test_a_lost_node_takes_its_share_of_the_plan_with_it() -> None:
    setting = chain({"models": VIDEO}, nodes=(16, 16))
    autoscaler = Themis(setting)
    plans = drive(autoscaler, autoscaler.first(30.0), [30, 30, 60, 60, 60], cores=(16, 16))
    later = drive(autoscaler, plans[-1], [60, 70, 80], cores=(16,))
    assert broken(later[-1], setting, (16,)) == []


def test_the_model_fitted_to_the_profile_decides_like_the_stated_one() -> None:
    # classify has no negative coefficient, so the fit finds it; of detect it comes within a few percent.
    stated, fitted = Themis(chain({"models": VIDEO})), Themis(chain())
    for rate in (5.0, 10.0, 20.0, 39.0):
        (detect, classify), (fit_detect, fit_classify) = shape(stated.first(rate)), shape(fitted.first(rate))
        assert classify == fit_classify
        assert abs(detect[0] - fit_detect[0]) <= 1


def tree() -> Setting:
    """A detector that emits three cars and half a face, each with a stage of its own; two variants of the detector."""
    spec = pipeline(
        600.0,
        detect=stage(
            variant("good", {1: 60.0}, accuracy=0.9, fan_out={"car": 3.0, "face": 0.5}),
            variant("fast", {1: 10.0}, accuracy=0.7, fan_out={"car": 1.0, "face": 0.5}),
        ),
        car=stage(variant("car", {1: 20.0}), after="detect"),
        face=stage(variant("face", {1: 20.0}), after="detect"),
    )

    def flat(seconds: float, fan_out: dict[str, float] | None = None) -> VariantProfile:
        points = tuple(
            LatencyPoint(batch=b, threads=t, p50_s=b * seconds / t, p95_s=b * seconds / t, p99_s=b * seconds / t)
            for b in (1, 2, 4)
            for t in (1, 2, 4)
        )
        return VariantProfile(latency=points, fan_out=fan_out or {})

    profile = Profile(
        pipeline="test",
        stages={
            "detect": {"good": flat(0.06, {"car": 3.0, "face": 0.5}), "fast": flat(0.01)},
            "car": {"car": flat(0.02)},
            "face": {"face": flat(0.02)},
        },
    )
    return Setting(graph=Graph.of(spec), profile=profile, nodes=machines((32,)))


def test_a_tree_is_planned_for_the_items_that_each_stage_gets() -> None:
    plan = Themis(tree()).first(30.0)
    assert plan.feasible
    # 30 requests/s of 60 ms, 90 cars and 15 faces of 20 ms.
    assert shape(plan) == [(2, 1), (2, 1), (1, 1)]


def test_the_most_accurate_variant_runs_and_no_other_is_resident() -> None:
    planned = Themis(tree()).first(30.0).stages["detect"]
    assert list(planned.variants) == ["good"]
    assert {group.variants for group in planned.groups} == {("good",)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revison": 2025}, "policy.options.revison: themis has no such option; do you mean `revision`?"),
        ({"revision": 2023}, r"policy.options.revision: is 2023, but must be 2024 \(the paper's\) or 2025"),
        ({"most_cores": 0}, "policy.options.most_cores: is 0, but must be a whole number, at least 1"),
        ({"window_s": float("inf")}, "policy.options.window_s: is inf, but must be a number of seconds above 0"),
        ({"forecaster": "lstm"}, "policy.options.forecaster: is 'lstm', but must be a forecaster: persistence"),
        ({"models": {"detect": [1.0]}}, "policy.options.models: is .*, but must be stages, each with its"),
        ({"models": {"nothing": [1.0, 1.0, 1.0, 1.0]}}, "themis finds no such stage; there are: detect, classify"),
    ],
)
def test_wrong_options_are_named_with_their_rule(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Themis(chain(options))


def test_every_wrong_option_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Themis(chain({"revision": 1, "load": "sum", "speed": 3}))
    assert len(caught.value.problems) == 3


def test_fewer_cores_than_stages_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="1 cores are too few for 2 stages"):
        Themis(chain(nodes=(1,)))
