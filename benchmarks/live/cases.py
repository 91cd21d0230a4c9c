"""What is run live: a slice of each paper's headline experiment, and how its policies are set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from benchmarks.papers.experiment import Contender
from benchmarks.papers.settings import TRISCALE, loki_settings, peak_rate, themis_settings
from benchmarks.papers.worlds import STABILISATION, Case, loki_case, themis_cases
from triscale.core.pipeline import Pipeline, Variant
from triscale.core.profile import Profile
from triscale.policy.latency import LatencyModel

__all__ = ["CASES", "Experiment", "Moments", "contender", "emulated", "experiment", "moments_of"]

_MOST_THREADS = 8
_FIRST_S = 10.0
"""The first plan is made for the mean rate of so many seconds, as in the simulator."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A case of the papers, and which part of it is run."""

    case: Case
    policies: tuple[str, ...]
    """Of its paper, and ours."""
    start_s: float
    """Of the slice that is run by default,"""
    seconds: float
    """and how long it is."""
    dilation: float
    """How much slower than life it runs by default: as far as two cores push the whole of it without being strained."""


@dataclass(frozen=True, slots=True)
class Moments:
    """A trace of known moments."""

    name: str
    times: Sequence[float]
    seconds: float

    def arrivals(self, rng: random.Random) -> Iterator[float]:  # noqa: ARG002 - nothing is left to chance
        """The moments."""
        return iter(self.times)

    def rate(self, at: float) -> float:
        """Requests in the second around `at`."""
        return float(sum(int(at) <= time < int(at) + 1 for time in self.times))

    @property
    def first_demand(self) -> float:
        """Mean requests/s of the beginning."""
        seconds = min(_FIRST_S, self.seconds)
        return sum(time < seconds for time in self.times) / seconds


def _video() -> Experiment:
    return Experiment(
        case=next(case for case in themis_cases() if case.name == "video_monitoring"),
        policies=("triscale", "themis", "horizontal", "vertical"),
        start_s=40.0,
        seconds=120.0,
        dilation=2.0,
    )


def _traffic() -> Experiment:
    return Experiment(
        case=loki_case("traffic_analysis", "azure-day"),
        policies=("triscale", "loki", "inferline"),
        start_s=180.0,
        seconds=120.0,
        dilation=2.0,
    )


CASES = {"video": _video, "traffic": _traffic}


def experiment(name: str) -> Experiment:
    """By its name in `CASES`."""
    return CASES[name]()


def contender(case: Case, policy: str) -> Contender:
    """A policy as it was published, or ours with its defaults."""
    if policy == TRISCALE.policy:
        return TRISCALE
    known = {**themis_settings(peak_rate(case), STABILISATION.get(case.name, 10)), **loki_settings()}
    return known[policy][0]


def moments_of(case: Case, start_s: float, seconds: float, seed: int) -> Moments:
    """The arrivals of a slice of the case's trace, drawn once for everybody."""
    trace = case.trace.sliced(start_s, start_s + seconds)
    rng = random.Random(f"{seed}: arrivals")
    return Moments(trace.label, tuple(trace.arrivals(rng)), trace.seconds)


def emulated(pipeline: Pipeline, profile: Profile, dilation: float) -> Pipeline:
    """The pipeline whose replicas sleep, `dilation` times longer, exactly as long as the simulator says.

    That is the profile's medians for every batch size and number of threads.
    """

    def asleep(stage: str, variant: Variant) -> Variant:
        model = LatencyModel(profile.stages[stage][variant.name], "p50")

        def table(threads: int) -> Mapping[int, float]:
            return {batch: 1000.0 * dilation * model(batch, threads) for batch in range(1, variant.max_batch + 1)}

        more = [threads for threads in model.threads if 1 < threads <= _MOST_THREADS]
        return msgspec.structs.replace(
            variant,
            runtime="emulated",
            latency_ms=dict(table(1)),
            load_ms=0.0,
            options={"by_threads": {threads: dict(table(threads)) for threads in more}} if more else {},
        )

    stages = {
        name: msgspec.structs.replace(stage, variants=tuple(asleep(name, variant) for variant in stage.variants))
        for name, stage in pipeline.stages.items()
    }
    return msgspec.structs.replace(pipeline, stages=stages)


def sliced(found: Experiment, start_s: float | None, seconds: float | None, dilation: float | None) -> Experiment:
    """With another slice or another dilation, where they are given."""
    start_s = found.start_s if start_s is None else start_s
    seconds = found.seconds if seconds is None else seconds
    return replace(
        found,
        start_s=start_s,
        seconds=min(seconds, found.case.trace.seconds - start_s),
        dilation=found.dilation if dilation is None else dilation,
    )
