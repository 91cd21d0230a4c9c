"""Runs labelled samples through the paths of a pipeline and scores the answers.

Stage by stage, with no deadlines and no load: paths that have the same variants up to a stage share what came out of
it, so the work is that of a tree of variants rather than of all paths. A sample that a variant rejects scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from triscale.clock import Clock
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import PathAccuracy, Profile, VariantProfile
from triscale.core.sample import Sample
from triscale.dispatch.results import ItemResult, Rejection
from triscale.engines.local import LocalEngine
from triscale.errors import ConfigError
from triscale.policy.latency import LatencyModel
from triscale.profiler.bench import Bench
from triscale.profiler.measure import Progress
from triscale.profiler.paths import Way, scope, variant_accuracies, ways_to_run
from triscale.profiler.work import Work, entering, of_samples, passed_on
from triscale.wire.payload import Payload

__all__ = ["Judge", "measure_accuracy", "sample_cost_s"]

Key: TypeAlias = tuple[int, Way]
"""A stage, and the variants of its scope."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How an answer is made of what the stages put out, and scored."""

    answer: Callable[[Sequence[Payload]], Mapping[str, npt.NDArray[np.generic]]]
    """The outputs of one request, in the order of emission -> the tensors that a client would get."""
    score: Callable[[Any, Mapping[str, npt.NDArray[np.generic]]], float]
    """The user's: (truth, outputs) -> in [0, 1]."""
    name: str
    """How messages name the score function."""

    def __call__(self, truth: object, outputs: Sequence[Payload]) -> float:
        """The score of one answer. ConfigError when the function raises, or returns no number in [0, 1]."""
        answer = self.answer(outputs)
        try:
            score = float(self.score(truth, answer))
        except Exception as error:
            raise ConfigError(f"samples.score: {self.name} raised {type(error).__name__}: {error}") from error
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ConfigError(f"samples.score: {self.name} returned {score!r}; return a score in [0, 1]")
        return score


@dataclass(slots=True)
class _Passed:
    """What came out of one stage under one choice of variants."""

    failed: frozenset[int]
    """Samples with an item that some variant rejected, here or above."""
    outputs: list[tuple[Work, Payload]] = field(default_factory=list)
    """For the client."""
    emitted: dict[int, list[Work]] = field(default_factory=dict)
    """Child -> items on their way to it."""


def sample_cost_s(graph: Graph, profile: Profile, cores: int) -> float:
    """Seconds that one sample takes through all paths to be run on all lanes, predicted from measured latencies."""
    seconds = 0.0
    items: dict[Key, float] = {}
    for s, name in enumerate(graph.stages):
        for way in _choices(graph, s):
            v = way[-1]
            measured = profile.stages[name][graph.variants[s][v]]
            items[s, way] = _items(graph, profile, s, way, items)
            batch, threads = _batch(measured), min(point.threads for point in measured.latency)
            seconds += items[s, way] * LatencyModel(measured, "p50")(batch, threads, cores) / batch
    return seconds / cores


async def measure_accuracy(
    pipeline: Pipeline,
    import_roots: Sequence[str],
    profile: Profile,
    samples: Sequence[Sample],
    judge: Judge,
    clock: Clock,
    *,
    cores: int,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Profile:
    """The profile with the accuracies of its paths and, derived from them, of its variants.

    Samples without truth or weight are left out; without any labelled sample the profile is returned as it is.
    ModelError when a model raises or an answer cannot be made of what it puts out, ConfigError when scoring fails.
    """
    labelled = [sample for sample in samples if sample.truth is not None and sample.weight > 0.0]
    if not labelled:
        return profile
    graph = Graph.of(pipeline)
    expected = sample_cost_s(graph, profile, cores) * len(labelled)
    started = clock.now()
    engine = LocalEngine(pipeline, import_roots)
    passed: dict[Key, _Passed] = {}
    try:
        for s, name in enumerate(graph.stages):
            on_progress(Progress(f"{name}: accuracy", clock.now() - started, expected))
            bench = await Bench.start(engine, name, graph.variants[s], cores, 1, clock)
            for way in _choices(graph, s):
                variant = graph.variants[s][way[-1]]
                items, failed = _arriving(graph, s, way, passed, labelled)
                results = await bench.run_all(variant, items, _batch(profile.stages[name][variant]))
                passed[s, way] = _sorted_out(graph, s, items, results, failed)
                elapsed = clock.now() - started
                left = max(0.0, expected - elapsed)
                on_progress(Progress(f"{name}/{variant}: accuracy", elapsed, left))
            await bench.stop()
            _let_go(graph, s, passed)
    finally:
        await engine.close()
    scores = {way: _scores(graph, way, passed, labelled, judge) for way in ways_to_run(graph)}
    return _recorded(graph, profile, scores, np.array([sample.weight for sample in labelled]))


def _choices(graph: Graph, stage: int) -> list[Way]:
    """The different choices of variants, among the paths to be run, for the stages that decide about this one."""
    deciding = scope(graph, stage)
    return list(dict.fromkeys(tuple(way[a] for a in deciding) for way in ways_to_run(graph)))


def _cut(graph: Graph, stage: int, way: Way, above: int) -> Way:
    """Of a choice for a stage's scope, the part that decides about a stage above it."""
    chosen = dict(zip(scope(graph, stage), way, strict=True))
    return tuple(chosen[a] for a in scope(graph, above))


def _items(graph: Graph, profile: Profile, stage: int, way: Way, above: Mapping[Key, float]) -> float:
    """Mean items of one sample at a stage."""
    if stage == 0 or graph.joins[stage]:
        return 1.0
    total = 0.0
    for parent in graph.parents[stage]:
        cut = _cut(graph, stage, way, parent)
        fan_out = profile.stages[graph.stages[parent]][graph.variants[parent][cut[-1]]].fan_out
        total += above[parent, cut] * fan_out.get(graph.stages[stage], 1.0)
    return total


def _batch(measured: VariantProfile) -> int:
    """The batch of one lane that costs least per item."""
    alone = [point for point in measured.latency if point.lanes == 1]
    return min(alone, key=lambda point: (point.threads, point.p50_s / point.batch)).batch


def _arriving(
    graph: Graph, stage: int, way: Way, passed: Mapping[Key, _Passed], labelled: Sequence[Sample]
) -> tuple[list[Work], frozenset[int]]:
    """The items of a stage under a choice of variants, and the samples that have failed before it."""
    if stage == 0:
        return of_samples(labelled), frozenset()
    above = [passed[parent, _cut(graph, stage, way, parent)] for parent in graph.parents[stage]]
    failed = frozenset[int]().union(*(run.failed for run in above))
    arrived = [work for run in above for work in run.emitted[stage] if work.sample not in failed]
    return entering(graph, stage, arrived, [n for n in range(len(labelled)) if n not in failed]), failed


def _sorted_out(
    graph: Graph, stage: int, items: Sequence[Work], results: Sequence[ItemResult], failed: frozenset[int]
) -> _Passed:
    rejected = {work.sample for work, result in zip(items, results, strict=True) if isinstance(result, Rejection)}
    found = _Passed(failed | rejected, emitted={child: [] for child in graph.children[stage]})
    for work, result in zip(items, results, strict=True):
        if isinstance(result, Rejection) or work.sample in found.failed:
            continue
        if isinstance(result[0], Payload):
            found.outputs.append((work, result[0]))
        for child, works in zip(graph.children[stage], passed_on(graph, stage, work, result), strict=True):
            found.emitted[child] += works
    return found


def _let_go(graph: Graph, stage: int, passed: Mapping[Key, _Passed]) -> None:
    """Drop the items that were on their way to a stage which has run."""
    for (parent, _), run in passed.items():
        if stage in graph.children[parent]:
            run.emitted.pop(stage)


def _scores(
    graph: Graph, way: Way, passed: Mapping[Key, _Passed], labelled: Sequence[Sample], judge: Judge
) -> npt.NDArray[np.float64]:
    """One for each labelled sample."""
    runs = [passed[s, tuple(way[a] for a in scope(graph, s))] for s in range(len(graph.stages))]
    failed = frozenset[int]().union(*(run.failed for run in runs))
    outputs: list[list[tuple[Work, Payload]]] = [[] for _ in labelled]
    for run in runs:
        for work, payload in run.outputs:
            outputs[work.sample].append((work, payload))
    scores = np.zeros(len(labelled))
    for number, (sample, found) in enumerate(zip(labelled, outputs, strict=True)):
        if number not in failed:
            found.sort(key=lambda pair: pair[0].place)
            scores[number] = judge(sample.truth, [payload for _, payload in found])
    return scores


def _recorded(
    graph: Graph,
    profile: Profile,
    scores: Mapping[Way, npt.NDArray[np.float64]],
    weights: npt.NDArray[np.float64],
) -> Profile:
    means = {way: float(np.average(found, weights=weights)) for way, found in scores.items()}
    errors = {
        way: float(np.sqrt(np.sum((weights * (found - means[way])) ** 2)) / weights.sum())
        for way, found in scores.items()
    }
    own = variant_accuracies(graph, means)
    return replace(
        profile,
        stages={
            name: {
                variant: replace(profile.stages[name][variant], accuracy=own[s][v])
                for v, variant in enumerate(graph.variants[s])
            }
            for s, name in enumerate(graph.stages)
        },
        paths=tuple(
            PathAccuracy(
                variants={name: graph.variants[s][way[s]] for s, name in enumerate(graph.stages)},
                accuracy=round(mean, 5),
                requests=len(weights),
                error=round(errors[way], 5),
            )
            for way, mean in sorted(means.items(), key=lambda item: -item[1])
        ),
    )
