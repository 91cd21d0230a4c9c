"""Ongoing items per replica: Ray Serve's and Kubernetes's defaults, and what they can be tightened to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.autoscalers.chains import broken, chain, machines, seen, shape
from triscale.core.plan import Plan
from triscale.errors import ConfigError
from triscale.policy.autoscalers.hpa import Hpa

AT_ONCE: dict[str, Any] = {
    "look_back_s": 0.0,
    "metrics_interval_s": 0.0,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
}


def counts(plan: Plan) -> list[int]:
    return [replicas for replicas, _ in shape(plan)]


def follow(autoscaler: Hpa, detect: list[int], classify: int = 2) -> list[list[int]]:
    """Replicas after each tick with so many items ongoing at the first stage; the second stays at its target."""
    plan = autoscaler.first(1.0)
    found = []
    for tick, items in enumerate(detect, 1):
        now = tick * autoscaler.tick_s
        plan = autoscaler.decide(seen(plan, [1], now=now, ongoing={"detect": items, "classify": classify}))
        found.append(counts(plan))
    return found


def test_the_first_plan_keeps_the_expected_demand_at_eighty_percent() -> None:
    # 20 requests/s of 176 and 70 ms: 3.5 and 1.4 busy replicas, of which 4.4 and 1.8 are 80 %.
    assert counts(Hpa(chain({"batch": 1})).first(20.0)) == [5, 2]


def test_ray_waits_thirty_seconds_and_then_follows_the_mean() -> None:
    found = follow(Hpa(chain()), [8] * 40)
    assert [each[0] for each in found] == [1] * 30 + [4] * 10


def test_ray_takes_away_after_ten_minutes() -> None:
    autoscaler = Hpa(chain({"upscale_delay_s": 0.0, "look_back_s": 0.0, "metrics_interval_s": 0.0}))
    found = follow(autoscaler, [8] + [2] * 700)
    assert [each[0] for each in found].count(4) == 601
    assert found[-1][0] == 1


def test_ray_hears_of_the_stage_every_ten_seconds_only() -> None:
    found = follow(Hpa(chain({"look_back_s": 0.0, "upscale_delay_s": 0.0})), [2] * 5 + [8] * 10)
    assert [each[0] for each in found] == [1] * 10 + [4] * 5


def test_ray_goes_part_of_the_way_where_told() -> None:
    assert follow(Hpa(chain({**AT_ONCE, "upscaling_factor": 0.5})), [18])[0][0] == 5


def test_kubernetes_decides_every_fifteen_seconds_and_adds_at_most_four_or_doubles() -> None:
    autoscaler = Hpa(chain({"style": "kubernetes"}, nodes=(100,)))
    assert autoscaler.tick_s == 15.0
    assert [each[0] for each in follow(autoscaler, [60, 60, 60, 60])] == [5, 10, 20, 30]


def test_kubernetes_does_nothing_within_a_tenth_of_the_target() -> None:
    autoscaler = Hpa(chain({"style": "kubernetes", "downscale_delay_s": 0.0}))
    assert [each[0] for each in follow(autoscaler, [10, 11, 9, 12, 8])] == [5, 5, 5, 6, 4]


def test_kubernetes_takes_away_down_to_the_highest_wish_of_five_minutes() -> None:
    found = [each[0] for each in follow(Hpa(chain({"style": "kubernetes"})), [10, 6] + [2] * 25)]
    # 5 wanted at 15 s and 3 at 30 s: they are kept until 315 and 330 s.
    assert found[:21] == [5] * 21
    assert found[21:23] == [3, 1]


def test_every_delay_can_be_taken_away() -> None:
    assert [each[0] for each in follow(Hpa(chain(AT_ONCE)), [8, 2, 20])] == [4, 1, 10]


def test_each_stage_is_scaled_by_itself() -> None:
    assert follow(Hpa(chain(AT_ONCE)), [8], classify=20) == [[4, 10]]


def test_no_items_leave_one_replica() -> None:
    assert follow(Hpa(chain(AT_ONCE)), [0], classify=0) == [[1, 1]]


def test_what_runs_stays_where_the_cluster_is_full() -> None:
    autoscaler = Hpa(chain(AT_ONCE, nodes=(6,)))
    plan = autoscaler.first(1.0)
    for items in ({"detect": 8, "classify": 2}, {"detect": 8, "classify": 40}):
        plan = autoscaler.decide(seen(plan, [1], nodes=machines((6,)), ongoing=items))
    assert counts(plan) == [4, 2]


def test_replicas_have_the_threads_that_were_chosen() -> None:
    assert shape(Hpa(chain({"threads": 4, "batch": 1})).first(20.0)) == [(2, 4), (1, 4)]


def test_batches_take_at_most_half_of_the_stages_part_of_the_slo() -> None:
    planned = Hpa(chain(slo_ms=3000.0)).first(1.0).stages
    # l(1) is 176 and 70 ms, so the parts are 2143 and 857 ms; 735 and 181 ms are batches of 4 and 1480 one of 8.
    assert planned["detect"].variants["only"].batch == 4
    assert planned["classify"].variants["only"].batch == 8
    assert Hpa(chain({"batch": 64})).first(1.0).stages["detect"].variants["only"].batch == 8


def test_the_same_answer_is_the_same_plan() -> None:
    autoscaler = Hpa(chain(AT_ONCE))
    plan = autoscaler.first(1.0)
    assert autoscaler.decide(seen(plan, [1], ongoing={"detect": 2, "classify": 2})) is plan


@settings(max_examples=30, deadline=None)
@given(
    ongoing=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=15),
    cores=st.lists(st.integers(2, 12), min_size=1, max_size=3),
    style=st.sampled_from(["ray", "kubernetes"]),
    threads=st.integers(1, 2),
)
def test_whatever_waits_plans_are_valid_and_fit_the_nodes(
    ongoing: list[tuple[int, int]], cores: list[int], style: str, threads: int
) -> None:
    threads = min(threads, sum(cores) // 2, max(1, min(cores) // 2))
    setting = chain({**AT_ONCE, "style": style, "threads": threads}, nodes=cores)
    autoscaler = Hpa(setting)
    plan = autoscaler.first(5.0)
    assert broken(plan, setting, cores) == []
    for tick, (detect, classify) in enumerate(ongoing, 1):
        now = tick * autoscaler.tick_s
        items = {"detect": detect, "classify": classify}
        plan = autoscaler.decide(seen(plan, [5], nodes=machines(cores), now=now, ongoing=items))
        assert broken(plan, setting, cores) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "knative"}, "policy.options.style: is 'knative', but must be `ray` or `kubernetes`"),
        ({"target": 0.0}, "policy.options.target: is 0.0, but must be a number above 0"),
        ({"upscale_delay": 3}, "hpa has no such option; do you mean `upscale_delay_s`"),
        ({"tolerance": 1.0}, "policy.options.tolerance: is 1.0, but must be a part of the target"),
        (
            {"threads": 33},
            "policy.options.threads: is 33, but a replica does not span nodes, and none has more than 32",
        ),
    ],
)
def test_wrong_options_are_named_with_their_rule(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Hpa(chain(options))


def test_a_plan_whose_path_alone_is_longer_than_the_objective_says_so() -> None:
    assert Hpa(chain(slo_ms=260.0)).first(1.0).feasible
    plan = Hpa(chain(slo_ms=240.0)).first(1.0)
    assert not plan.feasible
    assert plan.reason.startswith(
        "the most accurate variants, which hpa runs, take 247 ms on 1 + 1 cores, and the objective is 240 ms"
    )
