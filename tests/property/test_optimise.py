"""The planner against brute force on small random worlds, and promises that hold for every plan.

The brute force shares only the definition with the planner: every stage has a latency budget, every variant used fits
its stage's budget, lanes are whole, and shares of ways are whatever is best (a linear program).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import highspy
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.policy.optimise import Problem, ReplicaBounds, Settings, solve
from triscale.policy.optimise.check import violations
from triscale.policy.optimise.explain import explain
from triscale.policy.optimise.milp import search

Table = npt.NDArray[np.float64]

RARELY = 1e-3
PAPER = Settings(wait="half_slo", service_quantile="p50", utilisation=1.0, gap=0.0, node_limit=100_000)
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(EXAMPLES, max_examples=20)

SHAPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "one": {"a": ()},
    "chain": {"a": (), "b": ("a",)},
    "long": {"a": (), "b": ("a",), "c": ("b",)},
    "tree": {"a": (), "b": ("a",), "c": ("a",)},
    "join": {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
}


ANY = tuple(SHAPES)


@dataclass(frozen=True)
class World:
    """A small random planning problem."""

    graph: Graph
    profile: Profile
    cores: int
    demand: float

    def problem(self, how: Settings, demand: float | None = None, slo: float | None = None) -> Problem:
        graph = self.graph
        if slo is not None:
            graph = Graph.of(Pipeline(name="w", slo_ms=slo, stages=graph.pipeline.stages))
        return Problem.of(graph, self.profile, self.demand if demand is None else demand, self.cores, how)

    def broken(self, plan_of: Problem, how: Settings) -> list[str]:
        plan = solve(plan_of)
        return violations(plan, plan_of.graph, self.profile, plan_of.nodes, how)


@st.composite
def worlds(
    draw: st.DrawFn,
    shapes: tuple[str, ...] = ("one", "chain", "tree"),
    most_variants: int = 2,
    least_variants: int = 1,
    most_cores: int = 5,
    threads: tuple[int, ...] = (1,),
) -> World:
    shape = SHAPES[draw(st.sampled_from(shapes))]
    children = {name: [c for c, above in shape.items() if name in above] for name in shape}
    stages: dict[str, Stage] = {}
    profiles: dict[str, dict[str, VariantProfile]] = {}
    for name, above in shape.items():
        variants: list[Variant] = []
        profiles[name] = {}
        for v in range(draw(st.integers(least_variants, most_variants))):
            # Later ones are mostly faster, and mostly less accurate.
            first = draw(st.integers(4, 40)) / (1.0 + v * draw(st.sampled_from([0.0, 1.0, 2.0])))
            # How much of the work of a batch is per item.
            per_item = draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
            fan_out = {c: draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0])) for c in children[name]}
            points = tuple(
                LatencyPoint(batch=b, threads=t, p50_s=s, p95_s=s, p99_s=s)
                for b in (1, 2, 4)
                for t in threads
                if (s := first / 1000.0 * (1.0 + (b - 1) * per_item) / t**0.8)
            )
            variants.append(
                Variant(
                    name=f"{name}{v}",
                    runtime="emulated",
                    accuracy=draw(st.sampled_from([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])),
                    max_batch=4,
                    latency_ms={1: float(first)},
                    fan_out=fan_out,
                )
            )
            profiles[name][f"{name}{v}"] = VariantProfile(latency=points, fan_out=fan_out)
        join: Literal["each", "all"] = draw(st.sampled_from(["each", "all"])) if len(above) > 1 else "each"
        stages[name] = Stage(variants=tuple(variants), after=above, join=join)
    pipeline = Pipeline(name="w", slo_ms=float(draw(st.sampled_from([120, 200, 400, 800]))), stages=stages)
    cores = draw(st.integers(len(shape), most_cores + len(shape) - 1))
    world = World(Graph.of(pipeline), Profile(pipeline="w", stages=profiles), cores, 1.0)
    # About as much as the most accurate variants carry: less, a little more, or far too much.
    best = tuple(accuracies.index(max(accuracies)) for accuracies in world.graph.accuracy)
    work = sum(items * latency(world, s, best[s], 1) for s, items in enumerate(visits(world, best)))
    factor = draw(st.sampled_from([0.2, 0.6, 0.9, 1.1, 1.3, 1.6, 2.0, 3.0, 8.0]))
    return replace(world, demand=factor * cores / work)


# --- the brute force ------------------------------------------------------------------------------------------------


def latency(world: World, stage: int, variant: int, batch: int) -> float:
    measured = world.profile.stages[world.graph.stages[stage]][world.graph.variants[stage][variant]]
    return next(point.p50_s for point in measured.latency if point.batch == batch and point.threads == 1)


def fits_slo(world: World, budgets: tuple[float, ...]) -> bool:
    ends: list[float] = []
    for stage, parents in enumerate(world.graph.parents):
        ends.append(max((ends[p] for p in parents), default=0.0) + 2.0 * budgets[stage])
    return max(ends) <= world.graph.pipeline.slo_s * (1.0 + 1e-9)


def rates(world: World) -> list[dict[tuple[int, int], float]]:
    """Items/s of a lane of each usable variant, for every split of the SLO that no other outdoes."""
    every = list(all_rates(world))
    return [
        mine
        for i, mine in enumerate(every)
        if not any(
            all(other.get(key, 0.0) >= rate for key, rate in mine.items()) and (other != mine or j < i)
            for j, other in enumerate(every)
            if j != i
        )
    ]


def all_rates(world: World) -> Iterator[dict[tuple[int, int], float]]:
    """The same for every split."""
    graph = world.graph
    steps = [
        sorted({latency(world, s, v, b) for v in range(len(graph.variants[s])) for b in (1, 2, 4)})
        for s in range(len(graph.stages))
    ]
    for budgets in itertools.product(*steps):
        if not fits_slo(world, budgets):
            continue
        found: dict[tuple[int, int], float] = {}
        for s, budget in enumerate(budgets):
            for v in range(len(graph.variants[s])):
                fast = [b / latency(world, s, v, b) for b in (1, 2, 4) if latency(world, s, v, b) <= budget + 1e-12]
                if fast:
                    found[s, v] = max(fast)
        yield found


def visits(world: World, way: tuple[int, ...]) -> list[float]:
    graph = world.graph
    found = [1.0] * len(way)
    for s, parents in enumerate(graph.parents):
        if s and not graph.joins[s]:
            spec = graph.pipeline.stages
            items = sum(found[p] * spec[graph.stages[p]].variants[way[p]].fan_out[graph.stages[s]] for p in parents)
            # A stage that is never reached must be there all the same.
            found[s] = max(items, RARELY)
    return found


def accuracy(world: World, way: tuple[int, ...]) -> float:
    graph = world.graph

    def below(stage: int) -> list[float]:
        mine = graph.accuracy[stage][way[stage]]
        onward = [a for child in graph.children[stage] for a in below(child)]
        return [mine * a for a in onward] or [mine]

    every = below(0)
    return sum(every) / len(every)


def behind_joins(graph: Graph) -> set[int]:
    found: set[int] = set()
    for s, parents in enumerate(graph.parents):
        if len(parents) > 1 or found & set(parents):
            found.add(s)
    return found


def best_by_force(world: World, goal: Literal["accuracy", "served"]) -> float | None:
    """The best value over all splits, lanes and shares; None where not all demand can be carried (accuracy)."""
    graph = world.graph
    single = sorted(behind_joins(graph))
    ways = list(itertools.product(*(range(len(v)) for v in graph.variants)))
    best: float | None = None
    for rate in rates(world):
        usable = [way for way in ways if all((s, v) in rate for s, v in enumerate(way))]
        for fixed in sorted({tuple(way[s] for s in single) for way in usable}):
            chosen = [way for way in usable if tuple(way[s] for s in single) == fixed]
            keys = sorted({(s, v) for way in chosen for s, v in enumerate(way)})
            for lanes in splits(world.cores, len(keys)):
                if any(
                    sum(n for n, key in zip(lanes, keys, strict=True) if key[0] == s) < 1
                    for s in range(len(graph.stages))
                ):
                    continue
                value = best_shares(world, chosen, dict(zip(keys, lanes, strict=True)), rate, goal)
                if value is not None and (best is None or value > best):
                    best = value
    return best


def splits(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to deal `total` lanes to `parts`; leaving some out gains nothing."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in splits(total - first, parts - 1):
            yield (first, *rest)


def best_shares(
    world: World,
    ways: list[tuple[int, ...]],
    lanes: dict[tuple[int, int], int],
    rate: dict[tuple[int, int], float],
    goal: Literal["accuracy", "served"],
) -> float | None:
    table = np.array([[visits(world, way)[s] if way[s] == v else 0.0 for way in ways] for s, v in lanes])
    limit = np.array([n * rate[key] / world.demand for key, n in lanes.items()])
    gain = np.array([accuracy(world, way) if goal == "accuracy" else 1.0 for way in ways])
    # All of the requests for the highest accuracy, else as many as can be.
    least = 1.0 if goal == "accuracy" else 0.0
    return maximum(gain, np.vstack([table, np.ones(len(ways))]), np.append(limit, 1.0), least)


def maximum(gain: Table, rows: Table, upper: Table, least_in_last: float) -> float | None:
    """max gain @ x with rows @ x <= upper and x >= 0, the last row not below `least_in_last`; None if infeasible."""
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(gain), len(upper)
    lp.col_cost_, lp.sense_ = gain, highspy.ObjSense.kMaximize
    lp.col_lower_, lp.col_upper_ = np.zeros(len(gain)), np.full(len(gain), highspy.kHighsInf)
    lp.row_lower_ = np.append(np.full(len(upper) - 1, -highspy.kHighsInf), least_in_last)
    lp.row_upper_ = upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    lp.a_matrix_.index_ = np.tile(np.arange(rows.shape[1], dtype=np.int32), rows.shape[0])
    lp.a_matrix_.value_ = rows.ravel()
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", "off")
    highs.passModel(lp)
    highs.run()
    optimal = highs.modelStatusToString(highs.getModelStatus()) == "Optimal"
    return float(highs.getInfo().objective_function_value) if optimal else None


def fewest_by_force(world: World, way: tuple[int, ...]) -> int | None:
    """Fewest lanes for one way, over every combination of batches."""
    items = visits(world, way)
    best: int | None = None
    for batches in itertools.product((1, 2, 4), repeat=len(way)):
        each = [latency(world, s, v, b) for s, (v, b) in enumerate(zip(way, batches, strict=True))]
        if not fits_slo(world, tuple(each)):
            continue
        lanes = sum(max(1, math.ceil(world.demand * items[s] * each[s] / batches[s] - 1e-9)) for s in range(len(way)))
        best = lanes if best is None else min(best, lanes)
    return best


# --- exactness ------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(worlds(ANY, most_variants=1, most_cores=40))
def test_the_dynamic_program_finds_the_fewest_cores(world: World) -> None:
    plan = solve(world.problem(PAPER), "dp")
    least = fewest_by_force(world, (0,) * len(world.graph.stages))
    if least is not None and least <= world.cores:
        assert plan.mode == "hardware"
        assert plan.cores == least
    else:
        assert plan.served_fraction < 1.0


@EXAMPLES
@given(worlds(("chain", "tree"), least_variants=2))
def test_the_exact_search_finds_the_highest_accuracy(world: World) -> None:
    best = best_by_force(world, "accuracy")
    plan = solve(world.problem(PAPER))
    if best is None:
        assert plan.mode == "overload"
        assert plan.served_fraction < 1.0
    else:
        assert plan.served_fraction == 1.0
        assert plan.accuracy == pytest.approx(best, abs=3e-5)


@settings(FEW, max_examples=8)
@given(worlds(("join",), most_cores=2))
def test_where_branches_meet_it_is_exact_too(world: World) -> None:
    best = best_by_force(world, "accuracy")
    plan = solve(world.problem(PAPER))
    assert (plan.served_fraction == 1.0) == (best is not None)
    if best is not None:
        assert plan.accuracy == pytest.approx(best, abs=3e-5)


@settings(FEW, max_examples=10)
@given(worlds(("long",), most_cores=3, least_variants=2))
def test_on_a_long_chain_the_shares_of_ways_are_optimal(world: World) -> None:
    best = best_by_force(world, "accuracy")
    found = search(world.problem(PAPER), "accuracy")
    assert (found.decision is None) == (best is None)
    if found.decision is not None and best is not None:
        assert found.decision.accuracy == pytest.approx(best, abs=3e-5)


@FEW
@given(worlds(most_cores=3))
def test_in_overload_it_carries_the_most_that_can_be_carried(world: World) -> None:
    plan = solve(world.problem(PAPER))
    assume(plan.mode == "overload")
    most = best_by_force(world, "served")
    assert plan.served_fraction == pytest.approx(most or 0.0, abs=3e-5)


# --- promises of every plan -----------------------------------------------------------------------------------------

RULES: tuple[Settings, ...] = (
    PAPER,
    Settings(),
    Settings(wait="none", min_accuracy=0.6),
    Settings(replicas={"a": ReplicaBounds(2, 3)}, replica_cores=2),
    Settings(sharing="shared"),
    Settings(wait="half_slo", sharing="shared"),
)


@EXAMPLES
@given(
    worlds(ANY, 3, most_cores=12, threads=(1, 2, 4)),
    st.sampled_from(RULES),
    st.sampled_from(["auto", "milp", "greedy", "dp"]),
)
def test_every_plan_keeps_its_own_constraints(
    world: World, how: Settings, solver: Literal["auto", "milp", "greedy", "dp"]
) -> None:
    problem = world.problem(how)
    plan = solve(problem, solver)
    assert violations(plan, world.graph, world.profile, problem.nodes, how) == []
    assert plan.reason
    assert plan.feasible == (plan.served_fraction == 1.0)


@EXAMPLES
@given(
    worlds(ANY, most_cores=12, threads=(1, 2)),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_lanes_do_not_span_nodes_and_models_fit_their_memory(world: World, sizes: list[int], memory_units: int) -> None:
    nodes = [Node(id=NodeId(f"n{i}"), cores=c, memory_bytes=memory_units * 10) for i, c in enumerate(sizes)]
    stages = {
        stage: {
            name: VariantProfile(latency=mine.latency, fan_out=mine.fan_out, memory_bytes=10)
            for name, mine in variants.items()
        }
        for stage, variants in world.profile.stages.items()
    }
    profile = Profile(pipeline="w", stages=stages)
    quick = replace(PAPER, node_limit=1000)
    plan = solve(Problem.of(world.graph, profile, world.demand, nodes, quick))
    assert violations(plan, world.graph, profile, nodes, quick) == []


@EXAMPLES
@given(
    worlds(ANY, most_cores=12, threads=(1, 2)),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=3),
    st.integers(0, 1),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_gpus_and_the_pipeline_s_replica_bounds_are_kept_together(
    world: World, sizes: list[tuple[int, int]], gpus: int, least: int, more: int
) -> None:
    nodes = [Node(id=NodeId(f"n{i}"), cores=cores, gpus=devices) for i, (cores, devices) in enumerate(sizes)]
    spec = world.graph.pipeline
    root = spec.stages["a"]
    on_gpus = (msgspec.structs.replace(root.variants[0], gpus=gpus), *root.variants[1:])
    bounded = msgspec.structs.replace(root, variants=on_gpus, min_replicas=least, max_replicas=least + more)
    graph = Graph.of(msgspec.structs.replace(spec, stages={**spec.stages, "a": bounded}))
    quick = replace(PAPER, node_limit=1000)
    plan = solve(Problem.of(graph, world.profile, world.demand, nodes, quick))
    assert violations(plan, graph, world.profile, nodes, quick) == []


@EXAMPLES
@given(worlds(ANY, 3, most_cores=12), st.sampled_from(["auto", "greedy"]))
def test_the_greedy_plan_is_never_better_than_the_exact_one(world: World, solver: Literal["auto", "greedy"]) -> None:
    exact, other = solve(world.problem(PAPER)), solve(world.problem(PAPER), solver)
    assert other.served_fraction <= exact.served_fraction + 3e-5
    if other.served_fraction == exact.served_fraction == 1.0:
        assert other.accuracy <= exact.accuracy + 3e-5


@FEW
@given(worlds(most_cores=6), st.sampled_from([PAPER, Settings(gap=0.0, node_limit=100_000)]))
def test_more_demand_never_raises_accuracy_nor_lowers_cores(world: World, how: Settings) -> None:
    before = None
    for demand in (0.2 * world.demand, 0.6 * world.demand, world.demand, 1.5 * world.demand, 4.0 * world.demand):
        plan = solve(world.problem(how, demand=demand))
        if before is not None and before.served_fraction == plan.served_fraction == 1.0:
            assert plan.accuracy <= before.accuracy + 4e-5
            if before.mode == plan.mode == "hardware":
                assert plan.cores >= before.cores
        if before is not None:
            assert plan.served_fraction * demand >= before.served_fraction * before.demand * (1.0 - 1e-4)
        before = plan


@FEW
@given(worlds(most_cores=6), st.sampled_from([PAPER, Settings(gap=0.0, node_limit=100_000)]))
def test_a_looser_slo_never_costs_more(world: World, how: Settings) -> None:
    before = None
    for slo in (80.0, 160.0, 320.0, 640.0):
        plan = solve(world.problem(how, slo=slo))
        if before is not None:
            assert plan.served_fraction >= before.served_fraction - 4e-5
            if before.served_fraction == 1.0 and how is PAPER:
                assert plan.accuracy >= before.accuracy - 4e-5
            if before.mode == plan.mode == "hardware" and plan.accuracy == before.accuracy:
                assert plan.cores <= before.cores
        before = plan


@FEW
@given(worlds(most_cores=4))
def test_an_explanation_is_what_planning_again_says(world: World) -> None:
    problem = world.problem(PAPER)
    plan = solve(problem)
    found = explain(problem, world.profile, plan)
    richer = solve(Problem.of(world.graph, world.profile, world.demand, world.cores + 1, PAPER))
    gain = found.one_more_core.gain
    assert gain.served_per_s == pytest.approx(
        (richer.served_fraction - plan.served_fraction) * world.demand, abs=1e-4 * world.demand
    )
    assert gain.accuracy == pytest.approx(richer.accuracy - plan.accuracy, abs=1e-4)
    # The demand at which a mode ends is known to a thousandth.
    ends = [(found.hardware_until, ("hardware",)), (found.accuracy_until, ("hardware", "accuracy"))]
    for end, modes in ends:
        if end > 0.0:
            assert solve(problem.at(end * 0.999)).mode in modes
        assert solve(problem.at(end * 1.003 + 1e-5)).mode not in modes


@FEW
@given(worlds(ANY, most_cores=8))
def test_the_same_problem_gives_the_same_plan(world: World) -> None:
    assert solve(world.problem(PAPER)) == solve(world.problem(PAPER))
