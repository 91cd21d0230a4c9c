from __future__ import annotations

import pytest
from msgspec.structs import replace

from triscale.app.ceiling import Yardstick
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Policy
from triscale.core.profile import inline_profile
from triscale.errors import ConfigError
from triscale.testing.builders import pipeline, stage, variant

TWO = pipeline(
    400.0,
    detect=stage(variant("large", 40.0, accuracy=0.9), variant("small", 10.0, accuracy=0.6)),
    read=stage(variant("only", 10.0), after="detect"),
)


def yardstick(of: Pipeline = TWO, policy: Policy | None = None) -> Yardstick:
    profile = inline_profile(of)
    assert profile is not None
    return Yardstick(Graph.of(of), profile, (Node(id=NodeId("n"), cores=2),), policy or Policy())


def test_beyond_the_ceiling_accuracy_falls_and_then_requests_are_lost() -> None:
    measure = yardstick()
    ceiling = measure.ceiling()
    assert ceiling is not None
    assert measure.at(0.5 * ceiling.within_slo_per_s).accuracy == pytest.approx(ceiling.accuracy)
    surge = measure.at(1.5 * ceiling.capacity_per_s)
    assert 0.6 < surge.accuracy < ceiling.accuracy
    assert surge.served_fraction == 1.0
    flood = measure.at(10.0 * ceiling.capacity_per_s)
    assert flood.accuracy == pytest.approx(0.6)
    assert flood.served_fraction < 0.5


def test_a_slower_machine_leaves_less_and_is_forgotten_afterwards() -> None:
    measure = yardstick()
    drift = {("detect", "large"): 2.0, ("detect", "small"): 2.0, ("read", "only"): 2.0}
    assert measure.at(30.0, drift).accuracy < measure.at(30.0).accuracy
    before = measure.ceiling()
    measure.at(30.0, drift)
    assert measure.ceiling() == before


def test_what_the_server_itself_costs_counts_where_models_are_small() -> None:
    tiny = pipeline(400.0, detect=stage(variant("quick", 0.05)))
    ceiling = yardstick(tiny).ceiling()
    assert ceiling is not None
    assert ceiling.capacity_per_s < 0.5 * 2 / 0.00005
    assert ceiling.within_slo_per_s <= ceiling.capacity_per_s


def test_the_policys_own_options_hold() -> None:
    busy = yardstick(policy=Policy(name="triscale", options={"utilisation": 0.5})).ceiling()
    usual = yardstick(policy=Policy(name="triscale")).ceiling()
    assert busy is not None
    assert usual is not None
    assert busy.capacity_per_s == pytest.approx(usual.capacity_per_s * 0.5 / 0.97, rel=0.03)
    assert yardstick(policy=Policy(name="hpa", options={"target": 2.0})).ceiling() == usual
    with pytest.raises(ConfigError, match=r"policy\.options\.speed: triscale has no such option"):
        yardstick(policy=Policy(name="triscale", options={"speed": 1}))


def test_there_is_no_ceiling_where_nothing_meets_the_slo() -> None:
    assert yardstick(replace(TWO, slo_ms=5.0)).ceiling() is None
