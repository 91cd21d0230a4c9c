"""Lanes into replicas and replicas onto nodes; splits of the SLO; ways through graphs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.policy.optimise import Problem, ReplicaBounds, Settings
from triscale.policy.optimise.budgets import Box, Splitter, fastest_path_s
from triscale.policy.optimise.decision import Decision, Pooled
from triscale.policy.optimise.place import fits, place
from triscale.policy.optimise.ways import MOST_WAYS, joined, routes, visits_of, ways_of
from triscale.testing.builders import pipeline, stage, variant


def problem(spec: Pipeline, nodes: list[Node] | int = 8, settings: Settings | None = None) -> Problem:
    profile = inline_profile(spec)
    assert profile is not None
    return Problem.of(Graph.of(spec), profile, 10.0, nodes, settings or Settings(wait="none", utilisation=1.0))


def one_stage(nodes: list[int], settings: Settings | None = None) -> Problem:
    machines = [Node(id=NodeId(f"n{i}"), cores=cores) for i, cores in enumerate(nodes)]
    return problem(pipeline(1000.0, only=stage(variant("v", 10.0))), machines, settings)


def lanes(world: Problem, count: int) -> Decision:
    point = world.choices[0][0].points[0]
    return Decision({(0, 0): Pooled(point, count, 1.0)}, (((0,), 1.0),), 1.0)


class TestPlace:
    def test_a_pool_goes_to_as_few_nodes_as_hold_it(self) -> None:
        world = one_stage([4, 8, 2])
        assert place(world, lanes(world, 7)) == {(0, 0): ((1, 7),)}
        assert place(world, lanes(world, 11)) == {(0, 0): ((1, 8), (0, 3))}

    def test_what_does_not_fit_is_not_placed(self) -> None:
        world = one_stage([4, 8, 2])
        assert place(world, lanes(world, 15)) is None
        assert not fits(world, lanes(world, 15))

    def test_small_replicas(self) -> None:
        world = one_stage([4], Settings(wait="none", replica_cores=2))
        assert place(world, lanes(world, 4)) == {(0, 0): ((0, 2), (0, 2))}

    def test_a_replica_is_split_where_more_are_asked_for(self) -> None:
        world = one_stage([8], Settings(wait="none", replicas={"only": ReplicaBounds(3)}))
        placed = place(world, lanes(world, 8))
        assert placed is not None
        assert sorted(count for _, count in placed[0, 0]) == [2, 2, 4]
        assert place(world, lanes(world, 2)) is None

    def test_more_replicas_than_allowed(self) -> None:
        world = one_stage([4, 4], Settings(wait="none", replicas={"only": ReplicaBounds(1, 1)}))
        assert place(world, lanes(world, 4)) is not None
        assert place(world, lanes(world, 5)) is None


def diamond(join: str = "each") -> Pipeline:
    return pipeline(
        1000.0,
        a=stage(variant("a0", 10.0, fan_out={"b": 2.0, "c": 3.0}), variant("a1", 5.0, accuracy=0.5)),
        b=stage(variant("b0", 10.0, fan_out={"d": 2.0}), after="a"),
        c=stage(variant("c0", 20.0, accuracy=0.8), after="a"),
        d=stage(variant("d0", 10.0), after=("b", "c"), join=join),  # type: ignore[arg-type]
    )


class TestWays:
    def test_every_item_of_every_branch_is_counted_once(self) -> None:
        world = problem(diamond())
        assert visits_of(world, (0, 0, 0, 0)) == [1.0, 2.0, 3.0, 7.0]
        ways = ways_of(world)
        assert ways.visits.tolist() == [[1, 2, 3, 7], [1, 1, 1, 3]]
        assert ways_of(problem(diamond("all"))).visits.tolist() == [[1, 2, 3, 1], [1, 1, 1, 1]]

    def test_accuracy_is_the_mean_of_the_routes(self) -> None:
        world = problem(diamond())
        assert routes(world.graph) == ((0, 1, 3), (0, 2, 3))
        assert ways_of(world).accuracy.tolist() == pytest.approx([0.9, 0.45])

    def test_stages_behind_a_join_have_more_than_one_past(self) -> None:
        assert joined(problem(diamond()).graph) == {3}

    def test_too_many_ways_are_thinned_to_the_useful_ones(self) -> None:
        count = 15
        many = [variant(f"v{i}", 10.0 + i, accuracy=0.5 + 0.02 * i) for i in range(count)]
        many.append(variant("useless", 100.0, accuracy=0.5))
        spec = Pipeline(
            name="p",
            slo_ms=10_000.0,
            stages={f"s{i}": stage(*many, after=(f"s{i - 1}",) if i else ()) for i in range(4)},
        )
        ways = ways_of(problem(spec))
        assert len(ways) <= MOST_WAYS
        for position in range(4):
            kept = set(ways.variants[:, position].tolist())
            assert {0, count - 1} <= kept
            assert count not in kept


class TestSplits:
    def world(self) -> Problem:
        return problem(
            pipeline(
                100.0,
                a=stage(variant("a0", {1: 10.0, 4: 20.0}), variant("a1", {1: 30.0}, max_batch=1)),
                b=stage(variant("b0", {1: 25.0, 4: 40.0}), after="a"),
            )
        )

    def test_each_step_of_the_first_stage_leaves_the_rest_to_the_second(self) -> None:
        world = self.world()
        splits = Splitter(world).listed(100)
        assert np.round(splits * 1000.0, 3).tolist() == [[10.0, 90.0], [13.333, 86.667], [20.0, 80.0], [30.0, 70.0]]
        assert fastest_path_s(world) == pytest.approx(0.035)

    def test_a_box_gives_no_stage_less_than_any_split_in_it(self) -> None:
        splitter = Splitter(self.world())
        root = splitter.root()
        (whole,) = splitter.budgets([root]).tolist()
        open_boxes: list[Box] = [root]
        singles: list[Box] = []
        while open_boxes:
            for half in open_boxes.pop().halves():
                (singles if half.single else open_boxes).append(half)
        assert len(singles) == splitter.count
        for budgets in splitter.budgets(singles).tolist():
            assert all(mine <= bound + 1e-12 or math.isnan(mine) for mine, bound in zip(budgets, whole, strict=True))

    def test_long_lists_are_thinned_from_both_ends(self) -> None:
        latencies = {2**i: 5.0 * 1.3**i for i in range(8)}
        spec = pipeline(500.0, a=stage(variant("v", latencies, max_batch=128)), b=stage(variant("w", 1.0), after="a"))
        splitter = Splitter(problem(spec))
        every, some = splitter.listed(1000), splitter.listed(4)
        assert len(some) <= 4 < len(every)
        assert some[0].tolist() == every[0].tolist()
        assert some[-1].tolist() == every[-1].tolist()

    def test_an_slo_out_of_reach_has_no_splits(self) -> None:
        world = problem(pipeline(5.0, a=stage(variant("v", 10.0))))
        assert Splitter(world).count == 0
        assert len(Splitter(world).listed(10)) == 0
