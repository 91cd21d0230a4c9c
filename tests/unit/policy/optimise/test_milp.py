"""The exact search: splits opened one by one or in boxes, gaps, limits, and wider lanes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from triscale.core.graph import Graph
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.policy.optimise import Problem, Settings, solve
from triscale.policy.optimise.compiled import compiled
from triscale.policy.optimise.greedy import best_mix, hulls_of, most_served
from triscale.policy.optimise.milp import search
from triscale.testing.builders import pipeline, stage, variant

Example = Callable[..., Problem]
CAR = "traffic_analysis/car_branch.yaml"


@pytest.mark.parametrize("rule", [Settings(wait="half_slo", utilisation=1.0, gap=0.0), Settings(gap=0.0)])
@pytest.mark.parametrize("goal", ["accuracy", "served"])
def test_boxes_of_splits_lead_to_the_same_optimum_as_a_list(example: Example, rule: Settings, goal: str) -> None:
    world = example(CAR, 6, rule).at(150.0 if goal == "accuracy" else 1500.0)
    listed = search(world, goal)  # type: ignore[arg-type]
    compiled(world).complete = False
    boxed = search(world, goal)  # type: ignore[arg-type]
    assert boxed.value == pytest.approx(listed.value, abs=1e-9)
    assert boxed.gap == pytest.approx(0.0, abs=1e-6)


def test_the_gap_is_proven(example: Example, loki: Settings) -> None:
    world = example(CAR, 18).at(513)
    best = search(replace(world, settings=replace(loki, gap=0.0)), "accuracy")
    rough = search(replace(world, settings=replace(loki, gap=0.02)), "accuracy")
    assert rough.subproblems < best.subproblems
    assert rough.value <= best.value <= rough.bound + 1e-9
    assert rough.gap <= 0.02


def test_a_search_without_time_returns_what_it_was_given(example: Example) -> None:
    world = example(CAR, 18).at(513)
    start = best_mix(world)
    found = search(world, "accuracy", start=start, stop_at=0.0, clock=lambda: 1.0)
    assert found.decision is start
    assert 0.0 < found.gap < 0.05
    nothing = search(world, "accuracy", stop_at=0.0, clock=lambda: 1.0)
    assert nothing.decision is None
    assert nothing.gap == math.inf


def test_where_nothing_is_fast_enough_nothing_is_searched(example: Example) -> None:
    world = example(CAR, 18, Settings(wait="half_slo", utilisation=1.0, hop_s=0.2)).at(5)
    assert search(world, "accuracy").decision is None


def test_the_greedy_mix_is_within_three_percent(example: Example) -> None:
    for demand in (250, 400, 513, 600, 800, 1000, 1500):
        world = example(CAR, 18).at(demand)
        mix = best_mix(world)
        assert mix is not None
        assert mix.accuracy >= 0.97 * solve(world).accuracy


def test_hulls_rise_in_cost_and_accuracy(example: Example) -> None:
    hulls = hulls_of(example(CAR, 18).at(100))
    assert hulls
    for hull in hulls:
        assert list(hull.cost) == sorted(hull.cost)
        assert list(hull.accuracy) == sorted(hull.accuracy)
        assert hull.mix(0.0) == ()
        assert hull.value(0.0) == -1.0
        assert hull.mix(1e9) == ((hull.rows[-1], 1.0),)
        assert hull.value(1e9) == hull.accuracy[-1]


def test_the_greedy_overload_keeps_the_accuracy_floor(example: Example, loki: Settings) -> None:
    world = example(CAR, 18, replace(loki, min_accuracy=0.8)).at(2000)
    served = most_served(world)
    assert served is not None
    assert served.accuracy / served.served >= 0.8 - 1e-9
    exact = search(world, "served")
    assert exact.decision is not None
    assert exact.decision.served >= served.served - 1e-9


def wide(threads: dict[int, float], slo_ms: float = 100.0) -> tuple[Graph, Profile]:
    """One stage whose only variant takes `threads[t]` seconds on t threads."""
    spec = pipeline(slo_ms, only=stage(variant("v", 10.0, max_batch=1), variant("w", 10.0, accuracy=0.5, max_batch=1)))
    points = tuple(LatencyPoint(batch=1, threads=t, p50_s=s, p95_s=s, p99_s=s) for t, s in threads.items())
    measured = {"v": VariantProfile(latency=points), "w": VariantProfile(latency=points)}
    return Graph.of(spec), Profile(pipeline="test", stages={"only": measured})


def test_threads_are_raised_only_where_the_slo_needs_it() -> None:
    settings = Settings(wait="none", utilisation=1.0)
    graph, profile = wide({1: 0.08, 2: 0.05, 4: 0.03})
    narrow = solve(Problem.of(graph, profile, 100.0, 32, settings), "milp")
    assert narrow.stages["only"].variants["v"].threads == 1
    graph, profile = wide({1: 0.08, 2: 0.05, 4: 0.03}, slo_ms=60.0)
    faster = solve(Problem.of(graph, profile, 100.0, 32, settings), "milp")
    assert faster.stages["only"].variants["v"].threads == 2


def test_a_variant_runs_with_one_number_of_threads() -> None:
    # Two threads are more than twice as fast here, so that mixing widths would fill the nine cores best.
    graph, profile = wide({1: 0.08, 2: 0.035})
    world = Problem.of(graph, profile, 125.0, 9, Settings(wait="none", utilisation=1.0, gap=0.0))
    plan = solve(world)
    used = plan.stages["only"].variants
    assert {name: (mine.threads, mine.lanes) for name, mine in used.items()} == {"v": (2, 4), "w": (1, 1)}
    assert plan.accuracy == pytest.approx(1.0 - 0.5 * (1.0 - 4 / 0.035 / 125.0), abs=1e-5)
