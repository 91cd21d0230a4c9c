"""What a solver decides, before it is dressed up as a `Plan`: pools of lanes, and the part of the requests per way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from triscale.policy.optimise.points import Point
from triscale.policy.optimise.problem import Problem

__all__ = ["Decision", "Mode", "Pooled"]

Mode: TypeAlias = Literal["hardware", "accuracy", "overload"]
"""What had to give: nothing but cores, some accuracy, or some of the requests."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """All lanes of one variant."""

    point: Point
    lanes: int
    items_per_s: float
    """Load that it takes."""

    @property
    def cores(self) -> int:
        """Cores of its lanes."""
        return self.lanes * self.point.threads


@dataclass(frozen=True, slots=True)
class Decision:
    """Which variants run how, and which way the requests go."""

    pools: Mapping[tuple[int, int], Pooled]
    """(stage, variant) -> its lanes."""
    ways: tuple[tuple[tuple[int, ...], float], ...]
    """(a variant per stage, part of all requests); the parts sum to the part that is served."""
    accuracy: float
    """Sum over the ways of part times accuracy: what the requests that are shed lack counts as 0."""

    @property
    def served(self) -> float:
        """Part of the requests that is carried."""
        return sum(share for _, share in self.ways)

    @property
    def cores(self) -> int:
        """Cores of all lanes."""
        return sum(pool.cores for pool in self.pools.values())

    def with_least_replicas(self, problem: Problem) -> Decision:
        """The same with at least one lane for each replica that a stage must have."""
        pools = dict(self.pools)
        for stage, name in enumerate(problem.graph.stages):
            mine = {key: pool for key, pool in pools.items() if key[0] == stage}
            short = problem.settings.bounds(name).least - sum(pool.lanes for pool in mine.values())
            if short > 0 and mine:
                key = max(mine, key=lambda key: (mine[key].items_per_s, -key[1]))
                pools[key] = replace(pools[key], lanes=pools[key].lanes + short)
        return replace(self, pools=pools)
