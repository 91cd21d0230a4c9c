"""Plans for a cluster whose cores are one pool: every stage on every node in use, all its variants resident.

A core of a node in use runs whichever item is due first, of whatever stage, on whatever variant. So there is nothing
to partition, a change of variants takes effect with the next batch, and more cores are more open lanes, not another
process. Only a node that is not in use yet has to start replicas.

Where a node's memory does not hold all variants, those that are resident follow what plans with all of them would use
(`residency.py`): others are loaded in their place while the rest serve.

What the planner says for so many cores and so much demand is remembered: demands are rounded up by at most 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import Profile
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.residency import Residency, is_worth
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import Settings
from triscale.policy.optimise.solve import solve

__all__ = ["PooledPlanner"]

_STEP = 1.02
"""Demands are rounded up to a power of this."""
_MOST_PLANS = 4096
_MOST_STEPS = 600
_LEAST_FORESEEN = 0.5
"""Requests/s below which no plan is made ahead."""
_MOST_STATES = 16
_MOVED = 0.1
"""Relative change of a latency or a fan-out from which on plans are made anew."""


class PooledPlanner:
    """Plans for a demand on a number of cores, and their spread over nodes."""

    def __init__(self, setting: Setting, settings: Settings | None = None) -> None:
        self._setting = setting
        self._settings = settings or Settings(sharing="shared", min_accuracy=setting.min_accuracy)
        self._cores = max(1, sum(int(node.cores) for node in setting.nodes))
        self._residency = Residency(setting)
        self._asked = 0, 0
        """The step of the demand, and the cores, of the last plan that was asked for."""
        self._lanes_of_one = True
        self._drift: dict[tuple[str, str], float] = {}
        self._fan_out: dict[tuple[str, str], Mapping[str, float]] = {}
        self._plans: dict[tuple[int, int], Plan] = {}
        self._states: dict[object, tuple[Problem, dict[tuple[int, int], Plan]]] = {}
        """What was measured -> the problem with it, and its plans."""
        self._others: dict[object, tuple[Problem, dict[tuple[int, int], Plan]]] = {}
        """Other variants that may be resident -> the problem with them, and its plans."""
        self._problem = self._compile(self.resident)
        if not self._settings.threads and not self.plan(0.0, self._cores).feasible:
            # One lane's latency does not fit: only then do more threads earn what they cost in throughput.
            self._lanes_of_one = False
            self._problem = self._compile(self.resident)
            self._plans.clear()

    @property
    def resident(self) -> Mapping[str, tuple[str, ...]]:
        """Stage -> the variants that each of its replicas holds, most accurate first."""
        return self._residency.variants

    def plan(self, demand: float, cores: int) -> Plan:
        """The plan for so many requests/s on at most so many cores of one node; the node is called `pool`."""
        self._asked = _step_of(demand), cores
        return self._step(*self._asked)

    def foresee(self, demand: float, cores: int) -> bool:
        """Make one plan that a rise from `demand` would need; False when all of them, up to overload, are known."""
        step = _step_of(max(demand, _LEAST_FORESEEN))
        for higher in range(step, step + _MOST_STEPS):
            known = self._plans.get((higher, cores))
            if known is None:
                self._step(higher, cores)
                return True
            if known.mode == "overload":
                return False
        return False

    def _step(self, step: int, cores: int) -> Plan:
        found = self._plans.get((step, cores))
        if found is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            found = self._plans[step, cores] = _solve(self._problem, step, cores)
        return found

    def learn(
        self, drift: Mapping[tuple[str, str], float], fan_out: Mapping[tuple[str, str], Mapping[str, float]]
    ) -> bool:
        """Take measured latencies and fan-outs into account; True when plans will be others from now on.

        All of them are taken over when one has moved away by a tenth from what plans are made with. Where memory is
        scarce, the resident variants become those that the latest demand is best served with.
        """
        moved = self._learn(drift, fan_out)
        return self._rehouse() or moved

    def _learn(
        self, drift: Mapping[tuple[str, str], float], fan_out: Mapping[tuple[str, str], Mapping[str, float]]
    ) -> bool:
        if not self._moved(drift, fan_out):
            return False
        self._drift = {key: _rounded(value) for key, value in drift.items()}
        self._fan_out = {
            key: {child: _rounded(items) for child, items in means.items()} for key, means in fan_out.items()
        }
        # Measurements swing: what was planned with the like of them before is still known.
        state = (tuple(sorted(self._drift.items())), tuple((k, *sorted(m.items())) for k, m in self._fan_out.items()))
        if state not in self._states:
            if len(self._states) >= _MOST_STATES:
                self._states.clear()
            self._states[state] = self._compile(self.resident), {}
        self._problem, self._plans = self._states[state]
        self._others.clear()
        return True

    def _rehouse(self) -> bool:
        """Have other variants resident if the latest demand is worth it."""
        step, cores = self._asked
        if not self._residency.scarce or cores < 1:
            return False
        every = {name: self._setting.graph.variants[s] for s, name in enumerate(self._setting.graph.stages)}
        chosen = self._residency.for_plan(self._with(every, step, cores))
        if chosen == self.resident or not is_worth(self._with(chosen, step, cores), self._step(step, cores)):
            return False
        self._residency.variants = chosen
        self._problem, self._plans = self._others[tuple(chosen.items())]
        self._others.clear()
        self._states.clear()
        return True

    def _with(self, resident: Mapping[str, tuple[str, ...]], step: int, cores: int) -> Plan:
        """The plan if these variants were resident."""
        key = tuple(resident.items())
        if key not in self._others:
            if len(self._others) >= _MOST_STATES:
                self._others.clear()
            self._others[key] = self._compile(resident), {}
        problem, plans = self._others[key]
        if (step, cores) not in plans:
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plans[step, cores] = _solve(problem, step, cores)
        return plans[step, cores]

    def _moved(
        self, drift: Mapping[tuple[str, str], float], fan_out: Mapping[tuple[str, str], Mapping[str, float]]
    ) -> bool:
        if any(_differ(drift.get(key, 1.0), self._drift.get(key, 1.0)) for key in {*drift, *self._drift}):
            return True
        return any(
            _differ(items, self._emitted(key, child))
            for key, means in fan_out.items()
            for child, items in means.items()
        )

    def _emitted(self, key: tuple[str, str], child: str) -> float:
        """Items for a child per item, as plans are made with."""
        if key in self._fan_out:
            return self._fan_out[key].get(child, 1.0)
        stage, variant = key
        stated = self._setting.graph.pipeline.stages[stage].variant(variant).fan_out.get(child, 1.0)
        return self._setting.profile.stages[stage][variant].fan_out.get(child, stated)

    def spread(self, plan: Plan, grants: Mapping[NodeId, int], hosts: Sequence[NodeId]) -> Plan:
        """The plan on these nodes, of which each grants so many cores to its lanes; other nodes run nothing."""
        stages: dict[str, StagePlan] = {}
        total = sum(grants.get(node, 0) for node in hosts)
        for name, planned in plan.stages.items():
            threads = max((v.threads for v in planned.variants.values()), default=1)
            groups = tuple(
                ReplicaGroup(
                    variants=self.resident[name],
                    replicas=1,
                    lanes=max(1, grants.get(node, 0) // threads),
                    threads=threads,
                    node=node,
                    memory_bytes=self._residency.rooms[name],
                )
                for node in hosts
            )
            variants: Mapping[str, VariantPlan] = {
                variant: msgspec.structs.replace(each, lanes=max(1, total // threads), replicas=len(hosts))
                for variant, each in planned.variants.items()
            }
            if not variants:
                # Nothing can be carried in time; what is there serves as it can, on the fastest that is resident.
                fastest = self.fastest(name)
                variants = {fastest: VariantPlan(share=1.0, lanes=max(1, total), replicas=len(hosts))}
            stages[name] = msgspec.structs.replace(planned, variants=variants, groups=groups)
        return msgspec.structs.replace(
            plan,
            stages=stages,
            cores=float(total),
            shared_cores=float(max((grants.get(node, 0) for node in hosts), default=0)) or 1.0,
            node_cores={node.id: float(grants.get(node.id, 0)) for node in self._setting.nodes},
        )

    def work_s(self, plan: Plan) -> dict[str, float]:
        """Core-seconds that an item of each stage costs by the plan."""
        found: dict[str, float] = {}
        for name, planned in plan.stages.items():
            found[name] = sum(v.share * v.latency_s * v.threads / max(1, v.batch) for v in planned.variants.values())
        return found

    def fastest(self, stage: str) -> str:
        """The resident variant of a stage whose single item takes least time."""
        profiles = self._setting.profile.stages[stage]
        return min(self.resident[stage], key=lambda v: min(point.p95_s for point in profiles[v].latency))

    def _compile(self, resident: Mapping[str, Sequence[str]]) -> Problem:
        setting = self._setting
        graph = _only(setting.graph, resident)
        profile = setting.profile
        if self._fan_out:
            profile = _with_fan_out(profile, self._fan_out)
        if graph is not setting.graph:
            held = [p for p in profile.paths if all(v in resident[stage] for stage, v in p.variants.items())]
            profile = msgspec.structs.replace(profile, paths=tuple(held))
        settings = self._settings
        if self._lanes_of_one and not settings.threads:
            settings = replace(settings, threads=(1,))
        return Problem.of(graph, profile, 1.0, self._cores, settings, drift=self._drift)


def _solve(problem: Problem, step: int, cores: int) -> Plan:
    return solve(problem.at(_STEP**step, nodes=(Node(id=NodeId("pool"), cores=cores),)))


def _only(graph: Graph, resident: Mapping[str, Sequence[str]]) -> Graph:
    """The graph with these variants alone."""
    if all(len(resident[name]) == len(graph.variants[s]) for s, name in enumerate(graph.stages)):
        return graph
    pipeline = graph.pipeline
    stages = {
        name: msgspec.structs.replace(stage, variants=tuple(v for v in stage.variants if v.name in resident[name]))
        for name, stage in pipeline.stages.items()
    }
    return Graph.of(msgspec.structs.replace(pipeline, stages=stages))


def _differ(a: float, b: float) -> bool:
    """Whether two factors are more than a tenth, or a twentieth of an item, apart."""
    return abs(a - b) > max(_MOVED * b, _MOVED / 2.0)


def _step_of(demand: float) -> int:
    """The least power of `_STEP` that is no less."""
    return math.ceil(math.log(max(demand, 1e-3)) / math.log(_STEP) - 1e-9)


def _rounded(value: float) -> float:
    """To about a twentieth, on a scale of equal ratios."""
    return math.exp(round(math.log(value) / (_MOVED / 2.0)) * (_MOVED / 2.0)) if value > 0.0 else 0.0


def _with_fan_out(profile: Profile, means: Mapping[tuple[str, str], Mapping[str, float]]) -> Profile:
    stages = {
        stage: {
            variant: msgspec.structs.replace(measured, fan_out=dict(means[stage, variant]))
            if (stage, variant) in means
            else measured
            for variant, measured in variants.items()
        }
        for stage, variants in profile.stages.items()
    }
    return msgspec.structs.replace(profile, stages=stages)
