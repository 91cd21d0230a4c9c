"""Themis's own planner decides as the authors' code does, at both of its revisions.

The tables are what the authors' optimiser printed (github.com/mehransi/Themis at b01017f, days after the paper, and at
8b3bfdd, a year later): rate, running instances per stage, the horizontal program's (instances, batch) or (instances,
cores, batch) per stage, the vertical program's (cores, batch) per stage, and its extra instances per stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.policy.optimise import Problem, Settings, solve
from triscale.policy.optimise.themis import Instances, Revision, StageModel, horizontal, vertical
from triscale.testing.builders import stage, variant


@dataclass(frozen=True)
class Case:
    """A pipeline of the paper, and the decisions for it."""

    revision: Revision
    slo_ms: int
    most_batch: int
    most_cores: int
    stages: tuple[StageModel, ...]
    decisions: str
    """One per line: rate | running | horizontal | vertical | extra."""

    def rows(self) -> list[tuple[int, list[list[int]], list[list[int]], list[list[int]], list[list[int]]]]:
        found = []
        for line in self.decisions.strip().splitlines():
            rate, *columns = (cell.strip() for cell in line.split("|"))
            cells = [[[int(n) for n in stage.split(",")] for stage in cell.split()] for cell in columns]
            found.append((int(rate), cells[0], cells[1], cells[2], cells[3]))
        return found


CASES = {
    "video 2024": Case(
        "2024",
        780,
        8,
        8,
        (
            StageModel(148.8171, 37.4937, 5.43291, -15.47594),
            StageModel(34.69334, 2.05812, 19.47879, 14.25944),
        ),
        """
        1 | 1 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        2 | 1 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        5 | 1 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        10 | 1 1 | 2,1 1,1 | 2,1 1,1 | 0 0
        15 | 1 1 | 3,1 2,1 | 4,1 2,1 | 0 0
        20 | 1 1 | 4,1 2,1 | 6,1 2,1 | 0 0
        25 | 1 1 | 5,1 2,1 | 8,1 3,1 | 1 1
        30 | 1 1 | 6,1 3,1 | 8,1 3,1 | 1 1
        39 | 1 1 | 8,1 3,1 | 8,1 3,1 | 1 1
        50 | 1 1 | 10,1 3,7 | 8,1 3,1 | 2 1
        62 | 1 1 | 13,1 4,2 | 8,1 3,1 | 2 2
        """,
    ),
    "sentiment 2024": Case(
        "2024",
        1350,
        8,
        8,
        (
            StageModel(59.1354, 38.2057, 160.62815, 62.94941),
            StageModel(52.09086, 5.92726, 9.67302, 2.96089),
        ),
        """
        1 | 1 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        1 | 2 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        2 | 1 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        2 | 2 1 | 1,1 1,1 | 1,1 1,1 | 0 0
        4 | 1 1 | 2,1 1,1 | 2,1 1,1 | 0 0
        4 | 2 1 | 2,1 1,1 | 1,1 1,1 | 0 0
        8 | 1 1 | 2,4 1,1 | 6,1 1,1 | 1 1
        8 | 2 1 | 2,4 1,1 | 1,4 1,1 | 0 0
        12 | 1 1 | 3,3 1,1 | 6,1 1,1 | 1 1
        12 | 2 1 | 3,3 1,1 | 2,4 1,1 | 0 0
        16 | 1 1 | 4,2 2,1 | 6,1 1,1 | 2 1
        16 | 2 1 | 4,2 2,1 | 4,5 2,1 | 0 0
        20 | 1 1 | 4,4 2,1 | 6,1 1,1 | 2 1
        20 | 2 1 | 4,4 2,1 | 8,8 2,1 | 0 0
        26 | 1 1 | 5,6 2,1 | 6,1 1,1 | 3 2
        26 | 2 1 | 5,6 2,1 | 5,8 2,1 | 2 1
        32 | 1 1 | 6,6 3,1 | 6,1 1,1 | 4 2
        32 | 2 1 | 6,6 3,1 | 8,8 2,1 | 2 1
        """,
    ),
    "nlp 2024": Case(
        "2024",
        2550,
        4,
        8,
        (
            StageModel(21.36871, 1.55696, 53.78519, 27.77546),
            StageModel(304.59607, 74.08666, -13.46894, 11.63063),
            StageModel(263.93595, 83.63772, -1.00679, 23.57387),
        ),
        """
        1 | 1 1 1 | 1,1 1,1 1,1 | 1,1 1,1 1,1 | 0 0 0
        1 | 1 2 2 | 1,1 1,1 1,1 | 1,1 1,1 1,1 | 0 0 0
        2 | 1 1 1 | 1,1 1,1 1,1 | 1,1 1,1 1,1 | 0 0 0
        2 | 1 2 2 | 1,1 1,1 1,1 | 1,1 1,1 1,1 | 0 0 0
        3 | 1 1 1 | 1,1 2,1 2,1 | 1,1 2,1 2,1 | 0 0 0
        3 | 1 2 2 | 1,1 2,1 2,1 | 1,1 1,1 1,1 | 0 0 0
        5 | 1 1 1 | 1,1 3,1 3,1 | 1,1 3,1 3,1 | 0 0 0
        5 | 1 2 2 | 1,1 3,1 3,1 | 1,1 2,1 2,1 | 0 0 0
        8 | 1 1 1 | 1,1 4,1 4,1 | 1,1 6,1 8,1 | 1 1 1
        8 | 1 2 2 | 1,1 4,1 4,1 | 1,1 2,1 2,1 | 0 0 0
        10 | 1 1 1 | 2,1 5,1 5,1 | 1,1 6,1 8,1 | 1 1 1
        10 | 1 2 2 | 2,1 5,1 5,1 | 2,1 3,1 3,1 | 0 0 0
        13 | 1 1 1 | 2,1 7,1 7,1 | 1,1 6,1 8,1 | 1 1 1
        13 | 1 2 2 | 2,1 7,1 7,1 | 2,1 6,1 8,1 | 0 0 0
        """,
    ),
    "video 2025": Case(
        "2025",
        300,
        4,
        4,
        (
            StageModel(39.9089, 7.78414, 1.83333, 0.45071, 2.0, 1.0, 1.0),
            StageModel(28.08428, 2.62695, 6.80717, 0.45883, 1.0, 1.0, 1.0),
        ),
        """
        10 | 1 1 | 1,1,1 1,1,1 | 1,1 1,1 | 0 0
        10 | 2 2 | 1,1,1 1,1,1 | 1,1 1,1 | 0 0
        25 | 1 1 | 2,1,1 2,1,1 | 2,2 2,1 | 0 0
        25 | 2 2 | 2,1,1 2,1,1 | 1,1 1,1 | 0 0
        43 | 1 1 | 3,1,1 2,1,2 | 4,3 3,1 | 0 0
        43 | 2 2 | 3,1,1 2,1,2 | 2,1 1,2 | 0 0
        80 | 1 1 | 5,1,2 4,1,1 | 4,3 3,1 | 1 1
        80 | 2 2 | 5,1,2 4,1,1 | 4,2 2,2 | 0 0
        113 | 1 1 | 7,1,2 5,1,2 | 4,3 3,1 | 2 2
        113 | 2 2 | 7,1,2 5,1,2 | 4,4 4,1 | 1 1
        150 | 1 1 | 9,1,2 6,1,2 | 4,3 3,1 | 3 3
        150 | 2 2 | 9,1,2 6,1,2 | 4,4 4,1 | 2 1
        183 | 1 1 | 11,1,2 8,1,2 | 4,3 3,1 | 3 3
        183 | 2 2 | 11,1,2 8,1,2 | 4,4 4,1 | 2 2
        """,
    ),
    "sentiment 2025": Case(
        "2025",
        500,
        4,
        4,
        (
            StageModel(67.82494, 11.0275, 24.07094, 32.2807, 2.0, 1.1, 1.1),
            StageModel(15.96636, 2.51835, -0.80673, 1.23902, 1.0, 1.1, 1.1),
        ),
        """
        10 | 1 1 | 3,1,1 1,1,1 | 4,1 1,1 | 1 1
        10 | 5 1 | 3,1,1 1,1,1 | 1,1 1,1 | 0 0
        25 | 1 1 | 5,1,1 1,1,1 | 4,1 1,1 | 2 1
        25 | 5 1 | 5,1,1 1,1,1 | 1,1 1,1 | 0 0
        50 | 1 1 | 9,1,2 2,1,1 | 4,1 1,1 | 4 2
        50 | 5 1 | 9,1,2 2,1,1 | 2,2 2,1 | 0 0
        67 | 1 1 | 11,1,2 2,1,1 | 4,1 1,1 | 6 2
        67 | 5 1 | 11,1,2 2,1,1 | 3,3 2,3 | 0 0
        90 | 1 1 | 13,1,3 3,1,1 | 4,1 1,1 | 8 3
        90 | 5 1 | 13,1,3 3,1,1 | 4,4 4,2 | 0 0
        107 | 1 1 | 15,1,3 3,1,1 | 4,1 1,1 | 9 3
        107 | 5 1 | 15,1,3 3,1,1 | 4,4 4,3 | 1 1
        """,
    ),
    "nlp 2025": Case(
        "2025",
        700,
        4,
        4,
        (
            StageModel(10.19896, -0.17485, 13.46959, 6.28835, 2.0, 1.0, 1.0),
            StageModel(136.47673, 31.9406, -6.73818, 3.1006, 2.0, 1.0, 1.0),
            StageModel(14.08705, 2.33803, -1.81018, 1.44264, 1.0, 1.0, 1.0),
        ),
        """
        5 | 1 1 1 | 1,1,1 2,1,1 1,1,1 | 1,1 2,1 1,1 | 0 0 0
        5 | 1 3 1 | 1,1,1 2,1,1 1,1,1 | 1,1 1,1 1,1 | 0 0 0
        10 | 1 1 1 | 1,1,1 3,1,1 1,1,1 | 1,1 4,2 1,1 | 0 0 0
        10 | 1 3 1 | 1,1,1 3,1,1 1,1,1 | 1,1 1,1 1,1 | 0 0 0
        19 | 1 1 1 | 1,1,1 5,1,1 1,1,1 | 1,1 4,2 1,1 | 1 1 1
        19 | 1 3 1 | 1,1,1 5,1,1 1,1,1 | 1,1 2,1 1,1 | 0 0 0
        30 | 1 1 1 | 1,1,2 7,1,1 1,1,1 | 1,1 4,2 1,1 | 1 2 1
        30 | 1 3 1 | 1,1,2 7,1,1 1,1,1 | 1,2 4,2 1,1 | 0 0 0
        49 | 1 1 1 | 1,1,4 12,1,1 2,1,1 | 1,1 4,2 1,1 | 2 3 1
        49 | 1 3 1 | 1,1,4 12,1,1 2,1,1 | 1,2 4,2 1,1 | 1 2 1
        79 | 1 1 1 | 2,1,2 18,1,1 2,1,1 | 1,1 4,2 1,1 | 3 6 2
        79 | 1 3 1 | 2,1,2 18,1,1 2,1,1 | 1,2 4,2 1,1 | 2 4 1
        """,
    ),
}


def shown(decision: Sequence[Instances] | None, revision: Revision) -> list[list[int]] | None:
    if decision is None:
        return None
    return [[i.count, i.batch] if revision == "2024" else [i.count, i.cores, i.batch] for i in decision]


@pytest.mark.parametrize("name", CASES)
def test_the_horizontal_program_decides_as_the_authors_do(name: str) -> None:
    case = CASES[name]
    for rate, _, expected, _, _ in case.rows():
        found = horizontal(case.stages, case.slo_ms, rate, case.most_batch, case.revision)
        assert shown(found, case.revision) == expected, rate


@pytest.mark.parametrize("name", CASES)
def test_the_vertical_program_decides_as_the_authors_do(name: str) -> None:
    case = CASES[name]
    for rate, running, _, expected, extra in case.rows():
        counts = [count for (count,) in running]
        found = vertical(case.stages, case.slo_ms, rate, counts, case.most_batch, case.most_cores, case.revision)
        assert found is not None, rate
        assert [[i.cores, i.batch] for i in found[0]] == expected, rate
        assert found[1] == [n for (n,) in extra], rate


def world(case: Case) -> tuple[Graph, Profile]:
    names = [f"s{i}" for i in range(len(case.stages))]
    stages = {
        name: stage(variant("only", {1: 1.0}, max_batch=case.most_batch), after=(names[i - 1],) if i else ())
        for i, name in enumerate(names)
    }
    measured = {}
    for name, model in zip(names, case.stages, strict=True):
        points = []
        for batch in range(1, case.most_batch + 1):
            seconds = ((model.alpha + model.beta) * batch + model.gamma + model.zeta) / 1000.0
            points.append(LatencyPoint(batch=batch, p50_s=seconds, p95_s=seconds, p99_s=seconds))
        measured[name] = {"only": VariantProfile(latency=tuple(points))}
    spec = Pipeline(name="test", slo_ms=float(case.slo_ms), stages=stages)
    return Graph.of(spec), Profile(pipeline="test", stages=measured)


@pytest.mark.parametrize("name", CASES)
def test_for_the_same_promise_triscale_never_needs_more_cores(name: str) -> None:
    case = CASES[name]
    graph, profile = world(case)
    problem = Problem.of(graph, profile, 1.0, 200, Settings(wait="batch_fill", utilisation=1.0, replica_cores=1))
    for rate, _, expected, _, _ in case.rows():
        plan = solve(problem.at(rate), "dp")
        assert plan.mode == "hardware"
        assert plan.cores <= sum(row[0] * (row[1] if len(row) == 3 else 1) for row in expected), rate


def test_where_the_slo_cannot_be_met_there_is_no_decision() -> None:
    case = CASES["video 2024"]
    assert horizontal(case.stages, 200, 10, case.most_batch, "2024") is None
    assert vertical(case.stages, 50, 10, [1, 1], case.most_batch, case.most_cores, "2024") is None
    slow = (StageModel(2000.0, 0.0, 0.0, 0.0),)
    assert horizontal(slow, 5000, 10, 1, "2025") is None
