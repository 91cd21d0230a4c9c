"""What was measured of a pipeline's variants on one machine: the planner's and the dispatcher's only knowledge of cost.

A profile file is this structure as JSON; `profiler/store.py` reads and writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from msgspec import Meta, Struct

from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Variant

__all__ = ["LatencyPoint", "Machine", "PathAccuracy", "Profile", "VariantProfile", "inline_profile", "with_measured"]

Seconds = Annotated[float, Meta(ge=0.0)]


class LatencyPoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Service latency of a batch, from handing it to a lane to having its results, wire included."""

    batch: Annotated[int, Meta(ge=1)]
    threads: Annotated[int, Meta(ge=1)] = 1
    lanes: Annotated[int, Meta(ge=1)] = 1
    """Lanes that ran at the same time while this was measured."""
    p50_s: Seconds
    p95_s: Seconds
    p99_s: Seconds
    samples: Annotated[int, Meta(ge=0)] = 0


class VariantProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything measured of one variant."""

    latency: tuple[LatencyPoint, ...]
    fan_out: Mapping[str, float] = {}
    """Child stage -> mean items emitted per item processed."""
    accuracy: float | None = None
    """Measured, so that products over stages predict the paths that were not; None = the pipeline file's figure holds.
    docs/profiles.md says how it is derived."""
    load_s: Seconds = 0.0
    """Loading and warming up the model, in a process that runs."""
    start_s: Seconds = 0.0
    """From launching a replica of this variant alone to the first batch that it can take; 0 = not measured."""
    memory_bytes: int = 0
    """Of a replica that holds this variant alone, after its batches."""
    weights: str = ""
    """Hash of the variant's definition and files; a profile made for other weights is stale."""


class PathAccuracy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured end-to-end accuracy of one choice of variants; a product of stage accuracies is only the default."""

    variants: Mapping[str, str]
    """Stage -> variant."""
    accuracy: float
    requests: int = 0
    """Labelled samples that it is the mean score of."""
    error: float = 0.0
    """Standard error of that mean; 0 = not known."""


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a profile was made."""

    id: str = ""
    cpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    python: str = ""
    system: str = ""
    others_cores: float = 0.0
    """Cores that other processes used, on average, while the profile was made."""


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The profiles of all variants of a pipeline."""

    pipeline: str
    stages: Mapping[str, Mapping[str, VariantProfile]]
    """Stage -> variant -> profile."""
    paths: tuple[PathAccuracy, ...] = ()
    machine: Machine = Machine()
    measured: bool = True
    """False: taken from the pipeline file, not from a machine."""
    made: str = ""
    """When: UTC, ISO 8601."""
    version: int = 1


def with_measured(graph: Graph, profile: Profile | None) -> Graph:
    """The graph with the accuracies that were measured in place of those that the pipeline file states."""
    if profile is None:
        return graph
    return replace(
        graph,
        accuracy=tuple(
            tuple(
                stated
                if (found := profile.stages.get(stage, {}).get(name)) is None or found.accuracy is None
                else found.accuracy
                for name, stated in zip(graph.variants[s], graph.accuracy[s], strict=True)
            )
            for s, stage in enumerate(graph.stages)
        ),
    )


def inline_profile(pipeline: Pipeline) -> Profile | None:
    """The profile stated in the pipeline file itself; None unless every variant states `latency_ms`."""
    variants = [variant for stage in pipeline.stages.values() for variant in stage.variants]
    if not all(variant.latency_ms for variant in variants):
        return None
    return Profile(
        pipeline=pipeline.name,
        stages={
            name: {variant.name: _inline(pipeline, name, variant) for variant in stage.variants}
            for name, stage in pipeline.stages.items()
        },
        measured=False,
    )


def _inline(pipeline: Pipeline, stage: str, variant: Variant) -> VariantProfile:
    points = []
    for batch, ms in sorted(variant.latency_ms.items()):
        seconds = ms / 1000.0
        points.append(LatencyPoint(batch=batch, p50_s=seconds, p95_s=seconds, p99_s=seconds))
    return VariantProfile(
        latency=tuple(points),
        fan_out={child: variant.fan_out.get(child, 1.0) for child in pipeline.children(stage)},
        load_s=variant.load_ms / 1000.0,
        memory_bytes=int(variant.memory_mb * 2**20),
    )
