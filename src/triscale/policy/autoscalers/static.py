"""A plan that never changes: the most accurate variants that meet the objective on the cores given.

All lanes of a machine share its cores: each stage has a lane for every core, and a core goes to whichever item is
due first. That needs no partition of few cores among many stages, and none of them idles while work waits.

`static_plan` knows cores but no demand. `Static` makes an autoscaler of it: the baseline that is provisioned once, for
the cores there are or, by the planner, for the demand that is stated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from triscale.core.cluster import Node, NodeId
from triscale.core.figures import milliseconds, percent
from triscale.core.graph import Graph
from triscale.core.plan import PathPlan, Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import Profile
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import read_options
from triscale.policy.autoscalers.pooled import PooledPlanner
from triscale.policy.latency import LatencyModel
from triscale.policy.optimise.ways import routes

__all__ = ["Static", "StaticOptions", "needed", "on_nodes", "static_plan"]

_HEADROOM = 0.6
"""Part of the SLO that an otherwise idle pipeline may use; the rest is for waiting."""
_UTILISATION = 0.95
"""Part of the cores' time that is counted on."""
_DOOR_S = 100e-6
_DOOR_ITEM_S = 30e-6
"""What a request, and each of its items, costs the server itself on the cores it shares with the replicas: measured
with the identity and digits examples. Nothing next to real models, much next to those of the digits."""
_BATCH_GAIN = 0.95
"""A larger batch is chosen only when it makes an item at least 5 % cheaper."""
_MOST_COMBINATIONS = 20_000


class StaticOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `static`."""

    demand: Annotated[Annotated[float, Meta(ge=0.0)] | None, Meta(description="a number of requests/s from 0 on")] = (
        None
    )
    """What the planner is to provide for, at the highest accuracy and with the fewest cores; None: all cores are used,
    for the most accurate variants that an idle pipeline runs in 60 % of the SLO, however many requests come."""
    cores: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="a whole number of cores, at least 1")] = None
    """Most cores that are used; None = all."""
    variants: Annotated[
        Mapping[str, str], Meta(description="stages with the name of a variant for each, such as {detect: small}")
    ] = {}
    """Stage -> its variant; the rest is chosen. Not with `demand`, for which the planner chooses."""


class Static:
    """See the module. `options` are `StaticOptions`. The expected demand does not change its plan."""

    name = "static"
    tick_s = 1.0
    dispatch = Settings()

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.options = options = read_options(self.name, StaticOptions, setting.options)
        self._cores = sum(int(node.cores) for node in setting.nodes if node.ready)
        problems = [*_unknown_variants(setting.graph, options.variants)]
        if options.demand is not None and options.variants:
            problems.append(
                "policy.options.variants: are chosen by the planner where `demand` is stated; leave one of them out"
            )
        if self._cores < 1 or (options.cores or 1) > self._cores:
            problems.append(f"policy.options.cores: is {options.cores or 1}, but the nodes have {self._cores}")
        if problems:
            raise ConfigError(*problems)

    def first(self, demand: float) -> Plan:  # noqa: ARG002 - it is provisioned for what its options say
        """The plan."""
        setting, options = self._setting, self.options
        cores = options.cores or self._cores
        planner = PooledPlanner(setting)
        if options.demand is None:
            plan = static_plan(setting.graph, setting.profile, cores, options.variants)
        else:
            plan = planner.plan(options.demand, cores)
            cores = needed(plan, cores)
        return on_nodes(planner, plan, setting.nodes, cores)

    def decide(self, snapshot: Snapshot) -> Plan:
        """The same plan."""
        return snapshot.plan


def needed(plan: Plan, cores: int) -> int:
    """How many of so many cores a plan of the pooled planner is to have: all, unless the best variants need fewer."""
    return max(1, math.ceil(plan.cores - 1e-9)) if plan.mode == "hardware" else cores


def on_nodes(planner: PooledPlanner, plan: Plan, nodes: Sequence[Node], cores: int) -> Plan:
    """The plan on so many cores of as few nodes as have them, in their order; the other nodes grant nothing."""
    grants: dict[NodeId, int] = {}
    for node in nodes:
        here = min(cores, int(node.cores)) if node.ready else 0
        if here > 0:
            grants[node.id] = here
            cores -= here
    return planner.spread(plan, grants, list(grants))


def _unknown_variants(graph: Graph, variants: Mapping[str, str]) -> Iterator[str]:
    for stage, variant in variants.items():
        where = f"policy.options.variants.{stage}"
        if stage not in graph.stages:
            yield f"{where}: the pipeline has no such stage; it has {', '.join(graph.stages)}"
        elif variant not in graph.variants[graph.stage(stage)]:
            known = ", ".join(graph.variants[graph.stage(stage)])
            yield f"{where}: there is no variant {variant!r}; there are {known}"


@dataclass(frozen=True, slots=True)
class _Choice:
    """One variant per stage, and what follows from it."""

    variants: tuple[int, ...]
    batches: tuple[int, ...]
    latency_s: float
    """Through an idle pipeline, of a request with the mean fan-out."""
    work_s: float
    """Core-seconds per request."""
    accuracy: float


def static_plan(graph: Graph, profile: Profile | None, cores: int, variants: Mapping[str, str] | None = None) -> Plan:
    """The plan for `cores` cores of one node. `variants` (stage -> variant) fixes choices, the rest is chosen.

    Without a profile nothing is known of latencies: the most accurate variants are taken as they are. KeyError
    when `variants` names what the pipeline does not have.
    """
    fixed = {graph.stage(stage): graph.variant(graph.stage(stage), name) for stage, name in (variants or {}).items()}
    if profile is None:
        chosen = _unknown(graph, fixed)
        capacity, reason = 0.0, "no profile: the most accurate variants, latencies are learned as they run"
    else:
        choices = list(_choices(graph, profile, cores, fixed))
        limit = _HEADROOM * graph.pipeline.slo_s
        fitting = [choice for choice in choices if choice.latency_s <= limit]
        if fitting:
            chosen = max(fitting, key=lambda c: (c.accuracy, -c.work_s))
            reason = f"the most accurate variants whose path takes at most {percent(_HEADROOM, 0)} of the SLO"
        else:
            chosen = min(choices, key=lambda c: c.latency_s)
            reason = (
                f"no variants' path takes at most {percent(_HEADROOM, 0)} of the SLO: the fastest ones, which take "
                f"{milliseconds(1e3 * chosen.latency_s)} of {graph.pipeline.slo_ms:g} ms"
            )
        capacity = _UTILISATION * cores / chosen.work_s if chosen.work_s > 0 else 0.0
    return _plan(graph, profile, chosen, cores, capacity, reason)


def _plan(graph: Graph, profile: Profile | None, chosen: _Choice, cores: int, capacity: float, reason: str) -> Plan:
    stages: dict[str, StagePlan] = {}
    for s, name in enumerate(graph.stages):
        variant = graph.variants[s][chosen.variants[s]]
        latency = LatencyModel(profile.stages[name][variant])(chosen.batches[s]) if profile else 0.0
        stages[name] = StagePlan(
            variants={
                variant: VariantPlan(share=1.0, batch=chosen.batches[s], lanes=cores, replicas=1, latency_s=latency)
            },
            # Every variant is resident: the faster ones are what rescues an item that would be late.
            groups=(ReplicaGroup(variants=graph.variants[s], replicas=1, lanes=cores, threads=1),),
            linger_s=graph.pipeline.stages[name].linger_ms / 1000.0,
        )
    names = {stage: graph.variants[s][chosen.variants[s]] for s, stage in enumerate(graph.stages)}
    return Plan(
        stages=stages,
        capacity=capacity,
        accuracy=chosen.accuracy,
        cores=float(cores),
        shared_cores=float(cores),
        feasible=chosen.latency_s <= graph.pipeline.slo_s,
        paths=(PathPlan(variants=names, share=1.0, latency_s=chosen.latency_s, accuracy=chosen.accuracy),),
        solver="static",
        reason=reason,
    )


def _unknown(graph: Graph, fixed: Mapping[int, int]) -> _Choice:
    best = tuple(
        fixed.get(s, max(range(len(accuracies)), key=lambda v: accuracies[v]))
        for s, accuracies in enumerate(graph.accuracy)
    )
    specs = [graph.pipeline.stages[name].variants[best[s]] for s, name in enumerate(graph.stages)]
    return _Choice(best, tuple(min(32, spec.max_batch) for spec in specs), 0.0, 0.0, _accuracy(graph, best))


def _accuracy(graph: Graph, variants: tuple[int, ...]) -> float:
    """End to end: the mean over the routes from the root to the leaves."""
    every = routes(graph)
    return sum(math.prod(graph.accuracy[s][variants[s]] for s in route) for route in every) / len(every)


def _choices(graph: Graph, profile: Profile, cores: int, fixed: Mapping[int, int]) -> Iterator[_Choice]:
    """Every combination of variants, with what follows from it."""
    candidates = [(fixed[s],) if s in fixed else tuple(range(len(names))) for s, names in enumerate(graph.variants)]
    models = [[LatencyModel(profile.stages[name][v]) for v in graph.variants[s]] for s, name in enumerate(graph.stages)]
    medians = [
        [LatencyModel(profile.stages[name][v], "p50") for v in graph.variants[s]] for s, name in enumerate(graph.stages)
    ]
    measured = {tuple(sorted(path.variants.items())): path.accuracy for path in profile.paths}
    for variants in itertools.islice(itertools.product(*candidates), _MOST_COMBINATIONS):
        visits = _visits(graph, profile, variants)
        batches = tuple(_batch(graph, s, v, medians[s][v], visits[s] / cores) for s, v in enumerate(variants))
        work = _DOOR_S + _DOOR_ITEM_S * sum(visits)
        work += sum(visits[s] * medians[s][v](batches[s], 1, cores) / batches[s] for s, v in enumerate(variants))
        ends = [0.0] * len(variants)
        for s, v in enumerate(variants):
            starts = max((ends[p] for p in graph.parents[s]), default=0.0)
            rounds = max(1.0, visits[s] / (cores * batches[s]))
            ends[s] = starts + rounds * models[s][v](batches[s], 1, cores)
        names = {stage: graph.variants[s][variants[s]] for s, stage in enumerate(graph.stages)}
        accuracy = measured.get(tuple(sorted(names.items())), _accuracy(graph, variants))
        yield _Choice(variants, batches, max(ends), work, accuracy)


def _visits(graph: Graph, profile: Profile, variants: tuple[int, ...]) -> list[float]:
    """Mean items per request at each stage."""
    visits = [0.0] * len(variants)
    visits[0] = 1.0
    for s, v in enumerate(variants):
        if graph.joins[s]:
            visits[s] = 1.0
        fan_out = profile.stages[graph.stages[s]][graph.variants[s][v]].fan_out
        for child in graph.children[s]:
            visits[child] += visits[s] * fan_out.get(graph.stages[child], 1.0)
    return visits


def _batch(graph: Graph, s: int, v: int, model: LatencyModel, items_per_lane: float) -> int:
    """The smallest batch from which a doubling gains next to nothing; no larger than one request's items fill."""
    limit = graph.pipeline.stages[graph.stages[s]].variants[v].max_batch
    share = graph.pipeline.slo_s / 4.0
    best = 1
    size = 2
    while size <= limit and model(size) <= share:
        # Beyond what one request brings a batch only fills when others wait, so it must pay clearly.
        if model(size) / size < _BATCH_GAIN * model(best) / best:
            best = size
        size *= 2
    crowded = max(1, math.ceil(items_per_lane))
    return best if model(best) / best < 0.7 * model(1) else min(best, crowded)
