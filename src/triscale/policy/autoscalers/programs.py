"""Themis's two programs on a triscale pipeline: what its family of autoscalers (themis, horizontal, vertical) shares.

The programs themselves are `policy/optimise/themis.py`, decision for decision those of the authors' code. They know
chains, one item per request, and a pipeline whose SLO can be met. What is added here so that they can be asked about
any pipeline, at any time:

- a tree is planned path by path; a stage on several paths gets the fastest of the answers, which is within the budget
  of all of them (FA2 plans graphs too, by a transformation that is not published in full);
- a stage's load is the rate times the items that a request becomes there;
- where the programs have no answer, the most that they do have one for is done: the horizontal one for the largest
  rate that fits the cluster, else the most cores and batches of one. The authors' code crashes there;
- the model of a stage is fitted to the 99th percentiles of the profile (`policy/fit.py`: errors are relative, no term
  is negative; the authors' fit minimises absolute errors), unless the option `models` states it.

Everything is remembered by whole requests/s, so an hour of decisions costs a few hundred runs of the programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import VariantProfile
from triscale.core.snapshot import Snapshot
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Interval, Ticks, Whole
from triscale.policy.autoscalers.uniform import Fleet, UniformPlans, fits
from triscale.policy.fit import Fit
from triscale.policy.optimise.themis import Instances, Revision, StageModel, horizontal, performance, vertical
from triscale.policy.stabilise import StableTicks

__all__ = ["ProgramOptions", "Programs", "Scaled"]

_REMEMBERED = 4096


class ProgramOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options that the family has in common. None: the revision's own value, which comes second after the `/`."""

    revision: Annotated[
        Literal[2024, 2025], Meta(description="2024 (the paper's) or 2025 (the authors' later one)")
    ] = 2024
    tick_s: Interval = None
    """How often to decide: 1 / 0.5 s."""
    stabilisation: Ticks = None
    """Ticks for which nothing may have grown before something is taken away."""
    most_batch: Whole = None
    """Largest batch, where the variant takes it: 8 / 4 items."""
    most_cores: Whole = None
    """Most cores of an instance, where a node has them: 8 / 4."""
    load: Annotated[
        Literal["rate", "peak"] | None,
        Meta(description="`rate` (the mean of the last `window_s`) or `peak` (its largest second)"),
    ] = None
    """What the present load is: the rate / the peak."""
    window_s: Interval = None
    """Of which time: 2 / 5 s."""
    models: Annotated[
        Mapping[str, tuple[float, float, float, float]],
        Meta(description="stages, each with its [alpha, beta, gamma, zeta] in milliseconds"),
    ] = {}
    """l(b, c) = alpha*b/c + beta*b + gamma/c + zeta of stages, instead of a fit to the profile."""

    @property
    def revised(self) -> bool:
        """Whether the later revision is meant."""
        return self.revision == 2025

    def stable_ticks(self, published: int) -> StableTicks:
        """What is asked for; else 20 ticks in the later revision, and so many in the published one."""
        needed = self.stabilisation
        return StableTicks(needed if needed is not None else (20 if self.revised else published))


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a program answers."""

    fleet: Fleet
    extra: tuple[int, ...]
    """Instances to start beside those, per stage."""
    feasible: bool
    """Whether the rate is carried within the SLO, by the program's own reckoning."""


class Programs:
    """Both programs, for one pipeline on one cluster."""

    def __init__(self, policy: str, setting: Setting, options: ProgramOptions) -> None:
        self.plans = UniformPlans(policy, setting)
        self.options = options
        self.tick_s = options.tick_s or (0.5 if options.revised else 1.0)
        self._revision: Revision = "2025" if options.revised else "2024"
        self._slo_ms = int(setting.graph.pipeline.slo_ms)
        widest = max(int(node.cores) for node in setting.nodes)
        self.most_cores = min(options.most_cores or (4 if options.revised else 8), widest)
        self._most_batch = options.most_batch or (4 if options.revised else 8)
        self._models = _models(policy, self.plans, options)
        self._paths = _paths(setting.graph)
        self._answers: dict[tuple[object, ...], Scaled] = {}

    def load(self, snapshot: Snapshot) -> int:
        """The present load in whole requests/s, cut off as in the authors' code, at least 1."""
        options = self.options
        window = options.window_s or (5.0 if options.revised else 2.0)
        peak = (options.load or ("peak" if options.revised else "rate")) == "peak"
        rate = snapshot.peak(max(1, round(window))) if peak else snapshot.rate(window)
        return max(1, int(rate + 1e-9))

    def horizontal(self, rate: int, nodes: Sequence[Node]) -> Scaled:
        """Fewest one-core instances."""
        cores = tuple(int(node.cores) for node in nodes if node.ready)
        return self._remember(("horizontal", rate, cores), lambda: self._fewest(self._models, rate, nodes))

    def first(self, demand: float, nodes: Sequence[Node], reason: str) -> Plan:
        """What should run before the first request: single cores."""
        rate = max(1, int(demand))
        found = self.horizontal(rate, nodes)
        fleet = self.fitted(found.fleet, [1] * len(found.fleet), nodes, rate)
        return self.plan(fleet, rate, feasible=found.feasible, reason=reason)

    def vertical(self, rate: int, counts: Sequence[int]) -> Scaled:
        """Fewest cores per instance for so many instances, and what must be started where that is not enough."""
        return self._remember(("vertical", rate, *counts), lambda: self._cores(rate, counts))

    def fewest_at_most_cores(self, rate: int, nodes: Sequence[Node]) -> tuple[int, ...]:
        """Instances per stage with which the most cores carry the rate."""
        # An instance of c cores runs like one of one core whose parallel work is c times less.
        wide = tuple(
            StageModel(
                model.alpha / self.most_cores,
                model.beta,
                model.gamma / self.most_cores,
                model.zeta,
                items=model.items,
                most_batch=model.most_batch,
            )
            for model in self._models
        )
        return tuple(mine.count for mine in self._fewest(wide, rate, nodes).fleet)

    def capacity(self, stage: int, mine: Instances, rate: int) -> float:
        """Requests/s that a stage's instances carry."""
        model = self._models[stage]
        return mine.count * performance(model, mine.batch, mine.cores, rate, self._revision)[1] / model.items

    def fitted(self, fleet: Fleet, kept: Sequence[int], nodes: Sequence[Node], rate: int) -> Fleet:
        """The fleet cut down to what the nodes hold; see `UniformPlans.fitted`."""
        return self.plans.fitted(fleet, kept, nodes, lambda stage, mine: self.capacity(stage, mine, rate))

    def plan(self, fleet: Fleet, rate: int, *, feasible: bool, reason: str) -> Plan:
        """The plan that runs the fleet."""
        capacity = min(self.capacity(s, mine, rate) for s, mine in enumerate(fleet))
        return self.plans.plan(
            fleet, float(rate), capacity=capacity, feasible=feasible and capacity >= rate, reason=reason
        )

    def _remember(self, key: tuple[object, ...], solve: Callable[[], Scaled]) -> Scaled:
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            found = self._answers[key] = solve()
        return found

    def _fewest(self, models: Sequence[StageModel], rate: int, nodes: Sequence[Node]) -> Scaled:
        cores = sum(int(node.cores) for node in nodes if node.ready)
        none = (0,) * len(models)

        def carrying(carried: int) -> Fleet | None:
            answers = [
                horizontal(
                    [models[s] for s in path],
                    self._slo_ms,
                    carried,
                    self._most_batch,
                    self._revision,
                    cluster_cores=cores,
                )
                for path in self._paths
            ]
            fleet = self._merged(models, answers, carried)
            return fleet if fleet is not None and fits(fleet, nodes) else None

        fleet = carrying(rate)
        if fleet is not None:
            return Scaled(fleet, none, feasible=True)
        low, high = 0, rate
        while high - low > 1:
            middle = (low + high) // 2
            found = carrying(middle)
            low, high, fleet = (middle, high, found) if found is not None else (low, middle, fleet)
        if fleet is None:
            # The SLO is out of reach: what carries the rate best, in batches of one.
            single = [max(1, performance(model, 1, 1, rate, self._revision)[1]) for model in models]
            fleet = tuple(
                Instances(min(max(1, cores), math.ceil(rate * model.items / each)), 1, 1)
                for model, each in zip(models, single, strict=True)
            )
        return Scaled(fleet, none, feasible=False)

    def _cores(self, rate: int, counts: Sequence[int]) -> Scaled:
        answers = [
            vertical(
                [self._models[s] for s in path],
                self._slo_ms,
                rate,
                [counts[s] for s in path],
                self._most_batch,
                self.most_cores,
                self._revision,
            )
            for path in self._paths
        ]
        fleet = self._merged(self._models, [answer[0] if answer else None for answer in answers], rate)
        none = (0,) * len(counts)
        if fleet is None:
            return Scaled(tuple(Instances(count, self.most_cores, 1) for count in counts), none, feasible=False)
        extra = list(none)
        for path, answer in zip(self._paths, answers, strict=True):
            for s, more in zip(path, answer[1] if answer else (), strict=True):
                extra[s] = max(extra[s], more)
        return Scaled(fleet, tuple(extra), feasible=True)

    def _merged(
        self, models: Sequence[StageModel], answers: Sequence[Sequence[Instances] | None], rate: int
    ) -> Fleet | None:
        """One answer for all paths; None where one of them has none."""
        best: dict[int, Instances] = {}
        for path, answer in zip(self._paths, answers, strict=True):
            if answer is None:
                return None
            for s, mine in zip(path, answer, strict=True):
                other = best.get(s)
                if other is None or self._ms(models[s], mine, rate) < self._ms(models[s], other, rate):
                    best[s] = mine
        return tuple(best[s] for s in range(len(models)))

    def _ms(self, model: StageModel, mine: Instances, rate: int) -> int:
        return performance(model, mine.batch, mine.cores, rate, self._revision)[0]


def _models(policy: str, plans: UniformPlans, options: ProgramOptions) -> tuple[StageModel, ...]:
    unknown = [name for name in options.models if name not in plans.graph.stages]
    if unknown:
        known = ", ".join(plans.graph.stages)
        raise ConfigError(
            *(f"policy.options.models.{name}: {policy} finds no such stage; there are: {known}" for name in unknown)
        )
    models: list[StageModel] = []
    for s, (name, profile) in enumerate(zip(plans.graph.stages, plans.profiles, strict=True)):
        alpha, beta, gamma, zeta = options.models.get(name) or _fitted_ms(profile)
        models.append(
            StageModel(
                alpha,
                beta,
                gamma,
                zeta,
                memory_gb=profile.memory_bytes / 2**30 or 1.0,
                items=plans.items[s],
                most_batch=plans.most_batch(s),
            )
        )
    return tuple(models)


def _fitted_ms(profile: VariantProfile) -> tuple[float, float, float, float]:
    alone = min(point.lanes for point in profile.latency)
    points = [(p.batch, p.threads, p.p99_s) for p in profile.latency if p.lanes == alone and p.p99_s > 0.0]
    if not points:
        return 0.0, 0.0, 0.0, 0.0
    fit = Fit.of(points)
    return 1e3 * fit.alpha, 1e3 * fit.beta, 1e3 * fit.gamma, 1e3 * fit.zeta


def _paths(graph: Graph) -> list[tuple[int, ...]]:
    """From the root to each stage without children, by every way there is."""
    open_ends: list[tuple[int, ...]] = [(0,)]
    found: list[tuple[int, ...]] = []
    while open_ends:
        path = open_ends.pop()
        children = graph.children[path[-1]]
        if not children:
            found.append(path)
        open_ends += [(*path, child) for child in children]
    return found
