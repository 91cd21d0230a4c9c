"""From shares of ways to a decision: the fewest whole lanes that carry them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from triscale.policy.optimise.compiled import Kind
from triscale.policy.optimise.decision import Decision, Pooled
from triscale.policy.optimise.place import fits
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.supply import Supply
from triscale.policy.optimise.ways import Ways
from triscale.policy.waiting import Array

__all__ = ["loads_of", "mixed_stage", "round_up"]

_NOTHING = 1e-9
"""Shares below this come from the arithmetic."""


def round_up(
    problem: Problem,
    ways: Ways,
    kinds: Sequence[Kind],
    supplies: Sequence[Supply],
    shares: Array,
    joined: Collection[int],
) -> Decision | None:
    """The decision that these shares of `ways` need; None where the cluster has no room for it."""
    shares = np.where(shares > _NOTHING, shares, 0.0)
    if not shares.any() or mixed_stage(ways, shares, joined) is not None:
        return None
    pools: dict[tuple[int, int], Pooled] = {}
    for key, load in loads_of(ways, shares, problem.demand).items():
        options = [
            (lanes * kind.threads, i, lanes)
            for i, kind in enumerate(kinds)
            if (kind.stage, kind.variant) == key and (lanes := supplies[i].lanes(load)) is not None
        ]
        if not options:
            return None
        _, i, lanes = min(options)
        point = supplies[i].point(lanes)
        if point is None:
            return None
        pools[key] = Pooled(point, lanes, load)
    used = np.flatnonzero(shares)
    mix = tuple(
        (tuple(way), share) for way, share in zip(ways.variants[used].tolist(), shares[used].tolist(), strict=True)
    )
    decision = Decision(pools, mix, float(ways.accuracy @ shares)).with_least_replicas(problem)
    return decision if fits(problem, decision) else None


def mixed_stage(ways: Ways, shares: Array, joined: Collection[int]) -> int | None:
    """A stage where branches meet, or behind one, that would run several variants."""
    used = ways.variants[shares > _NOTHING]
    return next((stage for stage in sorted(joined) if len(set(used[:, stage].tolist())) > 1), None)


def loads_of(ways: Ways, shares: Array, demand: float) -> dict[tuple[int, int], float]:
    """(stage, variant) -> items/s, for what is used."""
    loads: dict[tuple[int, int], float] = {}
    used = np.flatnonzero(shares > _NOTHING)
    table = zip(ways.variants[used].tolist(), ways.visits[used].tolist(), shares[used].tolist(), strict=True)
    for way, visits, share in table:
        for stage, variant in enumerate(way):
            loads[stage, variant] = loads.get((stage, variant), 0.0) + demand * share * visits[stage]
    return loads
