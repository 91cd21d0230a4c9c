"""Measures every variant of a pipeline for real: in a replica process, over the wire, on the pipeline's own samples.

Stage by stage, from the root: the samples are the root's items; what the most accurate variant emits are the items
of the stages below. Each variant has a replica of its own, whose threads are changed in place, as a plan would change
them. The time is divided over the cells that are left, so what one does not need is the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from triscale.clock import Clock
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.core.sample import Sample
from triscale.dispatch.results import Rejection
from triscale.engines.local import LocalEngine
from triscale.errors import ConfigError, ModelError
from triscale.profiler.bench import Bench
from triscale.profiler.grid import Grid, Wanted
from triscale.profiler.machine import OthersLoad, this_machine, today
from triscale.profiler.precision import Precision
from triscale.profiler.store import variant_hash
from triscale.profiler.work import Work, entering, of_samples, passed_on

__all__ = ["FULL", "Effort", "Progress", "profile_pipeline", "quick"]

_ITEMS = 256
"""Items of a stage that are kept to measure with."""
_FIRST_BATCH = 4
"""Largest batch in which each item is run once, for what it emits."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a profile is: told to a callback after every cell, or group of items."""

    what: str
    elapsed_s: float
    left_s: float
    """Predicted."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What is measured, and how well."""

    wanted: Wanted = field(default_factory=Wanted)
    precision: Precision = field(default_factory=Precision)
    cell_s: float = float("inf")
    """Most time for a cell, however much is left."""


FULL = Effort()


def quick(cores: int) -> Effort:
    """Enough to serve with on so many cores: one thread, one lane or all, medians."""
    precision = Precision(quantile=0.5, tight=0.05, fewest=12, most=200, least_s=0.0)
    return Effort(Wanted(threads=(1,), lanes=(1, cores)), precision, cell_s=1.5)


async def profile_pipeline(
    pipeline: Pipeline,
    import_roots: Sequence[str],
    samples: Sequence[Sample],
    clock: Clock,
    *,
    effort: Effort = FULL,
    budget_s: float = 30.0,
    cores: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Profile:
    """Latencies, load times, memory and fan-outs of all variants, in about `budget_s` seconds.

    ModelError when a variant cannot run the pipeline's own samples, EngineError when a replica does not start,
    ConfigError when `effort` asks for more threads than there are cores.
    """
    graph = Graph.of(pipeline)
    machine, others = this_machine(), OthersLoad()
    engine = LocalEngine(pipeline, import_roots)
    course = _Course(graph, effort, cores or machine.cores, clock, budget_s, on_progress)
    arrived: list[list[Work]] = [[] for _ in graph.stages]
    arrived[0] = of_samples(samples)
    stages: dict[str, dict[str, VariantProfile]] = {name: {} for name in graph.stages}
    try:
        for s, name in enumerate(graph.stages):
            items = entering(graph, s, arrived[s], range(len(samples)))[:_ITEMS]
            if not items:
                raise ModelError(f"no sample reaches stage {name!r}; give samples that do, to profile it")
            best = max(range(len(graph.variants[s])), key=lambda v: graph.accuracy[s][v])
            for v, variant in enumerate(graph.variants[s]):
                run = _Variant(course, engine, s, v, items, [sample.weight for sample in samples])
                measured, emitted = await run.measure()
                digest = variant_hash(pipeline.stages[name].variants[v], import_roots)
                stages[name][variant] = msgspec.structs.replace(measured, weights=digest)
                if v == best:
                    for child, found in zip(graph.children[s], emitted, strict=True):
                        arrived[child] += found
    finally:
        await engine.close()
    machine = msgspec.structs.replace(machine, others_cores=round(others.cores(), 2))
    return Profile(pipeline=pipeline.name, stages=stages, machine=machine, made=today())


class _Course:
    """The cells of all variants, and the time there is for them."""

    def __init__(
        self,
        graph: Graph,
        effort: Effort,
        cores: int,
        clock: Clock,
        budget_s: float,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.graph = graph
        self.effort = effort
        self.clock = clock
        self.points: dict[tuple[int, int], list[LatencyPoint]] = {}
        self.grids: dict[tuple[int, int], Grid] = {}
        for s, name in enumerate(graph.stages):
            for v, variant in enumerate(graph.pipeline.stages[name].variants):
                self.points[s, v] = []
                try:
                    self.grids[s, v] = Grid.of(effort.wanted, variant.max_batch, cores, graph.pipeline.slo_s)
                except ValueError as error:
                    raise ConfigError(f"{error}; ask for fewer threads, or give more cores") from None
        self._started = clock.now()
        self._until = self._started + budget_s
        self._on_progress = on_progress

    def share_s(self) -> float:
        """What the next cell may take."""
        left = max(0.0, self._until - self.clock.now())
        return min(self.effort.cell_s, left / max(1, self._remaining()))

    def measured(self, s: int, v: int, point: LatencyPoint) -> None:
        """A cell is done."""
        self.points[s, v].append(point)
        now = self.clock.now()
        elapsed, remaining = now - self._started, self._remaining()
        done = sum(map(len, self.points.values()))
        # As slow as so far, but no longer than there is time.
        left = min(remaining * elapsed / done, max(0.0, self._until - now)) if remaining else 0.0
        title = f"{self.graph.stages[s]}/{self.graph.variants[s][v]}"
        self._on_progress(Progress(title, elapsed, left))

    def _remaining(self) -> int:
        return sum(len(grid.remaining(self.points[key])) for key, grid in self.grids.items())


class _Variant:
    """One variant while it is measured."""

    def __init__(
        self, course: _Course, engine: LocalEngine, s: int, v: int, items: Sequence[Work], weights: Sequence[float]
    ) -> None:
        self._course = course
        self._engine = engine
        self._s, self._v = s, v
        self._graph = course.graph
        self._stage, self._name = self._graph.stages[s], self._graph.variants[s][v]
        self._items = items
        self._weights = weights

    async def measure(self) -> tuple[VariantProfile, list[list[Work]]]:
        """Its profile, and per child stage what it emitted for the items."""
        course, key = self._course, (self._s, self._v)
        grid, points = course.grids[key], course.points[key]
        threads = grid.threads[0]
        bench = await Bench.start(
            self._engine, self._stage, (self._name,), grid.most_lanes(threads), threads, course.clock
        )
        if not bench.takes_threads:
            grid = course.grids[key] = replace(grid, threads=grid.threads[:1])
        emitted = await self._emitted(bench, min(_FIRST_BATCH, grid.batches[-1]))
        memory = 0
        while cells := grid.remaining(points):
            cell = cells[0]
            if cell.threads != bench.spec.threads:
                memory = memory or bench.memory_bytes()
                if not await bench.resize(grid.most_lanes(cell.threads), cell.threads):
                    fewer = tuple(threads for threads in grid.threads if threads < cell.threads)
                    grid = course.grids[key] = replace(grid, threads=fewer)
                    continue
            share = course.share_s()
            course.measured(*key, await bench.repeat(self._name, self._items, cell, course.effort.precision, share))
        profile = VariantProfile(
            latency=grid.kept(points),
            fan_out=self._fan_out(emitted),
            load_s=round(bench.load_s, 4),
            start_s=round(bench.start_s, 4),
            memory_bytes=memory or bench.memory_bytes(),
        )
        await bench.stop()
        return profile, emitted

    async def _emitted(self, bench: Bench, batch: int) -> list[list[Work]]:
        """Every item once. Also warms the replica up."""
        emitted: list[list[Work]] = [[] for _ in self._graph.children[self._s]]
        results = await bench.run_all(self._name, self._items, batch)
        for item, result in zip(self._items, results, strict=True):
            if isinstance(result, Rejection):
                raise ModelError(
                    f"{self._stage}/{self._name} rejected one of the pipeline's own samples: {result.message}"
                )
            for found, works in zip(emitted, passed_on(self._graph, self._s, item, result), strict=True):
                found += works
        return emitted

    def _fan_out(self, emitted: Sequence[Sequence[Work]]) -> dict[str, float]:
        """Mean items per item for each child, each sample counting by its weight."""
        ran = sum(self._weights[item.sample] for item in self._items)
        means: dict[str, float] = {}
        for child, found in zip(self._graph.children[self._s], emitted, strict=True):
            total = sum(self._weights[work.sample] for work in found)
            means[self._graph.stages[child]] = round(total / ran, 4) if ran > 0.0 else 0.0
        return means
