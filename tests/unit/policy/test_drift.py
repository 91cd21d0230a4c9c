"""Measured drift: what was observed is believed, and what was not follows it."""

from __future__ import annotations

import math

import pytest

from triscale.core.graph import Graph
from triscale.core.profile import inline_profile
from triscale.policy.drift import SteadyDrift, measured_drift
from triscale.policy.latency import ServiceTimes
from triscale.policy.learned import LearnedTimes
from triscale.policy.optimise.problem import Problem
from triscale.testing.builders import pipeline, stage, variant

PIPELINE = pipeline(
    a=stage(variant("big", 20.0, accuracy=0.9), variant("small", 5.0, accuracy=0.5)),
    b=stage(variant("one", 8.0), variant("two", 4.0), after="a"),
)
GRAPH = Graph.of(PIPELINE)
PROFILE = inline_profile(PIPELINE)
assert PROFILE is not None


def models() -> list[list[ServiceTimes]]:
    assert PROFILE is not None
    return [
        [ServiceTimes(PROFILE.stages[name][v], max_batch=8) for v in names]
        for name, names in zip(GRAPH.stages, GRAPH.variants, strict=True)
    ]


def slow(model: ServiceTimes, factor: float, batches: int = 200) -> None:
    for _ in range(batches):
        model.observe(1, factor * model.typical(1) / model.drift)


def test_before_the_first_batch_nothing_is_known() -> None:
    assert measured_drift(GRAPH, models()) == {}


def test_what_was_observed_is_what_is_told() -> None:
    those = models()
    slow(those[0][0], 3.0)
    slow(those[0][1], 1.5)
    found = measured_drift(GRAPH, those)
    assert found["a", "big"] == pytest.approx(3.0, rel=0.01)
    assert found["a", "small"] == pytest.approx(1.5, rel=0.01)


def test_an_idle_variant_follows_its_stage_and_an_idle_stage_the_pipeline() -> None:
    those = models()
    slow(those[0][0], 2.0)
    slow(those[1][0], 3.0)
    found = measured_drift(GRAPH, those)
    assert found["a", "small"] == pytest.approx(2.0, rel=0.01), "not the 3 of the other stage"
    assert found["b", "two"] == pytest.approx(3.0, rel=0.01)
    alone = models()
    slow(alone[0][0], 2.0)
    assert measured_drift(GRAPH, alone)["b", "one"] == pytest.approx(2.0, rel=0.01)


def test_a_variant_that_has_learned_half_borrows_the_other_half() -> None:
    those = models()
    slow(those[0][0], 2.0)
    slow(those[0][1], 2.0, batches=8)
    assert those[0][1].drift < 1.5
    assert measured_drift(GRAPH, those)["a", "small"] == pytest.approx(2.0, rel=0.05)


def test_one_stalled_batch_moves_nothing_by_more_than_a_tenth() -> None:
    those = models()
    those[0][0].observe(1, 60.0)
    assert all(0.9 < factor < 1.1 for factor in measured_drift(GRAPH, those).values())


def test_own_and_borrowed_drift_together_stay_within_the_bounds_of_one_model() -> None:
    those = models()
    slow(those[0][0], 100.0)
    slow(those[0][1], 100.0, batches=20)
    assert max(measured_drift(GRAPH, those).values()) <= 4.0 + 1e-9


def test_models_without_a_profile_have_no_drift() -> None:
    those: list[list[object]] = [list(row) for row in models()]
    those[1] = [LearnedTimes(), LearnedTimes()]
    slow(those[0][0], 2.0)  # type: ignore[arg-type]
    assert set(measured_drift(GRAPH, those)) == {("a", "big"), ("a", "small")}


def test_the_planner_plans_with_it() -> None:
    assert PROFILE is not None
    those = models()
    slow(those[0][0], 3.0)
    as_profiled = Problem.of(GRAPH, PROFILE, 10.0, 4)
    drifted = Problem.of(GRAPH, PROFILE, 10.0, 4, drift=measured_drift(GRAPH, those))
    before, after = as_profiled.choices[0][0].points[0], drifted.choices[0][0].points[0]
    assert after.service_s == pytest.approx(3.0 * before.service_s, rel=0.02)


KEY = ("a", "big")


def test_plans_see_the_first_drift_as_it_is_and_later_ones_on_average() -> None:
    it = SteadyDrift(2.0)
    assert it.update({KEY: 2.0}, 10.0) == {KEY: pytest.approx(2.0)}
    # After one time constant all but 1/e of the way is gone, in the logarithm.
    assert it.update({KEY: 1.0}, 12.0)[KEY] == pytest.approx(2.0 ** (1.0 / math.e))
    assert it.update({}, 40.0)[KEY] == pytest.approx(1.0, abs=1e-5), "what is left out has not moved"


def test_a_hiccup_of_the_machine_hardly_moves_what_plans_see() -> None:
    it = SteadyDrift(2.0)
    it.update({KEY: 1.0}, 0.0)
    seen = [it.update({KEY: 2.0 if tick % 20 == 0 else 1.0}, tick / 10.0)[KEY] for tick in range(1, 200)]
    assert max(seen) < 1.1
