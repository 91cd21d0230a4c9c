"""FA2 adds one-core replicas at once and takes them away late."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.autoscalers.chains import VIDEO, broken, chain, drive, shape
from triscale.core.graph import Graph
from triscale.errors import ConfigError
from triscale.policy.autoscalers.horizontal import Horizontal

PAPER = {"models": VIDEO, "window_s": 1.0, "stabilisation": 5}


@pytest.mark.parametrize(("rate", "expected"), [(5, [1, 1]), (15, [3, 2]), (20, [4, 2]), (39, [8, 3]), (62, [13, 4])])
def test_the_plan_is_the_papers(rate: int, expected: list[int]) -> None:
    assert shape(Horizontal(chain(PAPER)).first(float(rate))) == [(count, 1) for count in expected]


def test_more_load_is_met_at_once_by_more_single_cores() -> None:
    autoscaler = Horizontal(chain(PAPER))
    plan = drive(autoscaler, autoscaler.first(5.0), [5, 39])[-1]
    assert shape(plan) == [(8, 1), (3, 1)]
    assert plan.feasible


def test_replicas_go_only_after_the_ticks_without_growth() -> None:
    autoscaler = Horizontal(chain(PAPER))
    plans = drive(autoscaler, autoscaler.first(39.0), [15] * 7)
    assert [shape(plan) for plan in plans] == [[(8, 1), (3, 1)]] * 5 + [[(3, 1), (2, 1)]] * 2


def test_growth_starts_the_wait_anew() -> None:
    autoscaler = Horizontal(chain(PAPER))
    plans = drive(autoscaler, autoscaler.first(39.0), [15, 15, 15, 62, 15, 15, 15, 15, 15, 15])
    assert [shape(plan)[0][0] for plan in plans] == [8, 8, 8, 13, 13, 13, 13, 13, 13, 3]


def test_more_load_than_the_cluster_carries_is_met_with_the_whole_of_it() -> None:
    setting = chain(PAPER, nodes=(12,))
    autoscaler = Horizontal(setting)
    plan = drive(autoscaler, autoscaler.first(5.0), [500], cores=(12,))[-1]
    assert broken(plan, setting, (12,)) == []
    assert not plan.feasible
    assert plan.cores >= 11
    assert plan.capacity >= 39


def test_an_slo_out_of_reach_gives_a_plan_and_no_error() -> None:
    setting = chain({"models": VIDEO}, slo_ms=100.0)
    autoscaler = Horizontal(setting)
    for plan in drive(autoscaler, autoscaler.first(5.0), [5, 50, 0]):
        assert broken(plan, setting) == []


@settings(max_examples=30, deadline=None)
@given(
    arrivals=st.lists(st.integers(0, 200), min_size=1, max_size=20),
    cores=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    revision=st.sampled_from([2024, 2025]),
)
def test_whatever_arrives_plans_are_single_cores_that_fit(arrivals: list[int], cores: list[int], revision: int) -> None:
    setting = chain({"revision": revision, "stabilisation": 2}, nodes=cores)
    autoscaler = Horizontal(setting)
    for plan in drive(autoscaler, autoscaler.first(1.0), arrivals, cores=cores):
        assert broken(plan, setting, cores) == []
        assert all(each == 1 for _, each in shape(plan))


def test_a_stage_has_no_fewer_and_no_more_replicas_than_its_pipeline_file_says() -> None:
    setting = chain(PAPER)
    stages = dict(setting.graph.pipeline.stages)
    stages["detect"] = msgspec.structs.replace(stages["detect"], max_replicas=4)
    stages["classify"] = msgspec.structs.replace(stages["classify"], min_replicas=3)
    bounded = replace(setting, graph=Graph.of(msgspec.structs.replace(setting.graph.pipeline, stages=stages)))
    assert shape(Horizontal(bounded).first(5.0)) == [(1, 1), (3, 1)]
    crowded = Horizontal(bounded).first(39.0)
    assert shape(crowded) == [(4, 1), (3, 1)]
    assert not crowded.feasible


def test_options_of_others_are_refused() -> None:
    with pytest.raises(ConfigError, match="forecaster: horizontal has no such option"):
        Horizontal(chain({"forecaster": "holt"}))
