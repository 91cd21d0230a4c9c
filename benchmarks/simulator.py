"""How fast the simulator is, with the full dispatcher: items per second of one core, and a day of a large cluster.

First the pipeline of `benchmarks.dispatch` (three stages, fan-out 4, batches of up to 8) at nine tenths of what its
plan carries: with the default settings, with fan-outs drawn per item, and at one and a half times that load. Then a
cluster of 1,000 cores under a day's sinusoid, on models as heavy as large ones are on one core: 0.6 core-seconds per
frame, 0.3 per crop. By default only a slice of the day around its mean rate is run and the rest extrapolated; `--whole`
runs all 24 hours. Time is the process's CPU time. `items` are those completed at any stage.

    python -m benchmarks.simulator [--seconds S] [--slice S] [--whole]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.profile import Profile, inline_profile
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.sim.result import Result
from triscale.sim.run import simulate
from triscale.sim.settings import SimSettings
from triscale.traces.shapes import Constant, Diurnal
from triscale.traces.trace import AnyTrace, Paced

FLOOR_ITEMS_PER_S = 200_000
_DAY_S = 86_400.0
_CARRIED_PER_S = 2600.0
"""Requests per second that the small pipeline's plan carries."""
_CLUSTER_CORES = 1000
_CLUSTER_PER_S = (200.0, 900.0)
"""Lowest and highest rate of the day; the cluster carries a little more than the highest."""


class Fixed:
    """An autoscaler that keeps its plan, so that the simulator itself is what is timed."""

    name = "fixed"
    tick_s = 1.0
    dispatch = Settings()

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def first(self, demand: float) -> Plan:  # noqa: ARG002 - whatever comes
        """The plan."""
        return self._plan

    def decide(self, snapshot: Snapshot) -> Plan:
        """No change."""
        return snapshot.plan


def _variant(name: str, ms: Mapping[int, float], accuracy: float, fan_out: Mapping[str, float]) -> Variant:
    return Variant(
        name=name, runtime="emulated", accuracy=accuracy, max_batch=8, latency_ms=dict(ms), fan_out=dict(fan_out)
    )


def small() -> tuple[Pipeline, Plan, int]:
    """The pipeline of `benchmarks.dispatch`, its plan and its cores."""
    times = {"detect": (8.0, 24.0), "classify": (6.0, 16.0), "describe": (6.0, 16.0)}
    fan_out = {"detect": {"classify": 4.0}, "classify": {"describe": 1.0}, "describe": {}}
    lanes = {"detect": 8, "classify": 16, "describe": 16}
    after = {"detect": (), "classify": "detect", "describe": "classify"}
    stages = {}
    for name, (one, eight) in times.items():
        large = _variant("large", {1: one, 8: eight}, 0.95, fan_out[name])
        small = _variant("small", {1: one / 2, 8: eight / 2}, 0.85, fan_out[name])
        stages[name] = Stage(variants=(large, small), after=cast("Any", after[name]))
    shares = {"large": VariantPlan(share=0.7, batch=8), "small": VariantPlan(share=0.3, batch=8)}
    plans = {
        name: StagePlan(
            variants=shares, groups=(ReplicaGroup(variants=("large", "small"), replicas=count // 4, lanes=4),)
        )
        for name, count in lanes.items()
    }
    plan = Plan(stages=plans, capacity=_CARRIED_PER_S, cores=float(sum(lanes.values())))
    return Pipeline(name="bench", slo_ms=200.0, stages=stages), plan, sum(lanes.values())


def cluster() -> tuple[Pipeline, Plan, int]:
    """Detector and classifier on `_CLUSTER_CORES` cores, replicas of eight lanes."""
    stages = {
        "detect": Stage(variants=(_variant("large", {1: 600.0, 8: 4400.0}, 0.9, {"classify": 2.0}),)),
        "classify": Stage(variants=(_variant("large", {1: 300.0, 8: 2000.0}, 0.9, {}),), after="detect"),
    }
    replicas = {"detect": 68, "classify": 57}
    plans = {
        name: StagePlan(
            variants={"large": VariantPlan(share=1.0, batch=4)},
            groups=(ReplicaGroup(variants=("large",), replicas=count, lanes=8),),
        )
        for name, count in replicas.items()
    }
    return Pipeline(name="cluster", slo_ms=8000.0, stages=stages), Plan(stages=plans), _CLUSTER_CORES


def run(world: tuple[Pipeline, Plan, int], trace: AnyTrace, **settings: Any) -> tuple[Result, float]:
    """The result, and the CPU seconds it took."""
    pipeline, plan, cores = world
    profile = cast("Profile", inline_profile(pipeline))
    nodes = [Node(id=NodeId(f"n{index}"), cores=8.0) for index in range(cores // 8)]
    started = time.process_time()
    result = simulate(pipeline, profile, trace, Fixed(plan), nodes, SimSettings(**settings))
    return result, time.process_time() - started


def report(label: str, load: float, seconds: float, repeats: int, **settings: Any) -> float:
    """Run the small pipeline and print the best of several runs; its items per second."""
    trace = Paced(name="poisson", shape=Constant(rate=load * _CARRIED_PER_S, seconds=seconds))
    runs = [run(small(), trace, **settings) for _ in range(repeats)]
    result, took = min(runs, key=lambda pair: pair[1])
    print(
        f"simulator, {label}: {result.items / took:,.0f} items/s, {1e6 * took / result.items:.2f} us per item "
        f"(best of {repeats}); {result.items:,} items in {result.batches:,} batches, attainment {result.attainment:.4f}"
    )
    return result.items / took


def day(slice_s: float, *, whole: bool) -> None:
    """Print what a day of the cluster takes."""
    low, high = _CLUSTER_PER_S
    if whole:
        trace = Paced(name="a day", shape=Diurnal(low=low, high=high, seconds=_DAY_S))
    else:
        trace = Paced(name="slice", shape=Constant(rate=(low + high) / 2.0, seconds=slice_s))
    result, took = run(cluster(), trace, window_s=60.0)
    covered = _DAY_S if whole else slice_s
    how = "run as a whole" if whole else f"extrapolated from {slice_s:,.0f} s at the day's mean rate"
    busy = sum(result.series.busy_core_s) / result.core_seconds
    print(
        f"24 hours of {_CLUSTER_CORES:,} cores: {took * _DAY_S / covered / 60.0:.1f} minutes, {how}; "
        f"{result.items * _DAY_S / covered / 1e6:,.0f} million items at {result.items / took:,.0f} items/s, "
        f"{busy:.0%} of the cores busy, attainment {result.attainment:.4f}, "
        f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 when the floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="simulated seconds of each run of the small pipeline"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slice", type=float, default=300.0, help="seconds of the day that are run")
    parser.add_argument("--whole", action="store_true", help="run the day as a whole (minutes)")
    options = parser.parse_args(argv)
    best = report("0.9 of the planned load", 0.9, options.seconds, options.repeats)
    report("0.9, fan-outs drawn from Poisson", 0.9, options.seconds, options.repeats, fan_out="poisson")
    report("1.5 of the planned load", 1.5, options.seconds, options.repeats)
    day(options.slice, whole=options.whole)
    return int(best < FLOOR_ITEMS_PER_S)


if __name__ == "__main__":
    sys.exit(main())
