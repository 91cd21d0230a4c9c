"""How many items the dispatcher moves per second of one core: the whole state machine, a virtual clock, no I/O.

Three stages (fan-out 4, then 1), two variants each, batches of up to 8, deadlines, admission, drops and rescue on, at
a load that the plan carries and at one that needs rescue and shedding. Only the driver is trivial: a heap of batches
being run and a list of arrivals; like the server it reads every answer. `items` are those completed at any stage; time
is the process's CPU time.

    python -m benchmarks.dispatch [--requests N] [--load L ...]
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.request import Outcome
from triscale.core.settings import Settings
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.results import ItemResult

FLOOR_ITEMS_PER_S = 100_000
_LANES = {"detect": 8, "classify": 16, "describe": 16}
_MS = {  # (stage, variant) -> milliseconds of a batch of 1 and of 8
    ("detect", "large"): (8.0, 24.0),
    ("detect", "small"): (4.0, 12.0),
    ("classify", "large"): (6.0, 16.0),
    ("classify", "small"): (3.0, 8.0),
    ("describe", "large"): (6.0, 16.0),
    ("describe", "small"): (3.0, 8.0),
}
_FAN_OUT = {"detect": 4, "classify": 1, "describe": 0}
_CHILD = {"detect": "classify", "classify": "describe"}
_CAPACITY_PER_S = 2600.0
"""Requests per second that the plan's mix can carry; its fastest variants alone could carry 4000."""


@dataclass(frozen=True)
class Figures:
    """One run."""

    requests: int
    items: int
    batches: int
    steps: int
    seconds: float
    outcomes: list[int]
    rescued: int

    @property
    def items_per_s(self) -> float:
        """Completed items per second of CPU."""
        return self.items / self.seconds


class _Line:
    """A straight line through two points: the cheapest service model there is."""

    __slots__ = ("_seconds",)

    def __init__(self, one_ms: float, eight_ms: float) -> None:
        self._seconds = [(one_ms + (eight_ms - one_ms) * max(0, n - 1) / 7.0) / 1000.0 for n in range(65)]

    def predict(self, batch: int) -> float:
        return self._seconds[batch]

    typical = predict

    def expect(self, threads: int, lanes: int) -> None:
        """The line holds for any."""

    def observe(self, batch: int, seconds: float) -> None:
        pass


def build() -> Dispatcher:
    """The pipeline, its plan and its lanes."""
    stages = {
        name: Stage(
            after=tuple(parent for parent, child in _CHILD.items() if child == name),
            variants=tuple(
                Variant(name=own, runtime="emulated", accuracy=accuracy, max_batch=8, latency_ms={1: _MS[name, own][0]})
                for own, accuracy in (("large", 0.95), ("small", 0.85))
            ),
        )
        for name in _LANES
    }
    graph = Graph.of(Pipeline(name="bench", slo_ms=200.0, stages=stages))
    shares = {"large": VariantPlan(share=0.7, batch=8), "small": VariantPlan(share=0.3, batch=8)}
    plan = Plan(stages={name: StagePlan(variants=shares) for name in graph.stages}, capacity=_CAPACITY_PER_S)
    models = [[_Line(*_MS[name, own]) for own in ("large", "small")] for name in graph.stages]
    fan_out = [[[float(_FAN_OUT[name])] * len(graph.children[s])] * 2 for s, name in enumerate(graph.stages)]
    dispatcher = Dispatcher(graph, models, fan_out, plan, Settings(), 0.0)
    for name, lanes in _LANES.items():
        for number in range(lanes // 4):
            dispatcher.replica_ready(ReplicaId(f"{name}-{number}"), name, ("large", "small"), 4, 1, "node", 0.0)
    return dispatcher


def drive(dispatcher: Dispatcher, arrivals: Sequence[float], slo_s: float = 0.2) -> Figures:
    """Feed the arrivals through and let everything end; the same accounts as a server, no payloads."""
    results: list[ItemResult] = [
        ((None, ((None,) * _FAN_OUT[name],)) if _FAN_OUT[name] else ("output", ())) for name in dispatcher.graph.stages
    ]
    done: list[tuple[float, int, list[ItemResult]]] = []
    steps = 0
    serial = 0
    at = 0
    count = len(arrivals)
    rows = [None]
    infinity = float("inf")
    arrive, step, next_wakeup, batch_done = (
        dispatcher.arrive,
        dispatcher.step,
        dispatcher.next_wakeup,
        dispatcher.batch_done,
    )
    # Batches really take between 0.8 and 1.2 times what is predicted, in a fixed pattern.
    factors = [0.8 + 0.4 * random.Random(7).random() for _ in range(1021)]
    started = time.process_time()
    wake: float | None = None
    while True:
        now = arrivals[at] if at < count else infinity
        if done and done[0][0] < now:
            now = done[0][0]
        if wake is not None and wake < now:
            now = wake
        if now == infinity:
            break
        while done and done[0][0] <= now:
            _, number, outcome = heapq.heappop(done)
            batch_done(number, outcome, now)
        while at < count and arrivals[at] <= now:
            arrive(at, rows, now + slo_s, now)
            at += 1
        commands = step(now)
        steps += 1
        for request in commands.ends:
            request.ordered_outputs()
        for batch in commands.runs:
            serial += 1
            took = batch.expected * factors[serial % 1021]
            heapq.heappush(done, (now + took, batch.id, [results[batch.stage]] * len(batch.items)))
        wake = next_wakeup()
    seconds = time.process_time() - started
    accounts = dispatcher.accounts
    problems = list(accounts.unbalanced(dispatcher.live_items()))
    if problems or accounts.live:
        raise RuntimeError(f"the accounts do not balance: {problems or accounts.live}")
    return Figures(
        requests=accounts.arrived,
        items=sum(stage.completed for stage in accounts.stages),
        batches=sum(sum(stage.batches) for stage in accounts.stages),
        steps=steps,
        seconds=seconds,
        outcomes=list(accounts.outcomes),
        rescued=sum(stage.rescued for stage in accounts.stages),
    )


def poisson(requests: int, rate: float, seed: int = 1) -> list[float]:
    """Arrival times."""
    rng = random.Random(seed)
    now = 0.0
    times = []
    for _ in range(requests):
        now += rng.expovariate(rate)
        times.append(now)
    return times


def retained(requests: int, load: float) -> int:
    """Bytes still held by a dispatcher after so many requests have ended."""
    tracemalloc.start()
    try:
        dispatcher = build()
        arrivals = poisson(requests, load * _CAPACITY_PER_S)
        before = tracemalloc.get_traced_memory()[0]
        drive(dispatcher, arrivals)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def report(load: float, requests: int, repeats: int) -> Figures:
    """Run at one load and print the best of several runs."""
    arrivals = poisson(requests, load * _CAPACITY_PER_S)
    best = max((drive(build(), arrivals) for _ in range(repeats)), key=lambda figures: figures.items_per_s)
    ends = ", ".join(f"{best.outcomes[outcome]:,} {outcome.label}" for outcome in Outcome if best.outcomes[outcome])
    print(
        f"dispatch at {load:.1f} of the planned load: {best.items_per_s:,.0f} items/s, "
        f"{best.requests / best.seconds:,.0f} requests/s, {1e6 / best.items_per_s:.2f} us per item "
        f"(best of {repeats}; floor {FLOOR_ITEMS_PER_S:,} items/s)"
    )
    print(
        f"  {best.items:,} items in {best.batches:,} batches ({best.items / best.batches:.1f} each) and "
        f"{best.steps:,} steps; {best.rescued:,} items rescued; requests: {ends}"
    )
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 when the floor is missed or memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--load", type=float, action="append", help="offered load over what the plan carries")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)
    loads = options.load or [0.9, 1.5]
    slowest = min(report(load, options.requests, options.repeats).items_per_s for load in loads)
    once, ten = (retained(count, loads[-1]) for count in (options.requests // 10, options.requests))
    print(
        f"  memory held when all have ended: {once / 1024:.0f} KiB, after ten times the requests {ten / 1024:.0f} KiB"
    )
    return int(slowest < FLOOR_ITEMS_PER_S or ten > once + 64 * 1024)


if __name__ == "__main__":
    sys.exit(main())
