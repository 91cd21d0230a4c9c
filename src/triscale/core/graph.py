"""A pipeline's graph, compiled to indices once, so that hot paths never look up a name.

Stages are numbered in topological order (the root is 0), variants in the order of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from triscale.core.pipeline import Pipeline

__all__ = ["Graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """Indices, order and reachability of a pipeline's stages."""

    pipeline: Pipeline
    stages: tuple[str, ...]
    """Names in topological order."""
    variants: tuple[tuple[str, ...], ...]
    """Per stage: variant names."""
    accuracy: tuple[tuple[float, ...], ...]
    """Per stage and variant."""
    children: tuple[tuple[int, ...], ...]
    parents: tuple[tuple[int, ...], ...]
    ancestors: tuple[frozenset[int], ...]
    """Per stage: every stage from which it can be reached."""
    joins: tuple[bool, ...]
    """Per stage: whether it gathers (`join: all`)."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Graph:
        """Compile a valid pipeline."""
        order = topological(pipeline)
        index = {name: i for i, name in enumerate(order)}
        specs = [pipeline.stages[name] for name in order]
        parents = tuple(tuple(index[p] for p in spec.parents) for spec in specs)
        ancestors: list[frozenset[int]] = []
        for mine in parents:
            above: set[int] = set(mine)
            for parent in mine:
                above |= ancestors[parent]
            ancestors.append(frozenset(above))
        return cls(
            pipeline=pipeline,
            stages=order,
            variants=tuple(tuple(v.name for v in spec.variants) for spec in specs),
            accuracy=tuple(tuple(v.accuracy for v in spec.variants) for spec in specs),
            children=tuple(tuple(sorted(index[c] for c in pipeline.children(name))) for name in order),
            parents=parents,
            ancestors=tuple(ancestors),
            joins=tuple(spec.join == "all" for spec in specs),
        )

    def stage(self, name: str) -> int:
        """The index of a stage; ValueError when there is none."""
        return self.stages.index(name)

    def variant(self, stage: int, name: str) -> int:
        """The index of a variant of a stage; ValueError when there is none."""
        return self.variants[stage].index(name)


def topological(pipeline: Pipeline) -> tuple[str, ...]:
    """Stage names, every stage after its parents; ties in the order of the file."""
    order: list[str] = []
    while len(order) < len(pipeline.stages):
        for name, stage in pipeline.stages.items():
            if name not in order and all(parent in order for parent in stage.parents):
                order.append(name)
                break
        else:  # pragma: no cover - Pipeline refuses cycles at construction
            raise ValueError("the pipeline has a cycle")
    return tuple(order)
