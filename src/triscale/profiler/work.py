"""How the items of samples travel from stage to stage while a pipeline is measured.

The dispatcher's rules for fan-out, joins and order (`dispatch/flow.py`), with all samples of a stage at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triscale.core.graph import Graph
from triscale.core.sample import Sample
from triscale.dispatch.results import Completion
from triscale.wire.payload import Payload, pack

__all__ = ["Work", "entering", "of_samples", "passed_on"]


@dataclass(frozen=True, slots=True)
class Work:
    """One item to run: which sample it came from, where it stands among that sample's items, and its parts."""

    sample: int
    place: tuple[int, ...]
    """As `dispatch.work.Item.place`: stage and position of each ancestor and of itself, root first."""
    parts: tuple[Payload, ...]


def of_samples(samples: Iterable[Sample]) -> list[Work]:
    """What enters the root. TypeError for inputs that cannot be sent."""
    return [Work(number, (0, 0), (pack(sample.inputs),)) for number, sample in enumerate(samples)]


def passed_on(graph: Graph, stage: int, item: Work, result: Completion) -> list[list[Work]]:
    """Per child of the stage: what the item emitted for it, on its way."""
    emitted = result[1]
    return [
        [Work(item.sample, (*item.place, child, i), (p,)) for i, p in enumerate(payloads) if isinstance(p, Payload)]
        for child, payloads in zip(graph.children[stage], emitted, strict=True)
    ]


def entering(graph: Graph, stage: int, arrived: Sequence[Work], samples: Iterable[int]) -> list[Work]:
    """What a stage runs: what arrived, or at a join one item for each sample, made of all that arrived for it."""
    if not graph.joins[stage]:
        return list(arrived)
    parts: dict[int, list[Payload]] = {sample: [] for sample in samples}
    for item in sorted(arrived, key=lambda item: item.place):
        parts[item.sample].extend(item.parts)
    return [Work(sample, (stage, 0), tuple(found)) for sample, found in sorted(parts.items())]
