"""Which paths (one variant per stage) are run to learn their accuracy, and what that says of each variant.

Pure. A path's accuracy is what its answers scored; it is not the product of its stages' accuracies, because a stage's
mistakes depend on what the one before it got wrong. Where there are too many paths to run them all, the reference (the
variants that the pipeline file calls most accurate) and every path that differs from it at one stage are run.

The accuracy of a variant is the number that makes the planner's own formula (the product along each route from the
root to a leaf, averaged over the routes) true of the path that has this variant and is the reference otherwise. For the
reference itself one equation stands for all stages: what it loses is divided among them as the file divides it, by the
power to which all the stated accuracies are raised. Where the file states no loss, all stages share it evenly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from triscale.core.graph import Graph
from triscale.policy.optimise.ways import routes

__all__ = ["ALL", "Way", "reference_of", "scope", "stated_accuracy", "variant_accuracies", "ways_to_run"]

Way: TypeAlias = tuple[int, ...]
"""One variant per stage."""

ALL = 64
"""Up to so many paths, all are run."""
_HALVINGS = 60
_STEEPEST = 1e6
"""Largest power of the stated accuracies."""


def reference_of(graph: Graph) -> Way:
    """The most accurate variant of each stage, as the pipeline file states it; of equals the first."""
    return tuple(max(range(len(row)), key=lambda v: row[v]) for row in graph.accuracy)


def ways_to_run(graph: Graph) -> list[Way]:
    """All paths, or the reference and those that differ from it at one stage."""
    if math.prod(len(names) for names in graph.variants) <= ALL:
        return list(itertools.product(*(range(len(names)) for names in graph.variants)))
    reference = reference_of(graph)
    others = [
        (*reference[:s], v, *reference[s + 1 :])
        for s, names in enumerate(graph.variants)
        for v in range(len(names))
        if v != reference[s]
    ]
    return [reference, *others]


def scope(graph: Graph, stage: int) -> tuple[int, ...]:
    """The stages whose variants decide what comes out of a stage: those above it, and itself."""
    return (*sorted(graph.ancestors[stage]), stage)


def stated_accuracy(graph: Graph, way: Way) -> float:
    """What the pipeline file's own accuracies predict for a path."""
    return _along(routes(graph), [graph.accuracy[s][v] for s, v in enumerate(way)])


def variant_accuracies(graph: Graph, measured: Mapping[Way, float]) -> list[list[float | None]]:
    """Per stage and variant; None where it cannot be derived (the reference never scored)."""
    reference = reference_of(graph)
    whole = measured[reference]
    if whole <= 0.0:
        return [[None] * len(names) for names in graph.variants]
    every = routes(graph)
    base = _divided(every, [graph.accuracy[s][v] for s, v in enumerate(reference)], whole)
    found: list[list[float | None]] = []
    for s, names in enumerate(graph.variants):
        # The planner's mean over routes is linear in one stage's accuracy: solved for it.
        through = sum(math.prod(base[stage] for stage in route if stage != s) for route in every if s in route)
        beside = sum(math.prod(base[stage] for stage in route) for route in every if s not in route)
        row: list[float | None] = []
        for v in range(len(names)):
            way = (*reference[:s], v, *reference[s + 1 :])
            value = (len(every) * measured[way] - beside) / through if through > 0.0 else 0.0
            row.append(round(base[s] if v == reference[s] else min(1.0, max(0.0, value)), 5))
        found.append(row)
    return found


def _divided(every: Sequence[Sequence[int]], stated: Sequence[float], whole: float) -> list[float]:
    """Accuracies of the reference's stages whose mean over routes is `whole`: the stated ones to one power."""
    bases = stated if any(0.0 < accuracy < 1.0 for accuracy in stated) else [0.5] * len(stated)

    def raised(power: float) -> list[float]:
        return [accuracy**power if accuracy > 0.0 else 0.0 for accuracy in bases]

    def mean(power: float) -> float:
        return _along(every, raised(power))

    low, high = 0.0, 1.0
    while mean(high) > whole and high < _STEEPEST:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if mean(middle) > whole else (low, middle)
    return raised(high)


def _along(every: Sequence[Sequence[int]], accuracy: Sequence[float]) -> float:
    """The planner's formula: the product along each route, averaged over the routes."""
    return sum(math.prod(accuracy[stage] for stage in route) for route in every) / len(every)
