"""Themis's own planner, to the millisecond, for comparisons: its horizontal and its vertical program on a chain.

Both are one dynamic program over whole milliseconds of the SLO. The horizontal one gives every instance one core and
asks for the fewest instances; the vertical one keeps the instances that run and asks for the fewest cores per
instance, and where even the most cores do not carry the rate, for extra instances beside them. The paper's revision
(2024) and the authors' later one (2025) differ in head-room, rounding and how they think of waiting; the decisions of
both are in the tests (Razavi et al., arXiv 2407.14843, and github.com/mehransi/Themis at b01017f and 8b3bfdd).

triscale does not plan with this: see `dp.py`; the baselines of Themis's family do, through
`policy/autoscalers/programs.py`. Latencies here are in milliseconds and rates whole requests/s, as there. What the
authors' code has no need of (more than one item per request, a cluster of another size, stages with smaller batches)
has their value as its default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Instances", "Revision", "StageModel", "horizontal", "performance", "vertical"]

Revision: TypeAlias = Literal["2024", "2025"]

_CLUSTER_CORES = 32
"""The cores of the paper's cluster: the horizontal program of 2024 looks at them from the second stage on."""
_ANY_BATCH = 4096


@dataclass(frozen=True, slots=True)
class StageModel:
    """One stage: l(b, c) = alpha*b/c + beta*b + gamma/c + zeta in milliseconds, and what the later revision adds."""

    alpha: float
    beta: float
    gamma: float
    zeta: float
    memory_gb: float = 1.0
    latency_factor: float = 1.0
    batch_factor: float = 1.0
    items: float = 1.0
    """Items that a request becomes at this stage, above 0."""
    most_batch: int = _ANY_BATCH


@dataclass(frozen=True, slots=True)
class Instances:
    """What a stage gets."""

    count: int
    cores: int
    batch: int


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to run a stage: its milliseconds, wait included, what it costs, and what it is."""

    ms: int
    cost: float
    instances: Instances


def horizontal(
    stages: Sequence[StageModel],
    slo_ms: int,
    rate: int,
    most_batch: int,
    revision: Revision,
    most_cores: int = 1,
    cluster_cores: int = _CLUSTER_CORES,
) -> list[Instances] | None:
    """Fewest one-core instances per stage; None where the SLO cannot be met. The 2025 revision weighs memory too,
    and can choose up to `most_cores` cores per instance; the 2024 one uses at most `cluster_cores` in all.
    """

    def options(index: int, spent: float) -> Iterator[_Option]:
        stage = stages[index]
        for cores in range(1, most_cores + 1):
            for batch in range(1, min(most_batch, stage.most_batch) + 1):
                ms, capacity = performance(stage, batch, cores, rate, revision)
                if capacity < 1:
                    continue
                count = math.ceil(_demand(rate * stage.items, revision) / capacity)
                if revision == "2024" and index > 0 and spent + count > cluster_cores:
                    continue
                cost = count if revision == "2024" else count * (stage.memory_gb + 18 * cores)
                yield _Option(ms, cost, Instances(count, cores, batch))

    return _cheapest(len(stages), slo_ms, options)


def vertical(
    stages: Sequence[StageModel],
    slo_ms: int,
    rate: int,
    running: Sequence[int],
    most_batch: int,
    most_cores: int,
    revision: Revision,
) -> tuple[list[Instances], list[int]] | None:
    """Cores per instance for the instances that run, and extra instances per stage; None where nothing helps."""

    def program(carried: int) -> list[Instances] | None:
        def options(index: int, _spent: float) -> Iterator[_Option]:
            stage, count = stages[index], running[index]
            for cores in range(1, most_cores + 1):
                for batch in range(1, min(most_batch, stage.most_batch) + 1):
                    ms, capacity = performance(stage, batch, cores, carried, revision)
                    if count * capacity >= _demand(carried * stage.items, revision):
                        yield _Option(ms, cores, Instances(count, cores, batch))

        return _cheapest(len(stages), slo_ms, options)

    found = program(rate)
    if found is not None:
        return found, [0] * len(stages)
    low, high = 1, rate
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if program(middle) else (low, middle)
    found = program(low)
    if found is None:
        return None
    rest = rate - low
    extra = [
        math.ceil(rest * stage.items / max(1, performance(stage, chosen.batch, chosen.cores, rest, revision)[1]))
        if rest
        else 0
        for stage, chosen in zip(stages, found, strict=True)
    ]
    return found, extra


def performance(stage: StageModel, batch: int, cores: int, rate: float, revision: Revision) -> tuple[int, int]:
    """(milliseconds with the wait for a full batch, items/s) of an instance while `rate` requests/s arrive."""
    arriving = rate * stage.items
    if revision == "2024":
        service = stage.alpha * batch / cores + stage.beta * batch + stage.gamma / cores + stage.zeta
        ms = max(1, round(service) + int((batch - 1) * 1000 / arriving))
        return ms, int(1000 * batch / ms)
    # A tenth of l(1, 1) more in the fixed part, everything rounded up, and the 99th percentile of a sum of
    # exponential gaps taken as the sum of their 99th percentiles.
    beta = stage.beta * stage.batch_factor
    fixed = math.ceil(stage.zeta + 0.1 * (stage.alpha + beta + stage.gamma + stage.zeta))
    service = stage.alpha * batch / cores + beta * batch + stage.gamma / cores + fixed
    ms = max(1, math.ceil(stage.latency_factor * service))
    return ms + math.ceil((batch - 1) / arriving * math.log(100) * 1000), int(1000 * batch / ms)


def _demand(items_per_s: float, revision: Revision) -> float:
    """What the instances of a stage must carry: in 2025 one standard deviation of a Poisson count more."""
    return items_per_s if revision == "2024" else round(items_per_s + math.sqrt(items_per_s))


def _cheapest(stages: int, slo_ms: int, options: Callable[[int, float], Iterator[_Option]]) -> list[Instances] | None:
    """The dynamic program: least cost for each exact number of milliseconds used; strictly less than the SLO in all."""
    tables: list[dict[int, tuple[float, Instances | None, int]]] = [{0: (0, None, 0)}]
    for index in range(stages):
        table: dict[int, tuple[float, Instances | None, int]] = {}
        for used, (spent, _, _) in tables[-1].items():
            for option in options(index, spent):
                end, cost = used + option.ms, spent + option.cost
                if end <= slo_ms and (end not in table or cost < table[end][0]):
                    table[end] = (cost, option.instances, used)
        tables.append(table)
    ends = [end for end in sorted(tables[-1]) if end < slo_ms]
    if not ends:
        return None
    at = min(ends, key=lambda end: tables[-1][end][0])
    chosen: list[Instances] = []
    for table in reversed(tables[1:]):
        _, instances, at = table[at]
        assert instances is not None
        chosen.append(instances)
    return chosen[::-1]
