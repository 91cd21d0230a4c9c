"""Loki's second step written down directly, for comparison: paths, batch choices and a big M on HiGHS.

One binary per path says that it is used, one per (variant, batch) that the batch is chosen, and a path's latency
counts only where its binary is set. It lets every path have its own latency, where the planner gives each stage a
budget, so that its optimum may be a trifle higher; for chains only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import highspy
import numpy as np

from triscale.policy.optimise.points import Point
from triscale.policy.optimise.problem import Problem

__all__ = ["Answer", "solve_naively"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver came to: the best accuracy, and the relative gap to its bound."""

    accuracy: float
    gap: float


@dataclass(slots=True)
class _Rows:
    """A matrix by rows, as HiGHS takes it."""

    start: list[int]
    index: list[int]
    value: list[float]
    upper: list[float]
    lower: list[float]

    def add(self, entries: dict[int, float], upper: float, lower: float = -math.inf) -> None:
        self.index += entries
        self.value += entries.values()
        self.start.append(len(self.index))
        self.upper.append(upper)
        self.lower.append(lower)


def solve_naively(problem: Problem, gap: float, seconds: float) -> Answer:
    """The most accurate mix that carries the demand; accuracy NaN where none was found in time."""
    stages = range(len(problem.choices))
    points = [(s, v, p) for s in stages for v, c in enumerate(problem.choices[s]) for p in c.points]
    paths = list(product(*(range(len(choices)) for choices in problem.choices)))
    lanes, chosen = range(len(points)), range(len(points), 2 * len(points))
    used = range(chosen.stop, chosen.stop + len(paths))
    share = range(used.stop, used.stop + len(paths))
    rows = _Rows([0], [], [], [], [])
    _capacity_rows(problem, rows, points, paths, share)
    for i in lanes:
        rows.add({i: 1.0, chosen[i]: -float(problem.cores)}, 0.0)
    for s in stages:
        for v in range(len(problem.choices[s])):
            rows.add({chosen[i]: 1.0 for i in lanes if points[i][:2] == (s, v)}, 1.0)
    slowest = sum(max(p.fixed_s for s, _, p in points if s == stage) for stage in stages)
    big = slowest - problem.budget_s
    for k, path in enumerate(paths):
        mine = {chosen[i]: p.fixed_s for i, (s, v, p) in enumerate(points) if path[s] == v}
        rows.add({**mine, used[k]: big}, problem.budget_s + big)
        rows.add({share[k]: 1.0, used[k]: -1.0}, 0.0)
    rows.add(dict.fromkeys(share, 1.0), 1.0, 1.0)
    rows.add({i: float(points[i][2].threads) for i in lanes}, float(problem.cores))
    worth = [math.prod(problem.choices[s][v].accuracy for s, v in enumerate(path)) for path in paths]
    return _run(rows, worth, share, range(share.start), gap, seconds, float(problem.cores), len(points))


def _capacity_rows(
    problem: Problem, rows: _Rows, points: Sequence[tuple[int, int, Point]], paths: list[tuple[int, ...]], share: range
) -> None:
    graph = problem.graph
    for s, choices in enumerate(problem.choices):
        for v in range(len(choices)):
            entries: dict[int, float] = {}
            for k, path in enumerate(paths):
                if path[s] != v:
                    continue
                visits = 1.0
                for above in range(s):
                    visits *= problem.choices[above][path[above]].fan_out[graph.children[above].index(above + 1)]
                entries[share[k]] = problem.demand * visits
            for i, (stage, variant, _) in enumerate(points):
                if (stage, variant) == (s, v):
                    entries[i] = -problem.choices[s][v].points[_position(points, i)].rate
            rows.add(entries, 0.0)


def _position(points: Sequence[tuple[int, int, Point]], i: int) -> int:
    return sum(1 for j in range(i) if points[j][:2] == points[i][:2])


def _run(
    rows: _Rows, worth: list[float], share: range, integers: range, gap: float, seconds: float, cores: float, lanes: int
) -> Answer:
    count = share.stop
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count, len(rows.upper)
    lp.col_cost_ = np.array([0.0] * share.start + worth)
    lp.col_lower_ = np.zeros(count)
    lp.col_upper_ = np.array([cores] * lanes + [1.0] * (count - lanes))
    lp.row_lower_, lp.row_upper_ = np.array(rows.lower), np.array(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(rows.start, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(rows.index, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(rows.value)
    lp.sense_ = highspy.ObjSense.kMaximize
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger if i in integers else kinds.kContinuous for i in range(count)]
    highs = highspy.Highs()
    for option, value in {"output_flag": False, "threads": 1, "mip_rel_gap": gap, "time_limit": seconds}.items():
        highs.setOptionValue(option, value)
    highs.passModel(lp)
    highs.run()
    info = highs.getInfo()
    found = info.primal_solution_status == 2
    return Answer(info.objective_function_value if found else math.nan, info.mip_gap if found else math.inf)
