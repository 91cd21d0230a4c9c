"""The ceiling is what the most accurate variants carry: the mark that a load is measured against."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.policy.autoscalers.ceiling import ceiling_of
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.pooled import PooledPlanner
from triscale.policy.optimise.settings import Settings
from triscale.testing.builders import pipeline, stage, variant

TWO = pipeline(
    400.0,
    detect=stage(variant("large", 40.0, accuracy=0.9), variant("small", 10.0, accuracy=0.6)),
    read=stage(variant("only", 10.0), after="detect"),
)
UTILISATION = 0.97


def planner(of: Pipeline = TWO, cores: int = 2) -> PooledPlanner:
    profile = inline_profile(of)
    assert profile is not None
    setting = Setting(graph=Graph.of(of), profile=profile, nodes=(Node(id=NodeId("n"), cores=cores),))
    return PooledPlanner(setting, Settings(sharing="shared", utilisation=UTILISATION))


def test_the_capacity_is_what_the_cores_time_allows() -> None:
    ceiling = ceiling_of(planner(), 2)
    assert ceiling is not None
    assert ceiling.variants == {"detect": "large", "read": "only"}
    assert ceiling.accuracy == pytest.approx(0.9)
    # 50 ms of a core for each request, two cores, 97 % of their time.
    assert ceiling.capacity_per_s == pytest.approx(UTILISATION * 2 / 0.050, rel=0.02)


def test_random_arrivals_meet_the_slo_only_below_the_capacity() -> None:
    made = planner()
    ceiling = ceiling_of(made, 2)
    assert ceiling is not None
    assert 0.5 * ceiling.capacity_per_s < ceiling.within_slo_per_s < ceiling.capacity_per_s
    assert made.plan(0.98 * ceiling.within_slo_per_s, 2).accuracy == pytest.approx(0.9)
    assert made.plan(1.05 * ceiling.within_slo_per_s, 2).accuracy < 0.9


def test_more_cores_carry_more_in_proportion_at_least() -> None:
    few, many = ceiling_of(planner(cores=2), 2), ceiling_of(planner(cores=8), 8)
    assert few is not None
    assert many is not None
    assert many.capacity_per_s == pytest.approx(4.0 * few.capacity_per_s, rel=0.02)
    assert many.within_slo_per_s > 4.0 * few.within_slo_per_s


def test_variants_that_cannot_meet_the_slo_are_not_the_most_accurate_ones_that_can() -> None:
    ceiling = ceiling_of(planner(replace(TWO, slo_ms=45.0)), 2)
    assert ceiling is not None
    assert ceiling.variants["detect"] == "small"
    assert ceiling.accuracy == pytest.approx(0.6)


def test_there_is_none_where_nothing_meets_the_slo() -> None:
    assert ceiling_of(planner(replace(TWO, slo_ms=5.0)), 2) is None
