"""How fast the planner plans, beside the same problem written down naively for the same solver.

    python -m benchmarks.planner [--naive-seconds S]

Every figure is the median of several runs on one core. The papers' pipelines come from `examples`; "4 x 5" is a chain
of four stages with five variants each (625 ways), the size at which the naive form does not come to an end.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.support.naive_milp import solve_naively
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.spec import load_pipeline
from triscale.policy.optimise import Problem, Settings, Solver, solve

EXAMPLES = Path(__file__).parents[1] / "examples"
PAPER = Settings(wait="half_slo", service_quantile="p50", utilisation=1.0, threads=(1,), time_limit_s=60.0)

T = TypeVar("T")


@dataclass(frozen=True)
class Floor:
    """What a figure must not exceed, in milliseconds."""

    name: str
    most_ms: float
    ms: float

    @property
    def missed(self) -> bool:
        """Whether it does."""
        return self.ms > self.most_ms

    def __str__(self) -> str:
        return f"{self.name}: {self.ms:.2f} ms (at most {self.most_ms:g}){' MISSED' if self.missed else ''}"


def example(name: str, cores: int, settings: Settings) -> Problem:
    return problem_of(load_pipeline(EXAMPLES / name), cores, settings)


def problem_of(spec: Pipeline, cores: int, settings: Settings) -> Problem:
    profile = inline_profile(spec)
    assert profile is not None
    return Problem.of(Graph.of(spec), profile, 1.0, cores, settings)


def timed(run: Callable[[], T], repeats: int = 5) -> tuple[T, float]:
    """The last result, and the median milliseconds."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - begin)
    return result, 1e3 * statistics.median(seconds)


def planned(problem: Problem, solver: Solver = "auto", repeats: int = 5) -> tuple[Plan, float]:
    """The plan and the median milliseconds, compiled beforehand, as in a control loop."""
    solve(problem, solver)
    return timed(lambda: solve(problem, solver, clock=time.perf_counter), repeats)


def four_by_five(seed: int) -> Pipeline:
    """Four stages in a row, five variants each: less accurate, faster, with less to do for the next."""
    rng = random.Random(seed)
    stages: dict[str, Stage] = {}
    for s in range(4):
        base = rng.uniform(4.0, 12.0)
        variants = []
        for v in range(5):
            speed = 2.2**-v * rng.uniform(0.8, 1.2)
            fixed = base * speed * rng.uniform(0.3, 0.7)
            per_item = base * speed - fixed
            variants.append(
                Variant(
                    name=f"v{v}",
                    runtime="emulated",
                    accuracy=1.0 - 0.06 * v * rng.uniform(0.7, 1.3),
                    max_batch=64,
                    latency_ms={b: fixed + per_item * b for b in (1, 2, 4, 8, 16, 32, 64)},
                    fan_out={f"s{s + 1}": rng.choice((1.0, 1.5, 2.0, 3.0)) * (1.0 - 0.1 * v)} if s < 3 else {},
                )
            )
        stages[f"s{s}"] = Stage(variants=tuple(variants), after=(f"s{s - 1}",) if s else ())
    return Pipeline(name="four-by-five", slo_ms=480.0, stages=stages)


def exact(naive_seconds: float) -> list[Floor]:
    """The exact search to a gap of 0.1 %, beside the naive form."""
    print("  traffic analysis on 18 servers, to 0.1 %            triscale                     naive form")
    settings = replace(PAPER, gap=1e-3)
    times = []
    for name in ("car_branch", "pipeline"):
        base = example(f"traffic_analysis/{name}.yaml", 18, settings)
        for demand in (250, 513, 800):
            world = base.at(demand)
            plan, ms = planned(world)
            times.append(ms)
            line = f"    {name:10} {demand:5} requests/s      {plan.accuracy:8.3%} gap {plan.gap:7.3%} {ms:8.1f} ms"
            if name == "car_branch":
                answer, naive_ms = timed(lambda w=world: solve_naively(w, 1e-3, naive_seconds), 1)  # type: ignore[misc]
                line += f"   {answer.accuracy:8.3%} gap {answer.gap:7.3%} {naive_ms:8.0f} ms ({naive_ms / ms:.0f}x)"
            print(line)
    return [Floor("traffic analysis to 0.1 %", 50.0, statistics.median(times))]


def large(naive_seconds: float) -> list[Floor]:
    """625 ways to a gap of 1 %, and ten thousand lanes."""
    settings = replace(PAPER, gap=1e-2)
    times = []
    print("  4 stages x 5 variants on 40 servers, to 1 %")
    for seed in (1, 2, 3):
        world = problem_of(four_by_five(seed), 40, settings).at(1600.0)
        plan, ms = planned(world, repeats=3)
        times.append(ms)
        line = f"    instance {seed}                       {plan.accuracy:8.3%} gap {plan.gap:7.3%} {ms:8.1f} ms"
        if seed == 1:
            answer, naive_ms = timed(lambda w=world: solve_naively(w, 1e-2, naive_seconds), 1)  # type: ignore[misc]
            line += f"   {answer.accuracy:8.3%} gap {answer.gap:7.3%} {naive_ms:8.0f} ms"
        print(line)
    print("  ten thousand lanes (both branches, to 0.1 %)")
    for rule in (replace(PAPER, gap=1e-3), Settings(gap=1e-3, time_limit_s=60.0)):
        world = example("traffic_analysis/pipeline.yaml", 10_000, rule).at(300_000.0)
        plan, ms = planned(world, repeats=3)
        print(f"    wait: {rule.wait:10}                {plan.accuracy:8.3%} gap {plan.gap:7.3%} {ms:8.1f} ms")
    return [Floor("4 x 5 to 1 %", 1000.0, max(times))]


def quick() -> list[Floor]:
    """The dynamic program and the greedy plan, for the papers' pipelines."""
    floors = []
    fill = Settings(wait="batch_fill", utilisation=1.0)
    worst = {"dp, waits of the papers": 0.0, "dp, predicted waits": 0.0, "greedy": 0.0}
    for name, demand in (("video_monitoring", 39.0), ("audio_sentiment", 20.0), ("nlp", 8.0)):
        for label, rule in (("dp, waits of the papers", fill), ("dp, predicted waits", Settings())):
            _, ms = planned(example(f"{name}/pipeline.yaml", 32, rule).at(demand), "dp", 101)
            worst[label] = max(worst[label], ms)
    for name, cores in (("traffic_analysis/pipeline.yaml", 18), ("social_media/pipeline.yaml", 20)):
        for rule in (PAPER, Settings()):
            for demand in (50.0, 200.0, 500.0, 1000.0):
                _, ms = planned(example(name, cores, rule).at(demand), "greedy", 51)
                worst["greedy"] = max(worst["greedy"], ms)
    floors += [Floor(label, 1.0, ms) for label, ms in worst.items()]
    return floors


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 when one misses its floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--naive-seconds", type=float, default=10.0, help="time limit of the naive form")
    options = parser.parse_args(argv)
    floors = [*exact(options.naive_seconds), *large(options.naive_seconds), *quick()]
    for floor in floors:
        print(f"  {floor}")
    return int(any(floor.missed for floor in floors))


if __name__ == "__main__":
    sys.exit(main())
