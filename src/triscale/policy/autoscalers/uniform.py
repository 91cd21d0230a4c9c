"""Plans in which all replicas of a stage are alike: n processes of one lane with c threads, and one variant.

That is what the published systems that know neither lanes nor variants can say: an instance is a pod with c cores
whose intra-op threads share one batch, and its model is the most accurate one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from triscale.core.cluster import Node
from triscale.core.figures import milliseconds
from triscale.core.graph import Graph
from triscale.core.plan import PathPlan, Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import Profile
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.latency import LatencyModel
from triscale.policy.optimise.themis import Instances

__all__ = ["Fleet", "UniformPlans", "fits"]

Fleet: TypeAlias = tuple[Instances, ...]
"""What each stage has, in the graph's order."""

_LEAST_ITEMS = 1e-6
"""Items per request of a stage that no item is known to reach."""


class UniformPlans:
    """Between fleets and plans of one pipeline. ConfigError where not every stage can have a core of its own."""

    def __init__(self, policy: str, setting: Setting) -> None:
        self._policy = policy
        graph = self.graph = setting.graph
        cores = sum(int(node.cores) for node in setting.nodes)
        if cores < len(graph.stages):
            raise ConfigError(
                f"policy: {policy} gives every stage replicas with cores of their own, and {cores} cores are too few "
                f"for {len(graph.stages)} stages; add cores, or use a policy whose stages share them (triscale, static)"
            )
        self._specs = [graph.pipeline.stages[name] for name in graph.stages]
        chosen = [_most_accurate(graph, setting.profile, s) for s in range(len(graph.stages))]
        self.variants = tuple(graph.variants[s][v] for s, v in enumerate(chosen))
        """The most accurate variant of each stage, the fastest of equals."""
        self.profiles = tuple(
            setting.profile.stages[name][variant] for name, variant in zip(graph.stages, self.variants, strict=True)
        )
        self._latency = [LatencyModel(profile, "p99") for profile in self.profiles]
        self.items = _items(graph, setting.profile, chosen)
        """Items that a request becomes at each stage; never 0."""
        names = dict(zip(graph.stages, self.variants, strict=True))
        measured = [path.accuracy for path in setting.profile.paths if dict(path.variants) == names]
        accuracies = [_accuracy(graph, setting.profile, s, v) for s, v in enumerate(chosen)]
        self._accuracy = measured[0] if measured else math.prod(accuracies)

    def latency_s(self, stage: int, batch: int, threads: int) -> float:
        """The 99th percentile of a batch's service."""
        return self._latency[stage](batch, threads)

    def most_batch(self, stage: int) -> int:
        """The largest batch that the stage's variant takes."""
        return self._specs[stage].variant(self.variants[stage]).max_batch

    def slowest_path_s(self, latencies: Sequence[float]) -> float:
        """Seconds from the root to the end of the last stage, given each stage's."""
        ends: list[float] = []
        for parents, seconds in zip(self.graph.parents, latencies, strict=True):
            ends.append(max((ends[parent] for parent in parents), default=0.0) + seconds)
        return max(ends)

    def running(self, plan: Plan) -> Fleet:
        """What a plan gives each stage; at least one instance of one core, so that there is something to start from."""
        fleet: list[Instances] = []
        for name, variant in zip(self.graph.stages, self.variants, strict=True):
            stage = plan.stages.get(name, StagePlan(variants={}))
            count = sum(group.replicas for group in stage.groups)
            cores = max((group.lanes * group.threads for group in stage.groups), default=1)
            planned = stage.variants.get(variant)
            fleet.append(Instances(max(1, count), cores, planned.batch if planned else 1))
        return tuple(fleet)

    def fitted(
        self, fleet: Fleet, kept: Sequence[int], nodes: Sequence[Node], capacity: Callable[[int, Instances], float]
    ) -> Fleet:
        """The fleet within the stages' bounds and the nodes' cores.

        While it does not fit, one replica goes or the replicas of one stage lose a core each: whichever leaves the
        pipeline the most `capacity` (of a stage with so many instances). Of each stage `kept` replicas stay as long
        as that is possible: those that run, where a plan only adds to them.
        """
        fleet = tuple(
            replace(mine, count=max(spec.min_replicas, min(mine.count, spec.max_replicas or mine.count)))
            for mine, spec in zip(fleet, self._specs, strict=True)
        )
        kept = [max(count, spec.min_replicas) for count, spec in zip(kept, self._specs, strict=True)]
        while not fits(fleet, nodes):
            smaller = list(_smaller(fleet, kept)) or list(_smaller(fleet, [1] * len(fleet)))
            if not smaller:
                return fleet
            fleet = max(smaller, key=lambda f: (min(capacity(s, mine) for s, mine in enumerate(f)), -_cores(f)))
        return fleet

    def plan(self, fleet: Fleet, demand: float, *, capacity: float, feasible: bool, reason: str) -> Plan:
        """The plan that runs the fleet."""
        stages: dict[str, StagePlan] = {}
        latencies: list[float] = []
        for s, (name, variant, mine) in enumerate(zip(self.graph.stages, self.variants, fleet, strict=True)):
            seconds = self._latency[s](mine.batch, mine.cores)
            stages[name] = StagePlan(
                variants={
                    variant: VariantPlan(
                        share=1.0,
                        batch=mine.batch,
                        threads=mine.cores,
                        lanes=mine.count,
                        replicas=mine.count,
                        utilisation=demand * self.items[s] * seconds / (mine.batch * mine.count),
                        latency_s=seconds,
                    )
                },
                groups=(ReplicaGroup(variants=(variant,), replicas=mine.count, lanes=1, threads=mine.cores),),
                linger_s=self._specs[s].linger_ms / 1000.0,
            )
            latencies.append(seconds)
        path_s = self.slowest_path_s(latencies)
        alone_s = self.slowest_path_s([self._latency[s](1, mine.cores) for s, mine in enumerate(fleet)])
        slo_ms = self.graph.pipeline.slo_ms
        if 1e3 * alone_s > slo_ms:
            feasible = False
            reason = (
                f"the most accurate variants, which {self._policy} runs, take {milliseconds(1e3 * alone_s)} on "
                f"{' + '.join(str(mine.cores) for mine in fleet)} cores, and the objective is {slo_ms:g} ms: nothing "
                f"can be in time; {reason}"
            )
        names = dict(zip(self.graph.stages, self.variants, strict=True))
        return Plan(
            stages=stages,
            demand=demand,
            capacity=capacity,
            accuracy=self._accuracy,
            cores=float(_cores(fleet)),
            mode="hardware" if feasible else "overload",
            feasible=feasible,
            paths=(PathPlan(variants=names, share=1.0, latency_s=path_s, accuracy=self._accuracy),),
            solver=self._policy,
            reason=reason,
        )


def fits(fleet: Fleet, nodes: Sequence[Node]) -> bool:
    """Whether the replicas find room on the nodes that are ready, the largest first."""
    room = [int(node.cores) for node in nodes if node.ready]
    for mine in sorted(fleet, key=lambda mine: -mine.cores):
        left = mine.count
        for i, free in enumerate(room):
            here = min(left, free // mine.cores)
            room[i] -= here * mine.cores
            left -= here
        if left > 0:
            return False
    return True


def _cores(fleet: Fleet) -> int:
    return sum(mine.count * mine.cores for mine in fleet)


def _smaller(fleet: Fleet, kept: Sequence[int]) -> list[Fleet]:
    """Every fleet that has one replica less, or one core less per replica, at one stage."""
    found: list[Fleet] = []
    for s, mine in enumerate(fleet):
        fewer = [replace(mine, count=mine.count - 1)] if mine.count > max(1, kept[s]) else []
        thinner = [replace(mine, cores=mine.cores - 1)] if mine.cores > 1 else []
        found += [(*fleet[:s], less, *fleet[s + 1 :]) for less in (*fewer, *thinner)]
    return found


def _most_accurate(graph: Graph, profile: Profile, stage: int) -> int:
    def worth(variant: int) -> tuple[float, float]:
        measured = profile.stages[graph.stages[stage]][graph.variants[stage][variant]]
        return _accuracy(graph, profile, stage, variant), -LatencyModel(measured, "p99")(1)

    return max(range(len(graph.variants[stage])), key=worth)


def _accuracy(graph: Graph, profile: Profile, stage: int, variant: int) -> float:
    measured = profile.stages[graph.stages[stage]][graph.variants[stage][variant]].accuracy
    return graph.accuracy[stage][variant] if measured is None else measured


def _items(graph: Graph, profile: Profile, chosen: Sequence[int]) -> tuple[float, ...]:
    """Mean items per request at each stage, by the profile, else by the pipeline file."""
    items = [0.0] * len(graph.stages)
    items[0] = 1.0
    for s, v in enumerate(chosen):
        if graph.joins[s]:
            items[s] = 1.0
        name, variant = graph.stages[s], graph.variants[s][v]
        measured = profile.stages[name][variant].fan_out
        stated = graph.pipeline.stages[name].variant(variant).fan_out
        for child in graph.children[s]:
            below = graph.stages[child]
            items[child] += items[s] * measured.get(below, stated.get(below, 1.0))
    return tuple(max(_LEAST_ITEMS, mean) for mean in items)
