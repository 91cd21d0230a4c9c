"""Pipelines as users write them: the same keys in YAML (`core/spec.py` reads it) and in Python.

A pipeline is a rooted acyclic graph of stages with one latency objective. Everything here is frozen; a changed
pipeline is a new one (`msgspec.structs.replace`). Construction checks every rule and raises one `ConfigError`
that lists all that are broken.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from triscale.core.settings import Settings
from triscale.errors import ConfigError

__all__ = ["DATATYPES", "Datatype", "Pipeline", "Policy", "ResourceLimits", "Samples", "Stage", "TensorSpec", "Variant"]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
NonNegative = Annotated[float, Meta(ge=0.0)]

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""Tensor element types of the Open Inference Protocol, version 2."""

DATATYPES: Mapping[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}
"""Bytes per element; 0 for BYTES, whose elements each carry their own length."""


class TensorSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The type and shape of one input or output of the pipeline; -1 stands for any extent."""

    datatype: Datatype
    shape: tuple[Annotated[int, Meta(ge=-1)], ...]


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One concrete model for a stage."""

    name: Name
    model: str = ""
    """`package.module:Class` of a `triscale.Model`, or for the onnx runtime the path of the file."""
    runtime: Literal["python", "onnx", "emulated"] = "python"
    options: dict[str, Any] = {}
    """Handed to the model's `load` as they are."""
    accuracy: Share = 1.0
    max_batch: Annotated[int, Meta(ge=1, le=4096)] = 32
    """Largest batch, in items, that the model takes."""
    fan_out: dict[str, NonNegative] = {}
    """Mean items emitted per child stage and item processed; measured by the profiler, 1 where not stated."""
    latency_ms: dict[Annotated[int, Meta(ge=1)], Positive] = {}
    """Batch size -> milliseconds with one thread: what `emulated` sleeps, and the profile until one is measured."""
    load_ms: NonNegative = 0.0
    """Time to load, for `emulated` and for planning until it is measured."""
    memory_mb: NonNegative = 0.0
    gpus: Annotated[int, Meta(ge=0)] = 0
    """Whole devices that each lane occupies."""


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a pipeline, with one or more variants that can do it."""

    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    after: tuple[str, ...] | str = ()
    """The stages that emit this one's items; none for the root."""
    join: Literal["each", "all"] = "each"
    """`each`: every item that a parent emits is an item here. `all`: one item per request, made of all that its
    parents emitted, when every stage before it is done with the request."""
    linger_ms: NonNegative = 0.0
    """Longest that an idle lane waits for a fuller batch; never past the slack of the oldest item."""
    min_replicas: Annotated[int, Meta(ge=1)] = 1
    """Fewest replicas, of all its variants together, that a plan may give the stage."""
    max_replicas: Annotated[int, Meta(ge=1)] | None = None
    """Most likewise; None: as many as fit."""

    @property
    def parents(self) -> tuple[str, ...]:
        """`after` as a tuple, however it was written."""
        return (self.after,) if isinstance(self.after, str) else self.after

    def variant(self, name: str) -> Variant:
        """The variant of that name; KeyError when there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)


class ResourceLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the machine or cluster the pipeline may use."""

    cores: Positive | None = None
    """None: all that the engine reports."""
    memory_gb: Positive | None = None


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which autoscaler decides, and its settings."""

    name: str = "static"
    min_accuracy: Share = 0.0
    options: dict[str, Any] = {}


class Samples(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where example requests come from, for the profiler and the load generator."""

    source: str
    """`package.module:function`; called with (count, seed), yields `triscale.Sample`s."""
    score: str = ""
    """`package.module:function`; called with (truth, outputs), returns a score in [0, 1]. Empty: unlabelled."""


class Pipeline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rooted acyclic graph of stages with one end-to-end latency objective."""

    name: Name
    slo_ms: Positive
    stages: Annotated[dict[str, Stage], Meta(min_length=1)]
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    max_batch_size: Annotated[int, Meta(ge=0, le=4096)] = 0
    """0: a request is one item. N: the first dimension of every tensor is a batch of at most N rows, each row an
    item; `inputs` and `outputs` then leave that dimension out (as in Triton's model configuration)."""
    partial: Literal["allow", "deny"] = "deny"
    """What a lost item means: `allow` answers with what is there, marked; `deny` fails the request."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    """How often an item is run again after a replica died under it."""
    resources: ResourceLimits = ResourceLimits()
    policy: Policy = Policy()
    dispatch: Settings = Settings()
    samples: Samples | None = None

    def __post_init__(self) -> None:
        problems = [f"{path}: {message}" for path, message in broken_rules(self)]
        if problems:
            raise ConfigError(*problems)

    @property
    def slo_s(self) -> float:
        """The end-to-end latency objective in seconds."""
        return self.slo_ms / 1000.0

    @property
    def root(self) -> str:
        """The one stage without parents."""
        return next(name for name, stage in self.stages.items() if not stage.parents)

    def children(self, stage: str) -> tuple[str, ...]:
        """The stages that take items from `stage`, in the order of the file."""
        return tuple(name for name, other in self.stages.items() if stage in other.parents)


_STAGE_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")


def broken_rules(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    """Every rule that `pipeline` breaks, as (path, message). Types and ranges too: Python code skips msgspec."""
    yield from _types(pipeline)
    for name, stage in pipeline.stages.items():
        yield from _stage_rules(pipeline, name, stage)
    yield from _graph_rules(pipeline)
    for group, specs in (("inputs", pipeline.inputs), ("outputs", pipeline.outputs)):
        for tensor, spec in specs.items():
            if spec.datatype == "BYTES" and not spec.shape:
                yield f"{group}.{tensor}.shape", "is empty; write [1] for one element"


def _types(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    fields: tuple[tuple[str, Any, Any], ...] = (
        ("name", pipeline.name, Name),
        ("slo_ms", pipeline.slo_ms, Positive),
        ("stages", list(pipeline.stages), Annotated[list[str], Meta(min_length=1)]),
        ("retries", pipeline.retries, Annotated[int, Meta(ge=0, le=10)]),
        ("partial", pipeline.partial, Literal["allow", "deny"]),
    )
    for path, value, kind in fields:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            yield path, f"{error}, got {value!r}"
    for name, stage in pipeline.stages.items():
        try:
            msgspec.convert(msgspec.to_builtins(stage), Stage)
        except (msgspec.ValidationError, TypeError) as error:
            yield f"stages.{name}", str(error)
    if isinstance(pipeline.slo_ms, float) and not math.isfinite(pipeline.slo_ms):
        yield "slo_ms", f"must be a finite number of milliseconds, got {pipeline.slo_ms!r}"


def _stage_rules(pipeline: Pipeline, name: str, stage: Stage) -> Iterator[tuple[str, str]]:
    path = f"stages.{name}"
    if not _STAGE_NAME.match(name):
        yield path, f"a stage's name has letters, digits, '-' and '_' and begins with a letter, got {name!r}"
    for parent in stage.parents:
        if parent not in pipeline.stages:
            known = ", ".join(other for other in pipeline.stages if other != name)
            yield f"{path}.after", f"names the unknown stage {parent!r}; the other stages are: {known or 'none'}"
    if len(set(stage.parents)) < len(stage.parents):
        yield f"{path}.after", f"names a stage twice: {', '.join(stage.parents)}"
    if stage.join == "all" and not stage.parents:
        yield f"{path}.join", "`all` gathers what parents emitted, but this stage has none; name them in `after`"
    if stage.join == "all" and pipeline.max_batch_size > 0:
        yield (
            f"{path}.join",
            "`all` gathers what belongs to one request, and rows of a batch would mix; set max_batch_size to 0",
        )
    if stage.max_replicas is not None and stage.max_replicas < stage.min_replicas:
        yield (
            f"{path}.max_replicas",
            f"is {stage.max_replicas}, below `min_replicas` ({stage.min_replicas}); raise it, or lower the other",
        )
    children = pipeline.children(name)
    seen: set[str] = set()
    for index, variant in enumerate(stage.variants):
        where = f"{path}.variants[{index}]"
        if variant.name in seen:
            yield f"{where}.name", f"{variant.name!r} is already the name of another variant of this stage"
        seen.add(variant.name)
        yield from _variant_rules(where, variant, children)


def _variant_rules(where: str, variant: Variant, children: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if variant.runtime != "emulated" and not variant.model:
        yield f"{where}.model", f"is missing: the {variant.runtime} runtime needs to know what to load"
    if variant.runtime == "python" and variant.model and not re.match(r"^[\w.]+:\w+$", variant.model):
        yield f"{where}.model", f"is written `package.module:Class`, got {variant.model!r}"
    if variant.runtime == "emulated" and not variant.latency_ms:
        yield f"{where}.latency_ms", "is missing: the emulated runtime sleeps as long as it says"
    for child in variant.fan_out:
        if child not in children:
            yield (
                f"{where}.fan_out.{child}",
                f"is not a child of this stage; its children are: {', '.join(children) or 'none'}",
            )
    numbers = [
        variant.accuracy,
        variant.load_ms,
        variant.memory_mb,
        *variant.fan_out.values(),
        *variant.latency_ms.values(),
    ]
    if not all(math.isfinite(number) for number in numbers):
        yield where, "holds a number that is not finite (NaN or infinity)"
    latencies = [variant.latency_ms[batch] for batch in sorted(variant.latency_ms)]
    if any(later < 0.5 * earlier for earlier, later in itertools.pairwise(latencies)):
        yield f"{where}.latency_ms", "falls by more than half as the batch grows; are batch and latency swapped?"


def _graph_rules(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    roots = [name for name, stage in pipeline.stages.items() if not stage.parents]
    if not roots:
        yield "stages", "has no root: every stage is `after` another, so no request could start"
    elif len(roots) > 1:
        yield (
            "stages",
            f"has {len(roots)} roots ({', '.join(roots)}) where a request starts at one; give the others an `after`",
        )
    done: set[str] = set()
    waiting = dict(pipeline.stages)
    while True:
        ready = [n for n, s in waiting.items() if all(p in done or p not in pipeline.stages for p in s.parents)]
        if not ready:
            break
        for name in ready:
            done.add(name)
            del waiting[name]
    if waiting:
        yield "stages", f"has a cycle through {', '.join(waiting)}; a stage cannot come after itself"
