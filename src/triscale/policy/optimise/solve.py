"""The order of the aims: carry the demand within the SLO, at the highest accuracy, with the fewest cores.

`solve` never raises for a world it does not like: where not all demand can be carried even at the lowest accuracy
allowed, the plan carries what it can and says how much is shed, and where the SLO itself is out of reach it says by
how much. Time is measured by the caller's clock, and only if one is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from triscale.core.figures import count, counted, percent
from triscale.core.plan import Plan, StagePlan
from triscale.errors import ConfigError
from triscale.policy.optimise.assemble import assemble, assemble_shared
from triscale.policy.optimise.budgets import fastest_path_s
from triscale.policy.optimise.compiled import compiled
from triscale.policy.optimise.decision import Decision, Mode
from triscale.policy.optimise.dp import fewest_cores
from triscale.policy.optimise.greedy import best_mix, most_served
from triscale.policy.optimise.milp import Found, search
from triscale.policy.optimise.place import fits
from triscale.policy.optimise.points import TOLERANCE
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.relax import decision_price
from triscale.policy.optimise.shared import best_shared

__all__ = ["Solver", "best_suffice", "solve"]

Solver: TypeAlias = Literal["auto", "dp", "milp", "greedy"]
"""`dp`: one variant per stage. `milp`: mixes of variants, exact. `greedy`: mixes of two ways, at once. `auto`: the
dynamic program while the best variants can carry the demand, else the exact search from the greedy plan."""

_IDLE = 1e-6
"""Requests/s that stand for no demand at all."""
_MOST_WAYS = 4096
"""Ways that the dynamic program goes through, best first."""


def solve(problem: Problem, solver: Solver = "auto", *, clock: Callable[[], float] | None = None) -> Plan:
    """The plan for a problem. Raises ConfigError when the solver cannot do what the settings ask for."""
    started = clock() if clock else 0.0
    plan = _Solving(problem, solver, clock, started).plan()
    return msgspec.structs.replace(plan, solve_s=clock() - started) if clock else plan


def best_suffice(problem: Problem, solver: Solver = "auto", *, clock: Callable[[], float] | None = None) -> bool:
    """Whether the most accurate variants carry all the demand: what `solve` would find out first."""
    return _Solving(problem, solver, clock, clock() if clock else 0.0).best_suffice()


class _Solving:
    def __init__(self, problem: Problem, solver: Solver, clock: Callable[[], float] | None, started: float) -> None:
        if problem.settings.wait == "batch_fill" and solver in ("milp", "greedy"):
            raise ConfigError(
                f"solver {solver}: mixes variants, whose rates the wait rule batch_fill would need to know beforehand; "
                "use the solver dp with it (`--solver dp`), or another wait rule (`--wait-model`)"
            )
        self.asked = problem.demand
        # A plan for no demand is the plan for hardly any.
        self.problem = replace(problem, demand=max(problem.demand, _IDLE))
        self.solver, self.clock = solver, clock
        self.stop_at = started + problem.settings.time_limit_s if clock else math.inf

    def plan(self) -> Plan:
        problem = self.problem
        nothing = self._impossible()
        if nothing is not None:
            return self._empty(nothing)
        if problem.settings.sharing == "shared":
            return self._shared()
        hardware = self._hardware()
        if hardware is not None:
            return hardware
        if self.solver == "dp" or problem.settings.wait == "batch_fill":
            return self._single_ways()
        if self.solver == "greedy":
            mixed = best_mix(problem)
            return self._plan(mixed, "accuracy", "greedy", 1.0) if mixed else self._overload()
        found = search(problem, "accuracy", start=best_mix(problem), stop_at=self.stop_at, clock=self.clock)
        if found.decision is None:
            return self._overload()
        return self._plan(found.decision, "accuracy", "milp", found.gap)

    def best_suffice(self) -> bool:
        """Whether the plan's mode is `hardware`, without looking for any other."""
        if self._impossible() is not None:
            return False
        if self.problem.settings.sharing == "shared":
            return self._shared().mode == "hardware"
        return self._hardware() is not None

    def _impossible(self) -> str | None:
        """Why no request at all can be served; None where some can."""
        problem = self.problem
        if problem.cores < 1:
            return "there is not a whole core on any node that is ready"
        for name, choices in zip(problem.graph.stages, problem.choices, strict=True):
            if not any(choice.points for choice in choices):
                return f"no node has the cores for one lane of {name}"
        needed, slo = fastest_path_s(problem), problem.budget_s
        if needed > slo * (1.0 + TOLERANCE):
            return (
                f"the SLO of {problem.graph.pipeline.slo_ms:g} ms is {count(1e3 * (needed - slo))} ms too short "
                f"for the fastest path: raise it, or add faster variants"
            )
        best = float(compiled(problem).ways.accuracy.max())
        if best < problem.settings.min_accuracy:
            return f"min_accuracy {problem.settings.min_accuracy:g} is above the best variants' {best:.4g}"
        return None

    def _empty(self, reason: str) -> Plan:
        return Plan(
            stages={name: StagePlan(variants={}) for name in self.problem.graph.stages},
            demand=self.asked,
            served_fraction=0.0,
            accuracy=0.0,
            mode="overload",
            feasible=False,
            solver=self.solver,
            reason=reason,
        )

    def _shared(self) -> Plan:
        replicas = len(self.problem.nodes)
        for name in self.problem.graph.stages:
            bounds = self.problem.settings.bounds(name)
            if replicas < bounds.least or (bounds.most is not None and replicas > bounds.most):
                rule = f"at least {bounds.least}" if replicas < bounds.least else f"at most {bounds.most}"
                return self._empty(
                    f"where cores are shared every node has one replica of each stage, so {replicas} of {name}, "
                    f"but it must have {rule}: change the bounds, or give each lane cores of its own (`triscale plan "
                    "--sharing dedicated`)"
                )
        best = best_shared(self.problem)
        if best is None:
            return self._empty(
                "not one request at a time meets the SLO on shared cores: its work and waits are too long"
            )
        mixed, mode = best
        cores = mixed.cores * len(self.problem.nodes)
        return assemble_shared(
            self.problem,
            mixed,
            mode,
            solver="shared",
            reason=self._reason(mode, cores, mixed.accuracy, mixed.served),
            demand=self.asked,
        )

    def _hardware(self) -> Plan | None:
        """The most accurate ways alone, on the fewest cores; None where those do not suffice."""
        problem = self.problem
        ways = compiled(problem).ways
        rows = np.flatnonzero(ways.accuracy >= ways.accuracy.max() - 1e-9)
        start: Decision | None = None
        cramped = False
        for row in rows[:_MOST_WAYS]:
            if problem.demand * compiled(problem).least_cost[row] > problem.cores * (1.0 + TOLERANCE):
                continue
            decision = fewest_cores(problem, compiled(problem).way(int(row)))
            if decision is None or decision.cores > problem.cores:
                continue
            if not fits(problem, decision):
                cramped = True
            elif start is None or self._price(decision) < self._price(start):
                start = decision
        if self._mixes() and (self.solver == "milp" or cramped or len(rows) > 1):
            # Several ways of the same accuracy, or nodes that do not take the cheapest lanes: perhaps others do.
            found = search(problem, "cores", rows=rows, start=start, stop_at=self.stop_at, clock=self.clock)
            return self._plan(found.decision, "hardware", "milp", found.gap) if found.decision else None
        return self._plan(start, "hardware", "dp" if self.solver != "greedy" else "greedy", 0.0) if start else None

    def _price(self, decision: Decision) -> float:
        """Its cores, and among equals how much of it does not run yet."""
        return decision_price(self.problem, decision, "cores")

    def _mixes(self) -> bool:
        """Whether the exact search may be used."""
        return self.solver in ("auto", "milp") and self.problem.settings.wait != "batch_fill"

    def _single_ways(self) -> Plan:
        """The most accurate way that fits, one variant per stage; else as much of the demand as one way carries."""
        problem = self.problem
        known = compiled(problem)
        allowed = known.ways.accuracy >= problem.settings.min_accuracy
        order = np.lexsort((known.cost.min(axis=0), -known.ways.accuracy))
        order = order[allowed[order]][:_MOST_WAYS]
        for row in order:
            decision = fewest_cores(problem, known.way(int(row)))
            if decision is not None and fits(problem, decision):
                return self._plan(decision, "accuracy", "dp", 0.0)
        best: Decision | None = None
        for row in order[np.argsort(known.cost.min(axis=0)[order])][:16]:
            best = _more(best, self._most_of(known.way(int(row))))
        return self._plan(best, "overload", "dp", 1.0) if best else self._empty(self._too_small())

    def _most_of(self, way: tuple[int, ...]) -> Decision | None:
        """As many of the requests as one way carries."""
        best: Decision | None = None
        low, high = 0.0, 1.0
        for _ in range(24):
            part = (low + high) / 2.0
            decision = fewest_cores(replace(self.problem, demand=self.problem.demand * part), way)
            if decision is not None and fits(self.problem, decision):
                low, best = part, replace(decision, ways=((way, part),), accuracy=decision.accuracy * part)
            else:
                high = part
        return best

    def _overload(self) -> Plan:
        """Not all demand can be carried: as much as can, then as accurately as can be."""
        problem = self.problem
        start = most_served(problem)
        if problem.settings.wait == "queue" and self.solver != "greedy":
            # The program knows waits for every number of lanes, the search on a grid of budgets.
            ways = compiled(problem).ways
            start = _more(start, self._most_of(compiled(problem).way(int(ways.accuracy.argmax()))))
        if self.solver == "greedy":
            return self._plan(start, "overload", "greedy", 1.0) if start else self._empty(self._too_small())
        most = search(problem, "served", start=start, stop_at=self.stop_at, clock=self.clock)
        if most.decision is None:
            return self._empty(self._too_small())
        # A hair less than the most, so that rounding does not rule out the plan that carries the most.
        served = most.decision.served * (1.0 - 1e-7)
        found = search(problem, "accuracy", served=served, stop_at=self.stop_at, clock=self.clock)
        return self._plan(found.decision or most.decision, "overload", "milp", _larger_gap(most, found))

    def _too_small(self) -> str:
        problem = self.problem
        if problem.cores < len(problem.graph.stages):
            return (
                f"{counted(problem.cores, 'core')} cannot give each of {len(problem.graph.stages)} stages a lane of "
                "its own: let them share cores (`triscale plan --sharing shared`), or add cores"
            )
        return "the nodes' cores, memory and replica bounds leave no room for one replica of each stage"

    def _plan(self, decision: Decision | None, mode: Mode, solver: str, gap: float) -> Plan:
        assert decision is not None
        served = min(1.0, decision.served)
        accuracy = decision.accuracy / served if served > 0.0 else 0.0
        plan = assemble(
            self.problem,
            decision,
            mode,
            solver=solver,
            gap=gap,
            reason=self._reason(mode, decision.cores, accuracy, served),
            demand=self.asked,
        )
        # The dispatcher chooses by the last variant only; on long chains that costs a trifle of accuracy.
        lost = max(0.0, accuracy - plan.accuracy)
        return msgspec.structs.replace(plan, gap=plan.gap + lost / accuracy) if lost > 1e-9 else plan

    def _reason(self, mode: Mode, cores: int, accuracy: float, served: float) -> str:
        problem = self.problem
        have = f"{count(cores)} of {counted(problem.cores, 'core')}"
        best = float(compiled(problem).ways.accuracy.max())
        if mode == "hardware":
            return f"the most accurate variants that meet the SLO carry {count(self.asked)} requests/s on {have}"
        if mode == "accuracy":
            return (
                f"{count(self.asked)} requests/s need faster variants: {percent(accuracy, 2)} accuracy instead of "
                f"{percent(best, 2)}, on {have}"
            )
        carry = "carries" if problem.cores == 1 else "carry"
        return (
            f"{have} {carry} {count(served * self.asked)} of {count(self.asked)} requests/s at {percent(accuracy, 2)} "
            f"accuracy; the other {percent(1.0 - served)} are shed"
        )


def _more(a: Decision | None, b: Decision | None) -> Decision | None:
    if a is None or b is None:
        return a or b
    return b if b.served > a.served else a


def _larger_gap(most: Found, found: Found) -> float:
    return max(most.gap, found.gap) if found.decision is not None else most.gap
