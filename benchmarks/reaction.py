"""How long after a burst begins something is done about it.

    python -m benchmarks.reaction [--bursts N] [--seed N]

A server with the `triscale` policy carries a constant load (Poisson arrivals) on emulated replicas, processes of this
machine. Again and again the rate jumps, and goes back after a while. The clock starts at the arrival of the first
request that exceeds the constant load and stops at the first effective action: where cores are free, when the first
batch begins on a core that was not granted before; where they are used up, when the first batch begins on a faster
variant that the new plan gives more of the load. On the way, the moment when the plan changed; and what deciding took
(in a process of its own, as in a server; the way there and back is counted), over all ticks, most of which find
nothing to do. Ray Serve's autoscaler adds replicas after 30 s by default (`upscale_delay_s`), and they have to start
then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from triscale.app.system import Options, System
from triscale.clock import SystemClock
from triscale.control.decider_messages import Recipe
from triscale.control.process_decider import ProcessDecider
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Snapshot
from triscale.dispatch.work import Batch
from triscale.observe.recorder import Recorder
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.serve.service import Call, Reply
from triscale.wire.payload import pack

GOAL_MS = 250.0
_CALM_S = (4.0, 5.0)
"""Between two bursts: long enough for cores to be given back. Random, so that bursts meet ticks anywhere."""
_BURST_S = 1.5


def _variant(name: str, ms: dict[int, float], accuracy: float, fan_out: dict[str, float]) -> Variant:
    return Variant(name=name, runtime="emulated", accuracy=accuracy, max_batch=8, latency_ms=ms, fan_out=fan_out)


PIPELINE = Pipeline(
    name="bursts",
    slo_ms=500.0,
    stages={
        "detect": Stage(
            variants=(
                _variant("large", {1: 40.0, 8: 260.0}, 1.0, {"classify": 2.0}),
                _variant("small", {1: 12.0, 8: 80.0}, 0.9, {"classify": 2.0}),
            )
        ),
        "classify": Stage(
            variants=(
                _variant("large", {1: 15.0, 8: 70.0}, 1.0, {}),
                _variant("small", {1: 5.0, 8: 25.0}, 0.9, {}),
            ),
            after="detect",
        ),
    },
)


@dataclass(frozen=True)
class Scenario:
    """One table row: on a node of so many cores, the load jumps from one rate to another."""

    name: str
    cores: int
    calm_per_s: float
    burst_per_s: float


SCENARIOS = (
    Scenario("up: cores are free", 32, 100.0, 300.0),
    Scenario("accuracy: cores are used up", 8, 100.0, 300.0),
)


@dataclass
class Burst:
    """One jump of the rate. Times on the server's clock; None where it did not come to that."""

    before: Plan
    began: float | None = None
    """Arrival of the first request."""
    decided: float | None = None
    """The plan has changed, to more cores or faster variants."""
    acted: float | None = None
    """The first batch that this made possible."""


class Timed(ProcessDecider):
    """The decider, and what each of its decisions took."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.seconds: list[float] = []

    async def decide(self, snapshot: Snapshot) -> Plan:
        """See `Decider`."""
        began = time.perf_counter()
        plan = await super().decide(snapshot)
        self.seconds.append(time.perf_counter() - began)
        return plan


class Watch(Recorder):
    """Sees every batch begin, and notes the first that a burst's new plan made possible."""

    __slots__ = ("_graph", "_running", "_system", "burst")

    def __init__(self, system: System) -> None:
        graph = system.runner.dispatcher.graph
        super().__init__(graph)
        self.burst: Burst | None = None
        self._graph = graph
        self._system = system
        self._running = 0
        """Cores that batches run on."""

    def batch_started(self, batch: Batch) -> None:
        """See `Recorder`."""
        super().batch_started(batch)
        self._running += batch.group.threads
        burst = self.burst
        if burst is not None and burst.decided is not None and burst.acted is None:
            stage = self._graph.stages[batch.stage]
            name = self._graph.variants[batch.stage][batch.variant]
            if self._running > burst.before.shared_cores or self._is_faster(burst.before, stage, name):
                burst.acted = batch.started

    def batch_ended(self, batch: Batch, now: float) -> None:
        """See `Recorder`."""
        super().batch_ended(batch, now)
        self._running -= batch.group.threads

    def _is_faster(self, before: Plan, stage: str, variant: str) -> bool:
        """Whether it is not the most accurate, and has a larger share than before."""
        now = self._system.plan

        def share(plan: Plan) -> float:
            found = plan.stages[stage].variants.get(variant)
            return 0.0 if found is None else found.share

        return variant != self._graph.variants[self._graph.stage(stage)][0] and share(now) > share(before) + 1e-9


class Experiment:
    """A server under bursts."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._rng = random.Random(seed)
        self._clock = SystemClock()
        profile = inline_profile(PIPELINE)
        assert profile is not None
        nodes = (Node(id=NodeId("local"), cores=scenario.cores),)
        setting = Setting(graph=Graph.of(PIPELINE), profile=profile, nodes=nodes)
        autoscaler = make_autoscaler("triscale", setting)
        self.decider = Timed(Recipe.of(autoscaler, setting, scenario.calm_per_s))
        self._system = System(
            PIPELINE,
            (),
            profile,
            autoscaler.first(scenario.calm_per_s),
            self._clock,
            Options(port=0, metrics_port=0),
            decider=self.decider,
            nodes=nodes,
        )
        self._watch = self._system.recorder = self._system.runner.recorder = Watch(self._system)
        self._payload = pack({"x": 1.0})

    async def run(self, bursts: int) -> list[Burst]:
        """All bursts, one after the other."""
        await self._system.start()
        deciding = asyncio.create_task(self._watch_plans())
        try:
            await self._load(self._scenario.calm_per_s, 3.0)
            self.decider.seconds.clear()
            found = []
            for _ in range(bursts):
                await self._load(self._scenario.calm_per_s, self._rng.uniform(*_CALM_S))
                self._watch.burst = burst = Burst(self._system.plan)
                await self._load(self._scenario.burst_per_s, _BURST_S, burst)
                self._watch.burst = None
                found.append(burst)
        finally:
            deciding.cancel()
            await self._system.close(1.0)
        return found

    async def _load(self, per_s: float, seconds: float, burst: Burst | None = None) -> None:
        end = due = self._clock.now()
        end += seconds
        while (due := due + self._rng.expovariate(per_s)) < end:
            await asyncio.sleep(max(0.0, due - self._clock.now()))
            now = self._clock.now()
            if burst is not None and burst.began is None:
                burst.began = now
            self._system.runner.submit(PIPELINE.name, Call([self._payload], now, now + PIPELINE.slo_s, _ignored))

    async def _watch_plans(self) -> None:
        """Note when a plan is in force that does something about the burst."""
        while True:
            burst, plan = self._watch.burst, self._system.plan
            if burst is not None and burst.began is not None and burst.decided is None:
                before = burst.before
                if plan.cores > before.cores or plan.accuracy < before.accuracy - 1e-9:
                    burst.decided = self._clock.now()
            await asyncio.sleep(0.001)


def _ignored(reply: Reply) -> None:
    """Whatever becomes of the request."""


def _line(name: str, seconds: Sequence[float]) -> str:
    median, p95, worst = (1000.0 * np.percentile(seconds or [np.nan], [50, 95, 100])).tolist()
    return f"  {name:<44}{median:>10.1f}{p95:>10.1f}{worst:>10.1f}"


def _report(scenario: Scenario, bursts: Sequence[Burst], decider: Timed) -> Iterator[str]:
    acted = [b for b in bursts if b.began is not None and b.decided is not None and b.acted is not None]
    yield (
        f"{scenario.name}: {scenario.calm_per_s:g} to {scenario.burst_per_s:g} requests/s on {scenario.cores} cores; "
        f"{len(acted)} of {len(bursts)} bursts acted on"
    )
    yield f"  {'milliseconds':<44}{'median':>10}{'p95':>10}{'worst':>10}"
    yield _line("first excess arrival -> first effective action", [b.acted - b.began for b in acted])  # type: ignore[operator]
    yield _line("first excess arrival -> plan in force", [b.decided - b.began for b in acted])  # type: ignore[operator]
    yield _line("a decision, of all ticks", decider.seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; the number of scenarios whose p95 misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and pauses")
    options = parser.parse_args(argv)
    missed = 0
    for scenario in SCENARIOS:

        async def measure(scenario: Scenario = scenario) -> tuple[list[Burst], Timed]:
            experiment = Experiment(scenario, options.seed)
            return await experiment.run(options.bursts), experiment.decider

        bursts, decider = asyncio.run(measure())
        print("\n".join(_report(scenario, bursts, decider)), flush=True)
        reactions = [b.acted - b.began if b.acted and b.began else float("inf") for b in bursts]
        met = float(np.percentile(reactions, 95)) <= GOAL_MS / 1000.0
        print(f"  p95 within {GOAL_MS:g} ms: {'yes' if met else 'no'}", flush=True)
        missed += not met
    return missed


if __name__ == "__main__":
    sys.exit(main())
