"""Why a plan is no better than it is, and what would make it better.

Every answer comes from planning again with one thing changed, never from shadow prices: lanes and batches are whole
numbers, so a limit may cost nothing although it is reached, and much although it is not. A limit binds where the plan
without it is better by the order of the aims: more requests carried, then more accurate, then on fewer cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import msgspec

from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.plan import PathPlan, Plan
from triscale.core.profile import Profile
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import ReplicaBounds
from triscale.policy.optimise.solve import Solver, best_suffice, solve

__all__ = ["SLO_STEP_S", "Constraint", "Explanation", "Gain", "Limit", "SlowestPath", "WhatIf", "explain"]

Constraint: TypeAlias = Literal["slo", "cores", "memory", "gpus", "min_accuracy", "replicas"]

SLO_STEP_S = 0.010
"""By how much the SLO is loosened to see what that buys."""

_FACTORS = (2.0, 4.0, 8.0)
"""By which the SLO and the cores are multiplied, until the plan gets better."""
_PRECISION = 1e-3
"""Relative, of the demands at which the mode changes."""
_TOO_MUCH = 4.0
"""Times the demand that is carried at most: enough to see how much that is."""
_NOTHING = 1e-6
"""Requests/s that count as none."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What one plan has over another for the same demand; below zero, what it lacks."""

    served_per_s: float
    """Requests/s that it carries more."""
    accuracy: float
    """Of those that are carried."""
    cores: float
    """That it uses fewer."""

    @property
    def better(self) -> bool:
        """By the order of the aims: more carried, else more accurate, else on fewer cores."""
        first = next((value for value in (self.served_per_s, self.accuracy, self.cores) if value), 0.0)
        return first > 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A constraint that keeps the plan from being better."""

    constraint: Constraint
    stage: str
    """Whose replicas are bounded; else empty."""
    used: float
    """Seconds (of the slowest path), cores, bytes, GPUs, accuracy or replicas."""
    allowed: float
    least: bool
    """Whether `allowed` is the least, not the most, that is allowed."""
    factor: float
    """Times as much was allowed for the gain; 0: the limit was lifted."""
    gain: Gain


@dataclass(frozen=True, slots=True)
class SlowestPath:
    """The path whose predicted latency is the longest, and where its time goes."""

    variants: Mapping[str, str]
    route: tuple[str, ...]
    """The stages one after the other that take the longest; with branches, some of all."""
    latency_s: float
    slo_s: float
    stage: str
    """Which takes the most of it, waiting included."""
    stage_s: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a little more of something buys."""

    gain: Gain
    hardware_until: float
    """As in `Explanation`, with the change."""
    accuracy_until: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What limits a plan, what a little more would buy, and how far the demand is from the next mode."""

    limits: tuple[Limit, ...]
    slowest: SlowestPath | None
    """None where nothing is served."""
    one_more_core: WhatIf
    """On the node where it helps most."""
    longer_slo: WhatIf
    """By `SLO_STEP_S`."""
    hardware_until: float
    """Requests/s up to which the most accurate variants carry all demand; 0 where they carry none."""
    accuracy_until: float
    """Requests/s up to which all demand is carried at some accuracy that is allowed."""
    headroom: float
    """Requests/s by which the demand may grow until the mode changes; 0 in overload."""


def explain(
    problem: Problem,
    profile: Profile,
    plan: Plan,
    solver: Solver = "auto",
    *,
    clock: Callable[[], float] | None = None,
) -> Explanation:
    """Explain the plan that `solver` made for the problem, which was compiled from that profile without drift."""
    world = _World(problem, profile, solver, clock)
    hardware_until, accuracy_until = world.ends(problem, plan.demand)
    until = {"hardware": hardware_until, "accuracy": accuracy_until, "overload": 0.0}[plan.mode]
    comparison = _Comparison(world, plan)
    one_more_core = [world.changed(nodes=nodes) for nodes in _with_one_more_core(problem.nodes)]
    slo_s = problem.graph.pipeline.slo_s
    return Explanation(
        limits=tuple(comparison.limits()),
        slowest=_slowest(problem, plan),
        one_more_core=comparison.what_if(one_more_core or [problem], hardware_until),
        longer_slo=comparison.what_if([world.changed(slo_s=slo_s + SLO_STEP_S)], hardware_until),
        hardware_until=hardware_until,
        accuracy_until=accuracy_until,
        headroom=max(0.0, until - plan.demand),
    )


@dataclass(frozen=True, slots=True)
class _World:
    """The problem as it is, and how to change one thing about it."""

    problem: Problem
    profile: Profile
    solver: Solver
    clock: Callable[[], float] | None

    def plan(self, problem: Problem) -> Plan:
        return solve(problem, self.solver, clock=self.clock)

    def changed(
        self,
        *,
        slo_s: float | None = None,
        nodes: Sequence[Node] | None = None,
        min_accuracy: float | None = None,
        replicas: Mapping[str, ReplicaBounds] | None = None,
    ) -> Problem:
        """The problem with another SLO, other nodes, another accuracy floor, or other bounds on a stage's replicas."""
        problem, settings = self.problem, self.problem.settings
        pipeline = problem.graph.pipeline
        if slo_s is not None:
            pipeline = msgspec.structs.replace(pipeline, slo_ms=slo_s * 1000.0)
        if min_accuracy is not None:
            settings = replace(settings, min_accuracy=min_accuracy)
        if replicas is not None:
            settings = replace(settings, replicas={**settings.replicas, **replicas})
        return Problem.of(
            Graph.of(pipeline),
            self.profile,
            problem.demand,
            problem.nodes if nodes is None else nodes,
            settings,
            running=problem.running,
        )

    def ends(self, problem: Problem, near: float) -> tuple[float, float]:
        """The demands at which the modes `hardware` (looked for from `near`) and `accuracy` end."""
        hardware = _end(lambda demand: best_suffice(problem.at(demand), self.solver, clock=self.clock), near)
        most = self._most_served(problem, max(near, hardware, 1.0) * _TOO_MUCH)
        accuracy = _end(lambda demand: self._carries(problem.at(demand)), most) if most > 0.0 else 0.0
        return hardware, max(hardware, accuracy)

    def _most_served(self, problem: Problem, demand: float) -> float:
        """Requests/s that are carried of more than can be."""
        while True:
            plan = self.plan(problem.at(demand))
            served = plan.served_fraction * demand
            if served * _TOO_MUCH <= 2.0 * demand:
                return served
            demand *= _TOO_MUCH

    def _carries(self, problem: Problem) -> bool:
        """Whether all demand is carried at some accuracy."""
        # Where the greedy plan does, nothing needs to be searched.
        exact = self.solver in ("auto", "milp") and problem.settings.wait != "batch_fill"
        solvers: tuple[Solver, ...] = ("greedy", self.solver) if exact else (self.solver,)
        return any(solve(problem, solver, clock=self.clock).mode != "overload" for solver in solvers)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The plan to explain, against others."""

    world: _World
    plan: Plan

    def gain(self, other: Plan) -> Gain:
        """Of another plan over this one; a difference that the searches leave open counts as none."""
        demand, gap = self.plan.demand, self.world.problem.settings.gap
        return Gain(
            served_per_s=demand * _proven(self.plan, other, self.plan.served_fraction, other.served_fraction, gap),
            accuracy=_proven(self.plan, other, self.plan.accuracy, other.accuracy, gap),
            cores=self.plan.cores - other.cores,
        )

    def what_if(self, changed: Sequence[Problem], near: float) -> WhatIf:
        """What the most helpful of these changes buys."""
        found = [WhatIf(self.gain(self.world.plan(problem)), *self.world.ends(problem, near)) for problem in changed]
        return max(found, key=lambda w: (w.gain.served_per_s, w.gain.accuracy, w.hardware_until, w.accuracy_until))

    def limits(self) -> Iterator[Limit]:
        """The constraints that bind."""
        problem, settings = self.world.problem, self.world.problem.settings
        slo_s = problem.graph.pipeline.slo_s
        slowest = max((path.latency_s for path in self.plan.paths), default=0.0)
        yield from self._grown("slo", slowest, slo_s, lambda factor: self.world.changed(slo_s=slo_s * factor))
        yield from self._grown(
            "cores",
            self.plan.cores,
            float(problem.cores),
            lambda factor: self.world.changed(
                nodes=[msgspec.structs.replace(node, cores=int(node.cores) * factor) for node in problem.nodes]
            ),
        )
        if any(node.memory_bytes for node in problem.nodes):
            anywhere = [msgspec.structs.replace(node, memory_bytes=0) for node in problem.nodes]
            total = float(sum(node.memory_bytes for node in problem.nodes))
            yield from self._lifted("memory", self._memory(), total, self.world.changed(nodes=anywhere))
        most = max(choice.gpus for choices in problem.choices for choice in choices)
        if most:
            anywhere = [msgspec.structs.replace(node, gpus=most * int(node.cores)) for node in problem.nodes]
            yield from self._lifted("gpus", self._gpus(), float(problem.gpus), self.world.changed(nodes=anywhere))
        if settings.min_accuracy > 0.0:
            free = self.world.changed(min_accuracy=0.0)
            yield from self._lifted("min_accuracy", self.plan.accuracy, settings.min_accuracy, free, least=True)
        for stage, bounds in settings.replicas.items():
            used = float(sum(group.replicas for group in self.plan.stages[stage].groups))
            if bounds.least > 1:
                free = self.world.changed(replicas={stage: replace(bounds, least=1)})
                yield from self._lifted("replicas", used, bounds.least, free, stage, least=True)
            if bounds.most is not None:
                free = self.world.changed(replicas={stage: replace(bounds, most=None)})
                yield from self._lifted("replicas", used, bounds.most, free, stage)

    def _grown(
        self, constraint: Constraint, used: float, allowed: float, changed: Callable[[float], Problem]
    ) -> Iterator[Limit]:
        for factor in _FACTORS:
            gain = self.gain(self.world.plan(changed(factor)))
            if gain.better:
                yield Limit(constraint, "", used, allowed, least=False, factor=factor, gain=gain)
                return

    def _lifted(
        self,
        constraint: Constraint,
        used: float,
        allowed: float,
        changed: Problem,
        stage: str = "",
        *,
        least: bool = False,
    ) -> Iterator[Limit]:
        gain = self.gain(self.world.plan(changed))
        if gain.better:
            yield Limit(constraint, stage, used, allowed, least=least, factor=0.0, gain=gain)

    def _memory(self) -> float:
        """Bytes of all replicas."""
        measured = self.world.profile.stages
        return float(
            sum(
                group.replicas * measured[stage][variant].memory_bytes
                for stage, planned in self.plan.stages.items()
                for group in planned.groups
                for variant in group.variants
            )
        )

    def _gpus(self) -> float:
        """Devices of all lanes."""
        stages = self.world.problem.graph.pipeline.stages
        return float(
            sum(
                mine.lanes * stages[stage].variant(variant).gpus
                for stage, planned in self.plan.stages.items()
                for variant, mine in planned.variants.items()
            )
        )


def _proven(before: Plan, after: Plan, was: float, is_now: float, gap: float) -> float:
    """The difference, if it is more than the search for the smaller one may have missed."""
    worse = before if is_now > was else after
    # A plan that proves nothing (greedy, one way) is taken to be as good as a search would end with.
    missed = worse.gap if worse.gap < 1.0 else gap
    return is_now - was if abs(is_now - was) > max(missed, gap) * max(was, is_now) + 1e-9 else 0.0


def _with_one_more_core(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """The nodes with a core more on one of them, once for each kind of node."""
    kinds: set[tuple[int, int, int]] = set()
    for index, node in enumerate(nodes):
        kind = (int(node.cores), node.memory_bytes, node.gpus)
        if kind not in kinds:
            kinds.add(kind)
            grown = msgspec.structs.replace(node, cores=int(node.cores) + 1)
            yield [*nodes[:index], grown, *nodes[index + 1 :]]


def _slowest(problem: Problem, plan: Plan) -> SlowestPath | None:
    path = max((path for path in plan.paths if path.share > 0.0), key=lambda path: path.latency_s, default=None)
    if path is None:
        return None
    route = _along(problem, plan, path)
    stage, seconds = max(route, key=lambda pair: pair[1])
    return SlowestPath(
        variants=dict(path.variants),
        route=tuple(name for name, _ in route),
        latency_s=path.latency_s,
        slo_s=problem.graph.pipeline.slo_s,
        stage=stage,
        stage_s=seconds,
    )


def _along(problem: Problem, plan: Plan, path: PathPlan) -> list[tuple[str, float]]:
    """(stage, seconds) along the slowest route through the graph that a request of this path takes."""
    graph = problem.graph
    routes: list[list[tuple[str, float]]] = []
    for stage, parents in enumerate(graph.parents):
        name = graph.stages[stage]
        mine = plan.stages[name].variants[path.variants[name]]
        before = max((routes[parent] for parent in parents), key=_seconds, default=[])
        routes.append([*before, (name, mine.latency_s + mine.wait_s)])
    return max(routes, key=_seconds)


def _seconds(route: Sequence[tuple[str, float]]) -> float:
    return sum(seconds for _, seconds in route)


def _end(holds: Callable[[float], bool], near: float) -> float:
    """The highest demand at which `holds`, which no higher one does, looked for from `near`; 0 where none does."""
    low = high = near if near > 0.0 else 1.0
    factor = 1.0 + _PRECISION
    if holds(low):
        while holds(high := low * factor):
            low, factor = high, factor**3
    else:
        while not holds(low := high / factor):
            high, factor = low, factor**3
            if low < _NOTHING:
                return 0.0
    while high - low > _PRECISION * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
