"""The planner's one problem type: pipeline, costs, demand and capacity, compiled so that every solver only adds up.

`Problem.of` does the slow part once (latency models, wait tables); `at` gives the same problem for another demand,
other nodes or another running plan in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import Profile, VariantProfile
from triscale.errors import ConfigError
from triscale.policy.optimise.points import Point, measure_points, with_wait_tables
from triscale.policy.optimise.settings import Settings

__all__ = ["Choice", "Problem", "total_cores"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant as the solvers see it."""

    name: str
    accuracy: float
    points: tuple[Point, ...]
    """By threads, then by service."""
    fan_out: tuple[float, ...]
    """Items per item for each child stage, in the graph's order."""
    memory_bytes: int
    gpus: int
    """Whole devices that one lane occupies."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be planned."""

    graph: Graph
    choices: tuple[tuple[Choice, ...], ...]
    """Per stage."""
    nodes: tuple[Node, ...]
    demand: float
    """Requests/s at the root."""
    settings: Settings
    measured_paths: tuple[tuple[Mapping[int, int], float], ...] = ()
    """Measured end-to-end accuracies: stage -> variant, accuracy."""
    bursts: tuple[float, ...] = ()
    """Per stage: items that reach it together, what one item of a parent's most prolific variant emits."""
    reserved_s: float = 0.0
    """Time taken off the SLO at every stage: where cores are shared, the wait that is assumed."""
    running: Plan | None = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What `compiled.py` keeps between demands; shared by problems that differ in nothing else."""

    @classmethod
    def of(
        cls,
        graph: Graph,
        profile: Profile,
        demand: float,
        nodes: Sequence[Node] | int,
        settings: Settings | None = None,
        *,
        running: Plan | None = None,
        drift: Mapping[tuple[str, str], float] | None = None,
    ) -> Problem:
        """Compile. `nodes` may be a number: the cores of the only node. `drift`: (stage, variant) -> how many times
        slower than profiled it runs now. Raises ConfigError for what the profile lacks or gets wrong.
        """
        settings = (settings if settings is not None else Settings()).bounded_by(graph.pipeline)
        machines = (Node(id=NodeId("node"), cores=nodes),) if isinstance(nodes, int) else tuple(nodes)
        problems = [*_broken(graph, profile, settings), *_broken_demand(demand), *_broken_nodes(machines)]
        if problems:
            raise ConfigError(*problems)
        return cls(
            graph=graph,
            choices=tuple(
                _choices(graph, s, profile, machines, settings, drift or {}) for s in range(len(graph.stages))
            ),
            nodes=tuple(node for node in machines if node.ready),
            demand=demand,
            settings=settings,
            measured_paths=tuple(
                (
                    {graph.stage(s): graph.variant(graph.stage(s), v) for s, v in path.variants.items()},
                    path.accuracy,
                )
                for path in profile.paths
            ),
            bursts=tuple(_burst(graph, s, profile) for s in range(len(graph.stages))),
            running=running,
        )

    def at(self, demand: float, nodes: Sequence[Node] | None = None, running: Plan | None = None) -> Problem:
        """The same problem in another moment. Raises ConfigError for a demand that is no finite number >= 0."""
        problems = list(_broken_demand(demand))
        if problems:
            raise ConfigError(*problems)
        machines = self.nodes if nodes is None else tuple(node for node in nodes if node.ready)
        return replace(
            self,
            demand=demand,
            nodes=machines,
            running=running if running is not None else self.running,
            memo=self.memo if machines == self.nodes or self._differ_in_cores(machines) else {},
        )

    def _differ_in_cores(self, nodes: Sequence[Node]) -> bool:
        """Whether only cores that are shared differ: what is known per number of cores then holds for these too."""
        return self.settings.sharing == "shared" and [(n.memory_bytes, n.gpus) for n in nodes] == [
            (n.memory_bytes, n.gpus) for n in self.nodes
        ]

    @property
    def budget_s(self) -> float:
        """The SLO without what is spent between stages on the longest path."""
        return self.graph.pipeline.slo_s - (self.settings.hop_s + self.reserved_s) * self.depth

    @property
    def depth(self) -> int:
        """Stages on the longest route."""
        depths: list[int] = []
        for parents in self.graph.parents:
            depths.append(1 + max((depths[p] for p in parents), default=0))
        return max(depths)

    @property
    def cores(self) -> int:
        """Whole cores of all nodes."""
        return total_cores(self.nodes)

    @property
    def gpus(self) -> int:
        """Devices of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def lane_room(self, threads: int) -> int:
        """How many lanes of so many threads the nodes hold; a lane does not span nodes."""
        return sum(int(node.cores) // threads for node in self.nodes)


def total_cores(nodes: Sequence[Node]) -> int:
    """Whole cores of all nodes together."""
    return sum(int(node.cores) for node in nodes)


def _choices(
    graph: Graph,
    stage: int,
    profile: Profile,
    nodes: Sequence[Node],
    settings: Settings,
    drift: Mapping[tuple[str, str], float],
) -> tuple[Choice, ...]:
    name = graph.stages[stage]
    spec = graph.pipeline.stages[name]
    widest = max((int(node.cores) for node in nodes), default=0)
    if settings.replica_cores is not None:
        widest = min(widest, settings.replica_cores)
    found: list[list[Point]] = []
    for variant in spec.variants:
        measured = profile.stages[name][variant.name]
        found.append(
            measure_points(measured, variant.max_batch, max(1, widest), settings, drift.get((name, variant.name), 1.0))
        )
    if settings.wait == "queue" and settings.sharing == "dedicated":
        every = [point for points in found for point in points]
        pool = max(1, total_cores(nodes))
        tabulated = iter(with_wait_tables(every, _burst(graph, stage, profile), pool, settings.wait_quantile))
        found = [[next(tabulated) for _ in points] for points in found]
    return tuple(
        Choice(
            name=variant.name,
            accuracy=_accuracy(profile.stages[name][variant.name], variant.accuracy),
            points=tuple(points),
            fan_out=_fan_out(graph, stage, v, profile),
            memory_bytes=profile.stages[name][variant.name].memory_bytes,
            gpus=variant.gpus,
        )
        for v, (variant, points) in enumerate(zip(spec.variants, found, strict=True))
    )


def _accuracy(measured: VariantProfile, stated: float) -> float:
    return stated if measured.accuracy is None else measured.accuracy


def _fan_out(graph: Graph, stage: int, variant: int, profile: Profile) -> tuple[float, ...]:
    name = graph.stages[stage]
    spec = graph.pipeline.stages[name].variants[variant]
    measured = profile.stages[name][spec.name].fan_out
    children = (graph.stages[child] for child in graph.children[stage])
    return tuple(measured.get(child, spec.fan_out.get(child, 1.0)) for child in children)


def _burst(graph: Graph, stage: int, profile: Profile) -> float:
    if graph.joins[stage]:
        return 1.0
    most = 1.0
    for parent in graph.parents[stage]:
        position = graph.children[parent].index(stage)
        for variant in range(len(graph.variants[parent])):
            most = max(most, _fan_out(graph, parent, variant, profile)[position])
    return most


def _broken(graph: Graph, profile: Profile, settings: Settings) -> list[str]:
    problems: list[str] = []
    for stage, variants in zip(graph.stages, graph.variants, strict=True):
        for variant in variants:
            where = f"profile: stages.{stage}.{variant}"
            measured = profile.stages.get(stage, {}).get(variant)
            if measured is None or not measured.latency:
                problems.append(f"{where}: is missing or empty; measure it with `triscale profile`")
                continue
            problems += [f"{where}.{rule}" for rule in _broken_profile(measured)]
    for stage in settings.replicas:
        if stage not in graph.stages:
            problems.append(f"replicas.{stage}: no such stage; the stages are: {', '.join(graph.stages)}")
    for i, path in enumerate(profile.paths):
        for stage, variant in path.variants.items():
            if stage not in graph.stages or variant not in graph.variants[graph.stage(stage)]:
                problems.append(f"profile: paths[{i}]: names {stage}.{variant}, which the pipeline does not have")
        if not 0.0 <= path.accuracy <= 1.0:
            problems.append(f"profile: paths[{i}].accuracy: must lie in [0, 1], got {path.accuracy!r}")
    return problems


def _broken_profile(measured: VariantProfile) -> list[str]:
    problems: list[str] = []
    for i, point in enumerate(measured.latency):
        for key in ("p50_s", "p95_s", "p99_s"):
            seconds = getattr(point, key)
            if not 0.0 < seconds < math.inf:
                problems.append(f"latency[{i}].{key}: must be a finite number of seconds above 0, got {seconds!r}")
    for child, items in measured.fan_out.items():
        if not 0.0 <= items < math.inf:
            problems.append(f"fan_out.{child}: must be a finite number of items >= 0, got {items!r}")
    if measured.accuracy is not None and not 0.0 <= measured.accuracy <= 1.0:
        problems.append(f"accuracy: must lie in [0, 1], got {measured.accuracy!r}")
    return problems


def _broken_demand(demand: float) -> list[str]:
    if 0.0 <= demand < math.inf:
        return []
    return [f"demand: must be a finite number of requests/s >= 0, got {demand!r}"]


def _broken_nodes(nodes: Sequence[Node]) -> list[str]:
    return [
        f"nodes: {node.id} has {node.cores!r} cores; a node has a finite number of cores >= 0"
        for node in nodes
        if not 0.0 <= node.cores < math.inf
    ]
