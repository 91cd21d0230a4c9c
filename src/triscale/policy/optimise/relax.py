"""The linear relaxation that the exact search solves at every node, on HiGHS.

Variables: the share f of requests that goes each way; lanes n of each (stage, variant, threads); lanes N per stage.

    max   sum_w accuracy_w f_w  -  a little per core          (or the share served, or minus the cores)
    s.t.  sum_w f_w = served
          sum_{w through v} visits_w f_w  <=  offset_v + slope_v n_v       per stage and variant v
          sum n_v = N_s, at least the stage's replicas                     per stage s
          sum_{v of t or more threads} threads_v n_v  <=  t * sum_nodes floor(cores / t)     per thread count t
          sum gpus_v n_v <= gpus,   sum_w (accuracy_w - least) f_w >= 0

offset and slope bound what n lanes carry from above over the node's bounds on n, and are exact where those meet. The
row per thread count says what fits on nodes when lanes do not span them; it is exact for thread counts that divide
each other. Nothing is bilinear and there is no big M: within budgets, every way is fast enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from triscale.policy.optimise.compiled import Kind
from triscale.policy.optimise.decision import Decision
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.supply import Supply
from triscale.policy.optimise.ways import Indices, Ways
from triscale.policy.waiting import Array

__all__ = ["PER_CORE", "Goal", "Relaxation", "Relaxed", "decision_price", "lane_price"]

Goal = Literal["accuracy", "served", "cores"]

PER_CORE = 1e-5
"""Accuracy that the whole cluster's cores are worth: enough to prefer fewer cores among equals."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """An optimum of the relaxation."""

    value: float
    shares: Array
    """Per way."""
    lanes: Array
    """Per kind, then per stage."""


class Relaxation:
    """One linear program whose bounds move from node to node, so that HiGHS starts from the last basis."""

    def __init__(self, problem: Problem, ways: Ways, kinds: Sequence[Kind], goal: Goal, served: float = 1.0) -> None:
        self._problem, self._ways, self.kinds, self.goal = problem, ways, tuple(kinds), goal
        self._first_lanes = len(ways)
        self._first_total = self._first_lanes + len(kinds)
        self._stages = len(problem.choices)
        self.columns = self._first_total + self._stages
        self._carry = _carry_rows(problem, kinds)
        self._slope: dict[int, float] = {}
        self._offset: dict[int, float] = {}
        self._highs = _model(self._objective(), *self._rows(served))
        self._integers = np.arange(self._first_lanes, self.columns, dtype=np.int32)

    def _objective(self) -> Array:
        cost = np.zeros(self.columns)
        if self.goal != "cores":
            cost[: self._first_lanes] = self._ways.accuracy if self.goal == "accuracy" else 1.0
        cost[self._first_lanes : self._first_total] = [
            -lane_price(self._problem, kind.stage, kind.variant, kind.threads, self.goal) for kind in self.kinds
        ]
        return cost

    def _rows(self, served: float) -> tuple[list[tuple[float, float]], list[tuple[Indices, Array]]]:
        """Bounds of the rows, and each row's (columns, coefficients)."""
        problem, ways = self._problem, self._ways
        every = np.arange(len(ways))
        bounds: list[tuple[float, float]] = []
        rows: list[tuple[Indices, Array]] = []

        def add(low: float, high: float, columns: Indices, values: Array) -> None:
            bounds.append((low, high))
            rows.append((columns, values))

        for (stage, variant), kinds in self._carry.items():
            through = every[ways.variants[:, stage] == variant]
            lanes = np.array(kinds) + self._first_lanes
            # A placeholder for the slopes, set with the first bounds.
            add(
                -np.inf,
                0.0,
                np.concatenate([through, lanes]),
                np.concatenate([ways.visits[through, stage], -np.ones(len(kinds))]),
            )
        for stage in range(self._stages):
            mine = [self._first_lanes + i for i, kind in enumerate(self.kinds) if kind.stage == stage]
            add(0.0, 0.0, np.array([*mine, self._first_total + stage]), np.array([1.0] * len(mine) + [-1.0]))
        for threads in sorted({kind.threads for kind in self.kinds}):
            wide = [
                (self._first_lanes + i, kind.threads) for i, kind in enumerate(self.kinds) if kind.threads >= threads
            ]
            add(-np.inf, float(threads * problem.lane_room(threads)), *_columns(wide))
        on_gpus = [(self._first_lanes + i, kind.gpus) for i, kind in enumerate(self.kinds) if kind.gpus]
        if on_gpus:
            add(-np.inf, float(problem.gpus), *_columns(on_gpus))
        least = problem.settings.min_accuracy
        if least > 0.0:
            add(0.0, np.inf, every, ways.accuracy - least)
        low = 0.0 if self.goal == "served" else served
        add(low, served, every, np.ones(len(ways)))
        return bounds, rows

    def solve(self, low: Array, high: Array, supplies: Sequence[Supply]) -> Relaxed | None:
        """The optimum with the integers (kinds, then stages) within [low, high]; None where there is none."""
        highs = self._highs
        highs.changeColsBounds(len(self._integers), self._integers, low, high)
        demand = self._problem.demand
        for row, kinds in enumerate(self._carry.values()):
            offset = 0.0
            for kind in kinds:
                mine, slope = supplies[kind].line(int(low[kind]), int(high[kind])) if high[kind] > 0 else (0.0, 0.0)
                offset += mine
                if self._slope.get(kind) != slope:
                    self._slope[kind] = slope
                    highs.changeCoeff(row, self._first_lanes + kind, -slope / demand)
            if self._offset.get(row) != offset:
                self._offset[row] = offset
                highs.changeRowBounds(row, -np.inf, offset / demand)
        highs.run()
        if highs.modelStatusToString(highs.getModelStatus()) != "Optimal":
            return None
        values = np.array(highs.getSolution().col_value)
        return Relaxed(
            highs.getInfo().objective_function_value,
            values[: self._first_lanes],
            values[self._first_lanes :],
        )


def lane_price(problem: Problem, stage: int, variant: int, threads: int, goal: Goal) -> float:
    """What a lane takes off the objective: its cores, and among equals less for what runs now."""
    running = problem.running.stages.get(problem.graph.stages[stage]) if problem.running else None
    planned = running.variants.get(problem.choices[stage][variant].name) if running else None
    runs = planned is not None and planned.lanes > 0 and planned.threads == threads
    if goal == "cores":
        return threads * (1.0 if runs else 1.0 + PER_CORE)
    return threads * (1.0 if runs else 1.5) * PER_CORE / max(1, problem.cores)


def decision_price(problem: Problem, decision: Decision, goal: Goal) -> float:
    """What a decision's lanes take off the objective."""
    return sum(
        pool.lanes * lane_price(problem, stage, variant, pool.point.threads, goal)
        for (stage, variant), pool in decision.pools.items()
    )


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Indices, Array]:
    return np.array([column for column, _ in pairs]), np.array([float(value) for _, value in pairs])


def _carry_rows(problem: Problem, kinds: Sequence[Kind]) -> dict[tuple[int, int], list[int]]:
    """(stage, variant) -> its kinds, for every variant that some way uses."""
    rows: dict[tuple[int, int], list[int]] = {
        (stage, variant): [] for stage, choices in enumerate(problem.choices) for variant in range(len(choices))
    }
    for i, kind in enumerate(kinds):
        rows[kind.stage, kind.variant].append(i)
    return rows


def _model(cost: Array, bounds: Sequence[tuple[float, float]], rows: Sequence[tuple[Indices, Array]]) -> Any:
    import highspy  # 0.1 s; only where an exact search runs

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(cost), len(rows)
    lp.col_cost_ = cost
    lp.col_lower_ = np.zeros(len(cost))
    lp.col_upper_ = np.full(len(cost), highspy.kHighsInf)
    lp.row_lower_ = np.array([low for low, _ in bounds])
    lp.row_upper_ = np.array([high for _, high in bounds])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])]).astype(np.int32)
    lp.a_matrix_.index_ = np.concatenate([columns for columns, _ in rows]).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate([values for _, values in rows]).astype(float)
    lp.sense_ = highspy.ObjSense.kMaximize
    highs = highspy.Highs()
    # Without presolve, re-solves start from the last basis.
    for option, value in {"output_flag": False, "threads": 1, "presolve": "off"}.items():
        highs.setOptionValue(option, value)
    highs.passModel(lp)
    return highs
