"""Paths of variants: which are run, and what their scores say of each variant."""

from __future__ import annotations

import math

import pytest

from triscale.core.graph import Graph
from triscale.core.profile import PathAccuracy, VariantProfile, inline_profile
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.ways import way_accuracy
from triscale.profiler.paths import (
    Way,
    reference_of,
    scope,
    stated_accuracy,
    variant_accuracies,
    ways_to_run,
)
from triscale.testing.builders import pipeline, stage, variant

CHAIN = Graph.of(
    pipeline(
        a=stage(variant("small", 1.0, accuracy=0.8), variant("big", 2.0, accuracy=0.9)),
        b=stage(variant("only", 1.0, accuracy=1.0), after="a"),
        c=stage(variant("big", 2.0, accuracy=0.95), variant("small", 1.0, accuracy=0.7), after="b"),
    )
)
TREE = Graph.of(
    pipeline(
        a=stage(variant("x", 1.0, accuracy=0.9), variant("y", 1.0, accuracy=0.8)),
        b=stage(variant("x", 1.0, accuracy=0.95), variant("y", 1.0, accuracy=0.6), after="a"),
        c=stage(variant("x", 1.0, accuracy=0.9), after="a"),
    )
)
WIDE = Graph.of(
    pipeline(
        a=stage(*(variant(f"v{i}", 1.0, accuracy=0.5 + i / 100) for i in range(9))),
        b=stage(*(variant(f"v{i}", 1.0, accuracy=0.9 - i / 100) for i in range(9)), after="a"),
    )
)


def test_the_reference_is_what_the_file_calls_most_accurate() -> None:
    assert reference_of(CHAIN) == (1, 0, 0)


def test_few_paths_are_all_run_and_of_many_those_one_step_from_the_reference() -> None:
    assert sorted(ways_to_run(CHAIN)) == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]
    many = ways_to_run(WIDE)
    assert len(many) == 1 + 8 + 8
    assert many[0] == reference_of(WIDE) == (8, 0)
    assert all(sum(v != r for v, r in zip(way, many[0], strict=True)) <= 1 for way in many)


def test_the_scope_of_a_stage_is_what_decides_about_its_items() -> None:
    assert [scope(TREE, s) for s in range(3)] == [(0,), (0, 1), (0, 2)]


def planned(graph: Graph, measured: dict[Way, float], *, paths: bool = False) -> dict[Way, float]:
    """What the planner says of every path with the derived accuracies (and, if asked, the measured paths)."""
    own = variant_accuracies(graph, measured)
    profile = inline_profile(graph.pipeline)
    assert profile is not None
    stages = {
        name: {
            v: VariantProfile(latency=profile.stages[name][v].latency, accuracy=own[s][i])
            for i, v in enumerate(graph.variants[s])
        }
        for s, name in enumerate(graph.stages)
    }
    found = tuple(
        PathAccuracy(
            variants={name: graph.variants[s][way[s]] for s, name in enumerate(graph.stages)}, accuracy=accuracy
        )
        for way, accuracy in measured.items()
    )
    changed = type(profile)(pipeline="test", stages=stages, paths=found if paths else ())
    problem = Problem.of(graph, changed, 1.0, 8)
    return {way: way_accuracy(problem, way) for way in measured}


@pytest.mark.parametrize("graph", [CHAIN, TREE, WIDE], ids=["chain", "tree", "wide"])
def test_the_planners_product_is_right_for_the_reference_and_one_step_from_it(graph: Graph) -> None:
    reference = reference_of(graph)
    # A world in which stages' mistakes overlap: better than the product says.
    measured = {way: stated_accuracy(graph, way) ** 0.8 for way in ways_to_run(graph)}
    for way, accuracy in planned(graph, measured).items():
        if sum(v != r for v, r in zip(way, reference, strict=True)) <= 1:
            assert accuracy == pytest.approx(measured[way], abs=1e-4)


def test_measured_paths_are_planned_with_as_measured() -> None:
    measured = {way: 0.5 + 0.1 * sum(way) for way in ways_to_run(CHAIN)}
    assert planned(CHAIN, measured, paths=True) == pytest.approx(measured)


def test_the_loss_is_divided_as_the_file_divides_it() -> None:
    measured = dict.fromkeys(ways_to_run(CHAIN), 0.7)
    own = variant_accuracies(CHAIN, measured)
    a, b, c = own[0][1], own[1][0], own[2][0]
    assert a is not None
    assert c is not None
    assert b == 1.0, "a stage that loses nothing by the file loses nothing"
    assert a * c == pytest.approx(0.7, abs=1e-4)
    assert math.log(a) / math.log(c) == pytest.approx(math.log(0.9) / math.log(0.95), rel=1e-3)


def test_where_the_file_states_no_loss_the_stages_share_it() -> None:
    graph = Graph.of(pipeline(a=stage(variant("x", 1.0)), b=stage(variant("x", 1.0), after="a")))
    assert variant_accuracies(graph, {(0, 0): 0.81}) == [[0.9], [0.9]]


def test_a_pipeline_that_never_errs_has_variants_that_never_err() -> None:
    assert variant_accuracies(CHAIN, dict.fromkeys(ways_to_run(CHAIN), 1.0)) == [[1.0, 1.0], [1.0], [1.0, 1.0]]


def test_a_variant_that_beats_the_reference_is_not_called_better_than_perfect() -> None:
    measured: dict[Way, float] = {(1, 0, 0): 0.9, (0, 0, 0): 1.0, (1, 0, 1): 0.5, (0, 0, 1): 0.5}
    own = variant_accuracies(CHAIN, measured)
    assert own[0][0] == 1.0


def test_where_the_reference_never_scores_nothing_is_derived() -> None:
    assert variant_accuracies(CHAIN, dict.fromkeys(ways_to_run(CHAIN), 0.0)) == [[None, None], [None], [None, None]]
