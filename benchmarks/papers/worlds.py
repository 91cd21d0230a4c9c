"""The pipelines, clusters and loads of the experiments: `examples/` says where their figures come from.

Every policy of a case meets the same pipeline, profile, nodes, trace and delays; with the same seed, the same arrivals
and the same items per request.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.profile import LatencyPoint, Profile, VariantProfile, inline_profile
from triscale.core.spec import load_pipeline
from triscale.profiler.store import read_profile
from triscale.sim.settings import SimSettings
from triscale.traces.spec import parse_trace
from triscale.traces.trace import AnyTrace

__all__ = ["STABILISATION", "Case", "joint_case", "loki_case", "motivation_case", "themis_cases"]

EXAMPLES = Path(__file__).parents[2] / "examples"

_DIVIDERS = {"video_monitoring": 4.384, "audio_sentiment": 8.5625, "nlp": 21.0}
"""Of the Twitter slice, by Themis's authors (github.com/mehransi/Themis at b01017f)."""
STABILISATION: Mapping[str, int] = {"video_monitoring": 5, "audio_sentiment": 10, "nlp": 10}
"""Ticks, by the same."""
_MOST_THREADS = 8

_PARALLEL = 0.77
"""Part of a model's one-core latency that more threads divide (Amdahl): the mean of Themis's seven models at batch 1.
Loki's models were measured on GPUs, and nothing is published of their threads."""

_RESNET_PER_S = {1: 26.0, 2: 50.0, 4: 87.0, 8: 126.0}
"""Requests/s by cores of the one stage in Themis's motivation (figures/figure_generator.py at 0688f23)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One pipeline under one load on one cluster."""

    name: str
    pipeline: Pipeline
    profile: Profile
    nodes: tuple[Node, ...]
    trace: AnyTrace
    world: SimSettings

    def shortened(self, part: float) -> Case:
        """The same rates in that part of the time."""
        return self if part == 1.0 else replace(self, trace=self.trace.stretched(part))

    def named(self, name: str, **world: float) -> Case:
        """The same under another name, with some settings of the world changed."""
        return replace(self, name=name, world=msgspec.structs.replace(self.world, **world))


def _cluster(nodes: int, cores: int) -> tuple[Node, ...]:
    return tuple(Node(id=NodeId(f"node-{i + 1}"), cores=cores) for i in range(nodes))


def themis_cases() -> tuple[Case, ...]:
    """Themis's three pipelines on two nodes of 16 cores; a resize takes 1 s, a cold start 6 s."""
    return tuple(
        Case(
            name=name,
            pipeline=load_pipeline(EXAMPLES / name),
            profile=read_profile(EXAMPLES / name / "profile.json"),
            nodes=_cluster(2, 16),
            trace=parse_trace(f"themis:divider={divider:g}"),
            world=SimSettings(resize_s=1.0, cold_start_s=6.0),
        )
        for name, divider in _DIVIDERS.items()
    )


def motivation_case(name: str, trace: str) -> Case:
    """The single stage of Themis's motivation on one node of 16 cores; a reaction takes 1 s up and 6 s out.

    The figure is drawn from capacities and delays alone. So here the load is even, every request takes the same time,
    and the objective, of which nothing is said, leaves a request hardly any time to wait.
    """
    slo_ms = 80.0
    variant = Variant(name="resnet18", runtime="emulated", latency_ms={1: 1000.0 / _RESNET_PER_S[1]}, max_batch=1)
    pipeline = Pipeline(name="single-stage", slo_ms=slo_ms, stages={"classify": Stage(variants=(variant,))})
    points = tuple(_point(1, cores, 1.0 / per_s) for cores, per_s in _RESNET_PER_S.items())
    profile = Profile(
        pipeline=pipeline.name, stages={"classify": {"resnet18": VariantProfile(latency=points)}}, measured=False
    )
    return Case(
        name=name,
        pipeline=pipeline,
        profile=profile,
        nodes=_cluster(1, 16),
        trace=parse_trace(trace),
        # What is seen a tick later and a resize or a launch later is there 1 s, or 6 s, after the load changed.
        world=SimSettings(resize_s=0.5, cold_start_s=5.5),
    )


def loki_case(name: str, trace: str, *, cold_start_s: float = 6.0) -> Case:
    """Loki's traffic analysis, both branches, on 20 servers of one core each."""
    pipeline = load_pipeline(EXAMPLES / "traffic_analysis")
    profile = inline_profile(pipeline)
    assert profile is not None, "the example states its latencies"
    return Case(
        name=name,
        pipeline=pipeline,
        profile=profile,
        nodes=_cluster(20, 1),
        trace=parse_trace(trace),
        world=SimSettings(cold_start_s=cold_start_s),
    )


def joint_case(name: str, trace: str) -> Case:
    """The same pipeline on four nodes of 8 cores, its models with threads, so that all three axes are there."""
    case = loki_case(name, trace)
    stages = {
        stage: {variant: _threaded(measured) for variant, measured in variants.items()}
        for stage, variants in case.profile.stages.items()
    }
    return replace(case, profile=msgspec.structs.replace(case.profile, stages=stages), nodes=_cluster(4, 8))


def _threaded(measured: VariantProfile) -> VariantProfile:
    points = tuple(
        _point(point.batch, threads, point.p50_s * (1.0 - _PARALLEL + _PARALLEL / threads))
        for point, threads in itertools.product(measured.latency, range(1, _MOST_THREADS + 1))
    )
    return msgspec.structs.replace(measured, latency=points)


def _point(batch: int, threads: int, seconds: float) -> LatencyPoint:
    return LatencyPoint(batch=batch, threads=threads, p50_s=seconds, p95_s=seconds, p99_s=seconds)
