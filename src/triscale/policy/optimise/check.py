"""Whether a plan keeps what it promises, worked out again from pipeline, profile and nodes with code of its own.

Nothing of the solvers is used here, only the latency and wait models that define the problem: loads are followed
through the graph from the plan's shares alone, every combination of the variants used must meet the SLO, and lanes
are packed onto the nodes anew. Tests and the simulator call `violations` on every plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.plan import Plan, VariantPlan
from triscale.core.profile import Profile, VariantProfile
from triscale.policy.latency import LatencyModel
from triscale.policy.optimise.settings import Settings
from triscale.policy.waiting import Pool, wait_quantile

__all__ = ["violations"]

_SAME = 1e-5
_WAIT_SLACK = 0.02
"""Part of the SLO by which a predicted wait may differ from its tabulated value."""

_MOST_STEPS = 100_000
"""Of the search for a packing."""

Load = Mapping[tuple[int, str], float]


def violations(plan: Plan, graph: Graph, profile: Profile, nodes: Sequence[Node], settings: Settings) -> list[str]:
    """The constraints that the plan breaks, in words; none for a plan that sheds everything."""
    if plan.served_fraction <= 0.0:
        return []
    ready = [node for node in nodes if node.ready]
    checker = _Checker(plan, graph, profile, ready, settings.bounded_by(graph.pipeline))
    return [*checker.shares(), *checker.capacity(), *checker.latency(), *checker.accuracy(), *checker.room()]


class _Checker:
    def __init__(self, plan: Plan, graph: Graph, profile: Profile, nodes: Sequence[Node], settings: Settings) -> None:
        self.plan, self.graph, self.profile, self.nodes, self.settings = plan, graph, profile, nodes, settings
        self.stages = [plan.stages[name] for name in graph.stages]
        self.loads = self._loads()

    def measured(self, stage: int, variant: str) -> VariantProfile:
        return self.profile.stages[self.graph.stages[stage]][variant]

    def _fan_out(self, stage: int, variant: str, child: int) -> float:
        name = self.graph.stages[child]
        stated = self.graph.pipeline.stages[self.graph.stages[stage]].variant(variant).fan_out.get(name, 1.0)
        return self.measured(stage, variant).fan_out.get(name, stated)

    def _loads(self) -> Load:
        """(stage, variant) -> items/s, from the root's share table down."""
        loads: dict[tuple[int, str], float] = {}
        admitted = self.plan.demand * self.plan.served_fraction
        for stage, planned in enumerate(self.stages):
            shares = {variant: mine.share for variant, mine in planned.variants.items()}
            arriving: list[tuple[float, Mapping[str, float]]] = []
            if stage == 0 or self.graph.joins[stage]:
                arriving.append((admitted, shares))
            else:
                for parent in self.graph.parents[stage]:
                    for above in self.stages[parent].variants:
                        items = loads[parent, above] * self._fan_out(parent, above, stage)
                        arriving.append((items, planned.by_parent.get(above, shares)))
            for variant in planned.variants:
                loads[stage, variant] = sum(items * row.get(variant, 0.0) for items, row in arriving)
        return loads

    def shares(self) -> Iterator[str]:
        """Shares sum to one and are what the share tables lead to."""
        if not 0.0 <= self.plan.served_fraction <= 1.0:
            yield f"served_fraction is {self.plan.served_fraction}, not a share"
        for stage, planned in enumerate(self.stages):
            name = self.graph.stages[stage]
            total = sum(mine.share for mine in planned.variants.values())
            if abs(total - 1.0) > _SAME:
                yield f"{name}: the shares sum to {total:.6f}"
            for above, row in planned.by_parent.items():
                if abs(sum(row.values()) - 1.0) > _SAME:
                    yield f"{name}: the shares after {above} sum to {sum(row.values()):.6f}"
                for variant in set(row) - set(planned.variants):
                    yield f"{name}: {variant} gets a share after {above}, but is not planned"
            items = sum(self.loads[stage, variant] for variant in planned.variants)
            for variant, mine in planned.variants.items():
                if items > 0.0 and abs(self.loads[stage, variant] / items - mine.share) > 1e-3:
                    yield f"{name}.{variant}: is planned for {mine.share:.4f} of the items and gets another share"

    def _mean_s(self, stage: int, variant: str, batch: int, threads: int) -> float:
        """Mean service; the quantile itself under the papers' rules."""
        lanes = self._contenders(threads)
        measured = self.measured(stage, variant)
        if self.settings.wait != "queue":
            return LatencyModel(measured, self.settings.service_quantile)(batch, threads, lanes)
        typical = LatencyModel(measured, "p50")(batch, threads, lanes)
        return typical * math.exp(self._spread(stage, variant, batch, threads) ** 2 / 2.0)

    def _spread(self, stage: int, variant: str, batch: int, threads: int) -> float:
        lanes, measured = self._contenders(threads), self.measured(stage, variant)
        ratio = LatencyModel(measured, "p95")(batch, threads, lanes) / LatencyModel(measured, "p50")(
            batch, threads, lanes
        )
        return math.log(max(1.0, ratio)) / 1.645

    def _contenders(self, threads: int) -> int:
        widest = max((int(node.cores) for node in self.nodes), default=1)
        if self.settings.replica_cores is not None:
            widest = min(widest, self.settings.replica_cores)
        return max(1, widest // threads)

    def capacity(self) -> Iterator[str]:
        """Every pool carries its load; on shared cores, the cores carry all of it."""
        work = 0.0
        for stage, planned in enumerate(self.stages):
            name = self.graph.stages[stage]
            for variant, mine in planned.variants.items():
                most = self.graph.pipeline.stages[name].variant(variant).max_batch
                if mine.batch > most:
                    yield f"{name}.{variant}: batches of {mine.batch}, but its largest is {most}"
                mean = self._mean_s(stage, variant, mine.batch, mine.threads)
                work += self.loads[stage, variant] / mine.batch * mean * mine.threads
                carried = mine.lanes * mine.batch / mean * self.settings.utilisation
                load = self.loads[stage, variant]
                if not self.plan.shared_cores and load > carried * (1.0 + _SAME):
                    yield f"{name}.{variant}: {load:.6g} items/s on lanes that carry {carried:.6g}"
        limit = self.plan.cores * self.settings.utilisation
        if self.plan.shared_cores and work > limit * (1.0 + _SAME):
            yield f"the shared cores work {work:.4g} core-seconds per second, more than {limit:.4g}"

    def latency(self) -> Iterator[str]:
        """Every combination of used variants meets the SLO."""
        used = [[v for v, mine in planned.variants.items() if mine.share > 1e-9] for planned in self.stages]
        slo = self.graph.pipeline.slo_s
        slack = _WAIT_SLACK * slo if self.settings.wait == "queue" else _SAME * slo
        latency = {(s, v): self._latency_s(s, v) for s, variants in enumerate(used) for v in variants}
        for way in product(*used):
            ends: list[float] = []
            for stage, parents in enumerate(self.graph.parents):
                start = max((ends[parent] for parent in parents), default=0.0)
                ends.append(start + self.settings.hop_s + latency[stage, way[stage]])
            if max(ends) > slo + slack:
                yield f"{' -> '.join(way)} takes {1e3 * max(ends):.2f} ms of {1e3 * slo:.6g} ms"

    def _latency_s(self, stage: int, variant: str) -> float:
        mine = self.stages[stage].variants[variant]
        lanes = self._contenders(mine.threads)
        model = LatencyModel(self.measured(stage, variant), self.settings.service_quantile)
        service = model(mine.batch, mine.threads, lanes)
        if self.settings.wait == "none":
            return service
        if self.settings.wait == "half_slo":
            return 2.0 * service
        load = self.loads[stage, variant]
        if self.settings.wait == "batch_fill":
            return service + (mine.batch - 1) / load if load > 0.0 else service
        # Where cores are shared, the wait is one for all stages and not known stage by stage.
        return service + (mine.wait_s if self.plan.shared_cores else self._wait_s(stage, variant, mine, load))

    def _wait_s(self, stage: int, variant: str, mine: VariantPlan, load: float) -> float:
        mean = self._mean_s(stage, variant, mine.batch, mine.threads)
        typical = LatencyModel(self.measured(stage, variant), "p50")
        lanes = self._contenders(mine.threads)
        burst = 1.0
        if not self.graph.joins[stage]:
            for parent in self.graph.parents[stage]:
                burst = max(burst, *(self._fan_out(parent, above, stage) for above in self.graph.variants[parent]))
        pool = Pool(
            lanes=float(mine.lanes),
            batch=float(mine.batch),
            first_s=mean * typical(1, mine.threads, lanes) / typical(mine.batch, mine.threads, lanes),
            full_s=mean,
            burst=burst,
            service_scv=min(1.0, math.expm1(self._spread(stage, variant, mine.batch, mine.threads) ** 2)),
        )
        busy = max(1e-3, load * mean / (mine.lanes * mine.batch))
        return float(wait_quantile(pool, busy, self.settings.wait_quantile)) if busy < 1.0 else math.inf

    def accuracy(self) -> Iterator[str]:
        """The accuracy is that of the paths, and the paths' shares make one."""
        shares = sum(path.share for path in self.plan.paths)
        mean = sum(path.share * path.accuracy for path in self.plan.paths)
        if abs(shares - 1.0) > _SAME:
            yield f"the paths' shares sum to {shares:.6f}"
        if abs(mean - self.plan.accuracy) > _SAME:
            yield f"accuracy {self.plan.accuracy:.6f}, but the paths' mean is {mean:.6f}"
        if self.plan.accuracy < self.settings.min_accuracy - _SAME:
            yield f"accuracy {self.plan.accuracy:.4f} is below the least allowed, {self.settings.min_accuracy:.4f}"

    def room(self) -> Iterator[str]:
        """Replicas are the variants' lanes, within their bounds, and fit the nodes."""
        cores = 0
        for stage, planned in enumerate(self.stages):
            name, bounds = self.graph.stages[stage], self.settings.bounds(self.graph.stages[stage])
            replicas = sum(group.replicas for group in planned.groups)
            if replicas < bounds.least or (bounds.most is not None and replicas > bounds.most):
                yield f"{name}: {replicas} replicas, allowed are {bounds.least} to {bounds.most}"
            for group in planned.groups:
                each = group.lanes * group.threads
                cores += group.replicas * each
                if self.settings.replica_cores and each > self.settings.replica_cores:
                    yield f"{name}: a replica of {each} cores, allowed are {self.settings.replica_cores}"
            for variant, mine in planned.variants.items():
                holding = [group for group in planned.groups if variant in group.variants]
                lanes = sum(group.replicas * group.lanes for group in holding)
                if not self.plan.shared_cores and lanes != mine.lanes:
                    yield f"{name}.{variant}: {mine.lanes} lanes are planned, its replicas have {lanes}"
        if not self.plan.shared_cores:
            if cores != self.plan.cores:
                yield f"{self.plan.cores:g} cores are planned, the replicas have {cores}"
            yield from self._packing()
        elif self.plan.cores > sum(int(node.cores) for node in self.nodes):
            yield f"{self.plan.cores:g} shared cores are planned, more than there are"

    def _packing(self) -> Iterator[str]:
        """Each replica finds a node: by search, the largest first."""
        replicas: list[tuple[int, int, int]] = []
        for stage, planned in enumerate(self.stages):
            spec = self.graph.pipeline.stages[self.graph.stages[stage]]
            for group in planned.groups:
                memory = sum(self.measured(stage, variant).memory_bytes for variant in group.variants)
                gpus = sum(spec.variant(variant).gpus for variant in group.variants) * group.lanes
                replicas += [(gpus, group.lanes * group.threads, memory)] * group.replicas
        rooms = [(node.gpus, int(node.cores), float(node.memory_bytes or math.inf)) for node in self.nodes]
        if not _pack(sorted(replicas, reverse=True), rooms, [_MOST_STEPS]):
            sizes = ", ".join(f"{cores} cores" + f" {gpus} GPUs" * (gpus > 0) for gpus, cores, _ in replicas)
            yield f"no way was found to put replicas of {sizes} on the nodes"


def _pack(replicas: Sequence[tuple[int, int, int]], rooms: list[tuple[int, int, float]], steps: list[int]) -> bool:
    """Whether the replicas (GPUs, cores, memory) fit the rooms; gives up, saying no, after so many steps."""
    if not replicas:
        return True
    gpus, cores, memory = replicas[0]
    steps[0] -= 1
    for i, room in enumerate(rooms):
        fits = gpus <= room[0] and cores <= room[1] and memory <= room[2]
        if steps[0] <= 0 or not fits or room in rooms[:i]:
            continue
        rooms[i] = (room[0] - gpus, room[1] - cores, room[2] - memory)
        if _pack(replicas[1:], rooms, steps):
            return True
        rooms[i] = room
    return False
