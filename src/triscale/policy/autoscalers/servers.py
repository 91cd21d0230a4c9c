"""What Loki and the systems it was compared with have in common: servers that hold one variant each.

A server is a replica of one lane with one thread on one core. It is never resized and serves on its variant alone, so
another variant takes the place of the old one: it is loaded while the old one serves, or, where an engine cannot do
that, in another server that is launched while the old one drains. As much of a stage's latency as the service itself
takes is set aside for waiting, so batches fill half the SLO (a query that just misses a batch waits for all of it), and
latencies are medians. Where even the fastest variants' path does not fit half the SLO, nothing is set aside: the
published programs find no plan at all then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from triscale.core.cluster import Node
from triscale.core.plan import Plan
from triscale.core.profile import Profile
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.optimise.budgets import fastest_path_s
from triscale.policy.optimise.compiled import compiled
from triscale.policy.optimise.points import TOLERANCE
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import Settings as PlannerSettings
from triscale.policy.optimise.solve import solve

__all__ = [
    "SERVERS",
    "Beta",
    "Com",
    "FanOut",
    "ServerPlanner",
    "demand_at",
    "server_problem",
    "step_of",
]

SERVERS = PlannerSettings(
    wait="half_slo", service_quantile="p50", utilisation=1.0, threads=(1,), replica_cores=1, node_limit=2000
)
"""How the family plans: see the module."""
_STEP = 1.01
"""Demands are rounded up to a step of 1 %, so that a plan can be used again."""
_LEAST = 1e-3
"""Requests/s up to which there is no demand."""
_MOST_PLANS = 2048
_OTHER = 0.05
"""Relative change of a measured fan-out from which on plans are made with the new one."""

FanOut: TypeAlias = Mapping[tuple[str, str], Mapping[str, float]]
"""(stage, variant) -> child -> items per item."""

Com: TypeAlias = Annotated[float, Meta(ge=0.0, description="a number of seconds from 0 on")]
Beta: TypeAlias = Annotated[float, Meta(ge=1.0, description="a factor of at least 1")]
"""Options that the family has in common."""


def step_of(demand: float) -> int:
    """Where a demand stands on a scale of steps of 1 %, rounded up; demands on the same step get the same plan."""
    return max(0, math.ceil(math.log(demand / _LEAST) / math.log(_STEP) - 1e-9)) if demand > 0.0 else 0


def demand_at(step: int) -> float:
    """The demand at a step; none at step 0."""
    return _LEAST * float(_STEP**step) if step else 0.0


def server_problem(policy: str, setting: Setting, fan_out: FanOut) -> Problem:
    """The planning problem with the profile's fan-outs, or these where they are measured.

    ConfigError where not every stage can have a server.
    """
    cores = sum(int(node.cores) for node in setting.nodes)
    if cores < len(setting.graph.stages):
        raise ConfigError(
            f"policy: {policy} gives every stage servers of one core of its own, and {cores} cores are too few for "
            f"{len(setting.graph.stages)} stages; add cores, or use a policy whose stages share them (triscale, static)"
        )
    settings = replace(SERVERS, min_accuracy=setting.min_accuracy)
    profile = _with_fan_out(setting, fan_out)
    problem = Problem.of(setting.graph, profile, 0.0, setting.nodes, settings)
    if fastest_path_s(problem) > problem.budget_s * (1.0 + TOLERANCE):
        problem = Problem.of(setting.graph, profile, 0.0, setting.nodes, replace(settings, wait="none"))
    return problem


def _with_fan_out(setting: Setting, fan_out: FanOut) -> Profile:
    profile, graph = setting.profile, setting.graph
    stages = {}
    for s, stage in enumerate(graph.stages):
        stages[stage] = dict(profile.stages[stage])
        for spec in graph.pipeline.stages[stage].variants:
            known = {**spec.fan_out, **profile.stages[stage][spec.name].fan_out, **fan_out.get((stage, spec.name), {})}
            emitted = {graph.stages[c]: known.get(graph.stages[c], 1.0) for c in graph.children[s]}
            stages[stage][spec.name] = msgspec.structs.replace(stages[stage][spec.name], fan_out=emitted)
    return msgspec.structs.replace(profile, stages=stages)


class ServerPlanner:
    """Plans for a demand on servers, by the two steps of Loki's resource manager; both are exact.

    1. The most accurate variants alone, on as few servers as carry the demand.
    2. Where all servers do not: all variants, for the highest accuracy with which they do.

    What no variants carry is best effort: as much of it as can be. `beta` is how much more than the demand every stage
    is planned for. `only_best` leaves out step 2. Among plans of the same worth the one that changes least of `running`
    is taken.
    """

    def __init__(self, policy: str, setting: Setting, beta: float, *, only_best: bool = False) -> None:
        self._policy = policy
        self._setting = setting
        self._beta = beta
        self._only_best = only_best
        self._fan_out: FanOut = {}
        self._nodes = tuple(setting.nodes)
        self._plans: dict[int, Plan] = {}
        """By the step of the demand, on these nodes."""
        self._problem = self._compile()

    @property
    def problem(self) -> Problem:
        """What is solved, for no demand in particular."""
        return self._problem

    def plan(self, demand: float, nodes: Sequence[Node], running: Plan | None) -> Plan:
        """The plan for `beta` times so many requests/s, rounded up by at most 1 %. The same one when asked again."""
        if tuple(nodes) != self._nodes:
            self._nodes = tuple(nodes)
            self._plans.clear()
        step = step_of(self._beta * demand)
        found = self._plans.get(step)
        if found is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            found = self._plans[step] = solve(self._problem.at(demand_at(step), nodes, running))
        return found

    def learn(self, fan_out: FanOut) -> None:
        """Plan with measured fan-outs from now on, if they are others than before."""
        known = {key: dict(means) for key, means in fan_out.items()}
        if any(
            abs(items - self._expected(key, child)) > _OTHER * max(self._expected(key, child), 1e-9)
            for key, means in known.items()
            for child, items in means.items()
        ):
            self._fan_out = known
            self._plans.clear()
            self._problem = self._compile()

    def _expected(self, key: tuple[str, str], child: str) -> float:
        if key in self._fan_out and child in self._fan_out[key]:
            return self._fan_out[key][child]
        stage, variant = key
        stated = self._setting.graph.pipeline.stages[stage].variant(variant).fan_out.get(child, 1.0)
        return self._setting.profile.stages[stage][variant].fan_out.get(child, stated)

    def _compile(self) -> Problem:
        problem = server_problem(self._policy, self._setting, self._fan_out)
        return _most_accurate(problem) if self._only_best else problem


def _most_accurate(problem: Problem) -> Problem:
    """The problem without any variants but those of the most accurate way that meets the SLO."""
    ways = compiled(problem).ways
    if not len(ways):
        return problem
    best = ways.variants[int(ways.accuracy.argmax())].tolist()
    choices = tuple(
        tuple(choice if v == best[s] else replace(choice, points=()) for v, choice in enumerate(choices))
        for s, choices in enumerate(problem.choices)
    )
    return replace(problem, choices=choices, memo={})
