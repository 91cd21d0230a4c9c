"""Hundreds of changes of every kind to real replicas under load, and what became of the requests.

    python -m benchmarks.live.changes [--count N]

The product's system with the local engine: emulated replicas, each a process of its own. One kind of change after the
other is made N times, each as soon as the last has taken effect, while requests come at a steady pace. Every request
must be answered: none lost, none failed, none dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from triscale.app.system import Options, System
from triscale.clock import SystemClock, monotonic
from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import inline_profile
from triscale.core.settings import Settings
from triscale.core.snapshot import Phase, Snapshot
from triscale.serve.service import Call, Reply
from triscale.wire.payload import pack

_EVERY_S = 0.004
_TICK_S = 0.02
_LONGEST_S = 1800.0
_NODES = (Node(id=NodeId("node"), cores=32),)
_VARIANTS = (
    Variant(name="large", runtime="emulated", latency_ms={1: 4.0, 8: 12.0}, max_batch=8),
    Variant(name="small", runtime="emulated", latency_ms={1: 2.0, 8: 6.0}, max_batch=8, accuracy=0.9),
)
_PIPELINE = Pipeline(
    name="changes",
    slo_ms=60_000.0,
    stages={"detect": Stage(variants=_VARIANTS), "classify": Stage(variants=_VARIANTS, after="detect")},
)


def _plan(
    replicas: int = 2, lanes: int = 2, threads: int = 1, share: float = 0.5, held: tuple[str, ...] = ("large", "small")
) -> Plan:
    shares = {"large": share, "small": 1.0 - share} if len(held) > 1 else dict.fromkeys(held, 1.0)
    stage = StagePlan(
        variants={name: VariantPlan(share=part, batch=4) for name, part in shares.items()},
        groups=(ReplicaGroup(variants=held, replicas=replicas, lanes=lanes, threads=threads),),
    )
    return Plan(stages={"detect": stage, "classify": stage})


class Changing:
    """An autoscaler that goes to the next plan as soon as what runs is what the last one wanted."""

    name = "changing"
    tick_s = _TICK_S
    dispatch = Settings()

    def __init__(self) -> None:
        self.plans: Iterator[Plan] = itertools.repeat(_plan())
        self.changes = 0

    def first(self, demand: float) -> Plan:  # noqa: ARG002 - as every autoscaler's
        """The first of the plans."""
        return next(self.plans)

    def decide(self, snapshot: Snapshot) -> Plan:
        """The next one, or the last one again."""
        for name, stage in snapshot.plan.stages.items():
            (group,) = stage.groups
            views = snapshot.of_stage(name)
            if len(views) != group.replicas or any(view.phase is not Phase.READY for view in views):
                return snapshot.plan
            if any((view.spec.lanes, view.spec.threads) != (group.lanes, group.threads) for view in views):
                return snapshot.plan
            if any(view.loading or {*view.spec.variants} != {*group.variants} for view in views):
                return snapshot.plan
        self.changes += 1
        return next(self.plans)


@dataclass
class Kind:
    """One kind of change."""

    name: str
    plans: Sequence[Plan]
    """In turn."""
    done: Callable[[System, Changing, int], int]
    """How often it was made; the last argument is the number of restarts."""
    restarts: bool = False


_KINDS = (
    Kind("scale-outs", [_plan(2), _plan(7)], lambda system, *_: system.actuator.launches),
    Kind("scale-ins", [_plan(2), _plan(7)], lambda system, *_: system.actuator.drains),
    Kind(
        "resizes",
        [_plan(2, lanes, threads) for lanes, threads in ((2, 1), (6, 1), (3, 2), (1, 1), (1, 4), (4, 1))],
        lambda system, *_: system.actuator.resizes,
    ),
    Kind("changes of shares", [_plan(share=share) for share in (0.0, 1.0, 0.4)], lambda _, policy, __: policy.changes),
    Kind(
        "variants loaded",
        [_plan(held=held) for held in (("small",), ("large", "small"), ("large",))],
        lambda system, *_: system.actuator.holds,
    ),
    Kind(
        "controller restarts",
        [_plan(2, lanes, share=share) for lanes, share in ((2, 0.5), (6, 0.0), (1, 1.0), (4, 0.2))],
        lambda _, __, restarts: restarts,
        restarts=True,
    ),
)


class Load:
    """Requests at a steady pace, and how they ended."""

    def __init__(self, system: System) -> None:
        self.sent = 0
        self.ends: Counter[str] = Counter()
        self._system = system
        self._payload = pack({"x": 1.0})

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            now = monotonic()
            self.sent += 1
            self._system.runner.submit(_PIPELINE.name, Call([self._payload], now, now + _PIPELINE.slo_s, self._ended))
            await asyncio.sleep(_EVERY_S)

    def _ended(self, reply: Reply) -> None:
        self.ends[reply.outcome.name.lower()] += 1


async def measure(count: int) -> int:
    """Print a line for each kind; the number of requests that were not answered."""
    policy, clock = Changing(), SystemClock()
    system = System(
        _PIPELINE,
        (),
        inline_profile(_PIPELINE),
        policy.first(0.0),
        clock,
        Options(port=0, metrics_port=0),
        autoscaler=policy,
        nodes=_NODES,
    )
    await system.start()
    missing = 0
    try:
        print(f"  {'':24}{'done':>8}{'seconds':>10}{'requests':>10}{'answered':>10}{'not':>6}")
        for kind in _KINDS:
            missing += await _make(kind, count, system, policy)
    finally:
        await system.close(10.0)
    it = system.actuator
    print(f"  replicas that died: {it.deaths}; launches that failed: {it.launch_failures}, loads: {it.hold_failures}")
    return missing + it.deaths + it.launch_failures + it.hold_failures


async def _make(kind: Kind, count: int, system: System, policy: Changing) -> int:
    load = Load(system)
    policy.plans = itertools.cycle(kind.plans)
    restarts, began = 0, monotonic()
    before = kind.done(system, policy, 0)
    sending = asyncio.create_task(load.run())
    async with asyncio.timeout(_LONGEST_S):
        while (done := kind.done(system, policy, restarts) - before) < count:
            await asyncio.sleep(0.1)
            if kind.restarts:
                await system.restart_controller()
                restarts += 1
        sending.cancel()
        while load.ends.total() < load.sent:
            await asyncio.sleep(0.05)
    answered = load.ends["answered"]
    seconds = monotonic() - began
    print(
        f"  {kind.name:24}{done:>8,}{seconds:>10.0f}{load.sent:>10,}{answered:>10,}{load.sent - answered:>6,}",
        flush=True,
    )
    return load.sent - answered


def main(argv: Sequence[str] | None = None) -> int:
    """1 when a request was not answered, or a replica died."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="changes of each kind")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="  %(levelname)s %(message)s", stream=sys.stderr)
    return int(asyncio.run(measure(options.count)) > 0)


if __name__ == "__main__":
    sys.exit(main())
