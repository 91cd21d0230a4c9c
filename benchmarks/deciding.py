"""What deciding does to the event loop that serves: in a thread of its process, and in a process of its own.

    python -m benchmarks.deciding [--rounds N]

- How late timers are while a plan is made that was not planned for: measured latencies have moved, so everything is
  computed anew. A timer is set every millisecond from the beginning of the decision to its end; beside it the same
  without a decision, for so long as those of the thread take at the median. Thread, process and nothing take turns.
- What a tick that changes nothing costs the event loop's thread in CPU time, on a snapshot of 32 replicas.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import uvloop
from msgspec.structs import replace

from triscale.control.decider import Decider, LocalDecider
from triscale.control.decider_messages import Recipe
from triscale.control.process_decider import ProcessDecider
from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Phase, ReplicaView, Snapshot
from triscale.core.spec import load_pipeline
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler

GOAL_MS = 0.5
"""CPU time of the event loop's thread that a tick may cost where a process decides."""
_PIPELINE = Path(__file__).parent.parent / "examples" / "traffic_analysis"
_NODES = tuple(Node(id=NodeId(f"node-{i}"), cores=8) for i in range(4))
_PER_S = 60
_TIMER_S = 0.001
_TICKS = 500


def recipe() -> Recipe:
    """Of the autoscaler that decides."""
    pipeline = load_pipeline(str(_PIPELINE), ())
    profile = inline_profile(pipeline)
    assert profile is not None
    # Measured latencies count at once, so that each decision finds others.
    options = {"drift_s": 0.01}
    setting = Setting(graph=Graph.of(pipeline), profile=profile, nodes=_NODES, options=options)
    return Recipe.of(make_autoscaler("triscale", setting), setting, float(_PER_S))


def calm(setting: Setting, plan: Plan) -> Snapshot:
    """Steady arrivals, and 32 replicas."""
    stages = setting.graph.stages
    replicas = [
        ReplicaView(
            spec=ReplicaSpec(
                id=ReplicaId(f"{stages[i % len(stages)]}-{i}"),
                stage=stages[i % len(stages)],
                variants=setting.graph.variants[i % len(stages)],
                lanes=8,
            ),
            node=_NODES[i % len(_NODES)].id,
            phase=Phase.READY,
            cores=8,
        )
        for i in range(32)
    ]
    return Snapshot(
        now=0.0,
        plan=plan,
        nodes=_NODES,
        replicas=replicas,
        per_second=(_PER_S,) * 600,
        recent=(_PER_S // 10,) * 20,
    )


class Deciding:
    """A decider, and decisions that have to compute."""

    def __init__(self, decider: Decider, setting: Setting, plan: Plan, seed: int) -> None:
        self.decider = decider
        self._setting = setting
        self._snapshot = calm(setting, plan)
        self._rng = random.Random(seed)
        self._now = 0.0

    async def surprise(self) -> None:
        """Decide with latencies that nobody has planned with."""
        self._now += 10.0
        graph = self._setting.graph
        drift = {
            (stage, variant): self._rng.uniform(0.5, 1.5)
            for stage, variants in zip(graph.stages, graph.variants, strict=True)
            for variant in variants
        }
        await self.decider.decide(replace(self._snapshot, now=self._now, drift=drift))

    async def tick_ms(self) -> float:
        """CPU time of this thread for a tick that finds nothing new, in milliseconds."""
        plan = await self.decider.decide(replace(self._snapshot, now=self._now + 1.0))
        snapshot = replace(self._snapshot, now=self._now + 2.0, plan=plan)
        await self.decider.decide(snapshot)
        began = time.thread_time()
        for _ in range(_TICKS):
            await self.decider.decide(snapshot)
            await asyncio.sleep(_TIMER_S)
        spent = time.thread_time() - began
        began = time.thread_time()
        for _ in range(_TICKS):
            await asyncio.sleep(_TIMER_S)
        return 1000.0 * (spent - (time.thread_time() - began)) / _TICKS


async def lateness(work: Callable[[], Awaitable[None]]) -> tuple[float, list[float]]:
    """How long the work took, and by how much each timer was late meanwhile, in milliseconds."""
    late: list[float] = []
    began = time.perf_counter()
    doing = asyncio.ensure_future(work())
    while not doing.done():
        due = time.perf_counter() + _TIMER_S
        await asyncio.sleep(_TIMER_S)
        late.append(1000.0 * (time.perf_counter() - due))
    await doing
    return time.perf_counter() - began, late


async def measure(rounds: int) -> int:
    """Print both tables; the number of goals that were missed."""
    made = recipe()
    here = made.make()
    plan = here.first(made.demand)
    deciders: dict[str, Decider] = {"thread": LocalDecider(here), "process": ProcessDecider(made)}
    by_name = {name: Deciding(decider, made.setting, plan, seed=7) for name, decider in deciders.items()}
    late: dict[str, list[float]] = {"thread": [], "process": [], "nothing": []}
    took: dict[str, list[float]] = {"thread": [], "process": [], "nothing": []}
    for decider in deciders.values():
        decider.start()
    try:
        while not all(decider.ready for decider in deciders.values()):
            await asyncio.sleep(0.01)
        for _ in range(rounds):
            for name, deciding in by_name.items():
                seconds, found = await lateness(deciding.surprise)
                took[name].append(seconds)
                late[name] += found
            pause = statistics.median(took["thread"])
            seconds, found = await lateness(lambda pause=pause: asyncio.sleep(pause))  # type: ignore[misc]
            took["nothing"].append(seconds)
            late["nothing"] += found
        ticks = {name: await deciding.tick_ms() for name, deciding in by_name.items()}
    finally:
        for decider in deciders.values():
            await decider.close()
    print(f"  {'timers late while it is decided, ms':<40}{'median':>9}{'p99':>9}{'worst':>9}{'decision, ms':>15}")
    for name, each in late.items():
        median, p99, worst = np.percentile(each, [50, 99, 100]).tolist()
        print(f"  {name:<40}{median:>9.2f}{p99:>9.2f}{worst:>9.2f}{1000.0 * statistics.median(took[name]):>15.1f}")
    for name, spent in ticks.items():
        print(f"  CPU ms of the event loop per unchanged tick, {name:<8}{spent:>9.3f}")
    print(f"  (goal for the process: {GOAL_MS:g} ms; its timers less late than the thread's at the 99th percentile)")
    later = float(np.percentile(late["process"], 99)) >= float(np.percentile(late["thread"], 99))
    return (ticks["process"] > GOAL_MS) + later


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="decisions of each kind")
    options = parser.parse_args(argv)
    missed: int = uvloop.run(measure(options.rounds))
    return missed


if __name__ == "__main__":
    sys.exit(main())
