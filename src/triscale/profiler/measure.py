"""Measures every variant of a pipeline for real: in a replica process, over the wire, on the pipeline's own samples.

Stage by stage, from the root: the samples are the root's items; what the most accurate variant emits are the items
of the stages below. Each variant runs batches of growing size on one lane, then two
sizes on as many lanes as there are cores, to see how much lanes slow each other. A cell (variant, batch, lanes) is
repeated until its mean is known to about 3 %, or its share of the time budget is used.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from triscale.clock import Clock
from triscale.core.cluster import ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import LatencyPoint, Profile, VariantProfile
from triscale.core.sample import Sample
from triscale.dispatch.results import ItemResult, Rejection
from triscale.engines.local import LocalEngine
from triscale.errors import ModelError
from triscale.profiler.machine import this_machine
from triscale.profiler.store import variant_hash
from triscale.replica.client import ReplicaClient
from triscale.wire.payload import Payload, pack

__all__ = ["Progress", "profile_pipeline"]

_FEWEST = 5
_MOST = 200
_TIGHT = 0.03
"""Half-width of the 95 % confidence interval of the mean, relative, at which a cell is known well enough."""

_ITEMS = 256
"""Items of a stage that are kept to measure with."""


@dataclass(slots=True)
class Progress:
    """How far a profile is: told to a callback after every cell."""

    done: int
    total: int
    what: str
    elapsed_s: float


@dataclass(slots=True)
class _Work:
    """One item to measure a stage with: which sample it came from, and its parts."""

    sample: int
    parts: tuple[Payload, ...]


@dataclass(slots=True)
class _Cell:
    """One point of the grid while it is measured."""

    batch: int
    lanes: int
    seconds: list[float] = field(default_factory=list)

    def known(self) -> bool:
        """Whether more repetitions would hardly change it."""
        n = len(self.seconds)
        if n < _FEWEST:
            return False
        mean = sum(self.seconds) / n
        deviation = math.sqrt(sum((s - mean) ** 2 for s in self.seconds) / (n - 1))
        return 1.96 * deviation / math.sqrt(n) < _TIGHT * mean

    def point(self) -> LatencyPoint:
        p50, p95, p99 = (float(q) for q in np.quantile(self.seconds, (0.50, 0.95, 0.99)))
        return LatencyPoint(
            batch=self.batch,
            lanes=self.lanes,
            p50_s=p50,
            p95_s=p95,
            p99_s=p99,
            samples=len(self.seconds),
        )


async def profile_pipeline(
    pipeline: Pipeline,
    import_roots: Sequence[str],
    samples: Sequence[Sample],
    clock: Clock,
    *,
    budget_s: float = 30.0,
    cores: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Profile:
    """Measure all variants within about `budget_s` seconds (launching replicas comes on top).

    ModelError when a variant cannot run the pipeline's own samples; EngineError when a replica does not start.
    """
    machine = this_machine()
    lanes = max(1, cores or machine.cores)
    graph = Graph.of(pipeline)
    engine = LocalEngine(pipeline, import_roots)
    started = clock.now()
    grids = {
        (s, v): list(_grid(pipeline.stages[name].variants[v].max_batch, lanes))
        for s, name in enumerate(graph.stages)
        for v in range(len(graph.variants[s]))
    }
    total = sum(len(grid) for grid in grids.values())
    share = budget_s / total
    done = itertools.count(1)
    work: dict[int, list[_Work]] = {0: [_Work(i, (pack(sample.inputs),)) for i, sample in enumerate(samples)]}
    stages: dict[str, dict[str, VariantProfile]] = {}
    try:
        for s, name in enumerate(graph.stages):
            items = _gathered(work.get(s, [])) if graph.joins[s] else work.get(s, [])
            if not items:
                raise ModelError(f"no sample reaches stage {name!r}; give samples that do, to profile it")
            best = max(range(len(graph.variants[s])), key=lambda v: graph.accuracy[s][v])
            stages[name] = {}
            for v, variant in enumerate(graph.variants[s]):
                bench = await _Bench.start(engine, graph, s, v, lanes, clock)
                emitted = await bench.run_once(items[:_ITEMS], pipeline.stages[name].variants[v].max_batch)
                if v == best:
                    for child, found in zip(graph.children[s], emitted, strict=True):
                        work.setdefault(child, []).extend(found)
                points = []
                for batch, width in grids[s, v]:
                    cell = await bench.measure(items[:_ITEMS], batch, width, share)
                    points.append(cell.point())
                    on_progress(Progress(next(done), total, f"{name}/{variant}", clock.now() - started))
                ran = min(len(items), _ITEMS)
                stages[name][variant] = VariantProfile(
                    latency=tuple(points),
                    fan_out={
                        graph.stages[child]: len(found) / ran
                        for child, found in zip(graph.children[s], emitted, strict=True)
                    },
                    load_s=bench.load_s,
                    memory_bytes=bench.client.rss,
                    weights=variant_hash(pipeline.stages[name].variants[v], import_roots),
                )
                await bench.stop()
    finally:
        await engine.close()
    return Profile(pipeline=pipeline.name, stages=stages, machine=machine)


def _grid(max_batch: int, lanes: int) -> Iterator[tuple[int, int]]:
    """(batch, lanes) to measure: doubling batches on one lane, then the smallest and a middle one on all lanes."""
    batch = 1
    while batch <= min(max_batch, 64):
        yield batch, 1
        batch *= 2
    if lanes > 1:
        yield 1, lanes
        if max_batch >= 4:
            yield 4, lanes


def _gathered(work: Sequence[_Work]) -> list[_Work]:
    """At a join: one item per sample, made of all that was emitted for it."""
    parts: dict[int, list[Payload]] = {}
    for item in work:
        parts.setdefault(item.sample, []).extend(item.parts)
    return [_Work(sample, tuple(found)) for sample, found in sorted(parts.items())]


class _Bench:
    """One replica with one variant, and batches run on it one after the other or side by side."""

    def __init__(self, engine: LocalEngine, client: ReplicaClient, variant: str, clock: Clock, name: str) -> None:
        self.client = client
        self.load_s = 0.0
        self._engine = engine
        self._variant = variant
        self._clock = clock
        self._name = name
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[ItemResult]]] = {}
        self._rng = random.Random(0)  # noqa: S311 - which items share a batch; nothing secret
        client.observer = self

    @classmethod
    async def start(cls, engine: LocalEngine, graph: Graph, s: int, v: int, lanes: int, clock: Clock) -> _Bench:
        stage, variant = graph.stages[s], graph.variants[s][v]
        replica = ReplicaId(f"profile-{stage}-{variant}")
        await engine.launch(ReplicaSpec(id=replica, stage=stage, variants=(variant,), lanes=lanes))
        client = engine.client(replica)
        bench = cls(engine, client, variant, clock, f"{stage}/{variant}")
        bench.load_s = sum(client.ready.variants.values())
        bench.replica = replica
        return bench

    replica: ReplicaId

    async def stop(self) -> None:
        await self._engine.drain(self.replica, 5.0)

    async def run_once(self, items: Sequence[_Work], max_batch: int) -> list[list[_Work]]:
        """Every item once, a few at a time: what each child got. Also warms the replica up."""
        emitted: list[list[_Work]] = []
        size = min(4, max_batch)
        for at in range(0, len(items), size):
            batch = items[at : at + size]
            for item, result in zip(batch, await self._run(batch), strict=True):
                if isinstance(result, Rejection):
                    raise ModelError(f"{self._name} rejected one of the pipeline's own samples: {result.message}")
                children = result[1]
                emitted = emitted or [[] for _ in children]
                for found, payloads in zip(emitted, children, strict=True):
                    found.extend(_Work(item.sample, (p,)) for p in payloads if isinstance(p, Payload))
        return emitted

    async def measure(self, items: Sequence[_Work], batch: int, lanes: int, budget_s: float) -> _Cell:
        """Repeat one cell until it is known or its time is over."""
        cell = _Cell(batch, lanes)
        until = self._clock.now() + budget_s
        while len(cell.seconds) < _MOST and not cell.known():
            if self._clock.now() >= until and len(cell.seconds) >= _FEWEST:
                break
            if self._clock.now() >= until + budget_s and cell.seconds:
                break  # a slow cell: fewer repetitions than wished, rather than a budget overrun many times
            runs = [self._timed(self._rng.choices(items, k=batch)) for _ in range(lanes)]
            cell.seconds.extend(await asyncio.gather(*runs))
        return cell

    async def _timed(self, items: Sequence[_Work]) -> float:
        started = self._clock.now()
        await self._run(items)
        return self._clock.now() - started

    async def _run(self, items: Sequence[_Work]) -> list[ItemResult]:
        number = next(self._ids)
        future: asyncio.Future[list[ItemResult]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.client.run(number, self._variant, [item.parts for item in items])
        return await future

    # What the connection tells.

    def batch_done(self, _client: ReplicaClient, batch_id: int, _service_s: float, results: list[ItemResult]) -> None:
        self._waiting.pop(batch_id).set_result(results)

    def batch_failed(self, _client: ReplicaClient, batch_id: int, _kind: str, message: str) -> None:
        error = ModelError(f"{self._name} failed on the pipeline's own samples: {message}")
        self._waiting.pop(batch_id).set_exception(error)

    def lost(self, _client: ReplicaClient, reason: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ModelError(f"{self._name} died on the pipeline's own samples: {reason}"))
        self._waiting.clear()
