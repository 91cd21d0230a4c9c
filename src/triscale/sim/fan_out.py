"""How many items each item emits for each child: drawn from its variant's distribution, the same for every policy.

Common random numbers: each item carries a key, a hash of the seed, the request's number and the item's place among
those of its request, and the uniform number behind each draw is a hash of that key. So request 17 has the same objects
under every policy; what a policy changes is only the mean of the variant that it runs (more items, never others).

A stage whose items and their descendants need no draws (whole numbers with `even`) carries no keys and costs nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from triscale.core.graph import Graph
from triscale.core.profile import Profile
from triscale.dispatch.results import Completion
from triscale.dispatch.work import Batch
from triscale.sim.settings import FanOut

__all__ = ["Emission", "cumulative", "mix", "uniform"]

_DONE = "output"
"""What a finished item hands to the client, where the pipeline answers with what is there."""
_TAIL = 1e-12
"""Probability of the draws beyond the longest that is tabulated."""
_MASK = (1 << 64) - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT = 2.0**-53


def mix(key: int, salt: int) -> int:
    """64 bits that look random and depend on every bit of both.

    SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = (key * _GOLDEN + salt) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def uniform(digest: int) -> float:
    """A number in [0, 1) from a hash."""
    return (digest >> 11) * _UNIT


def cumulative(kind: FanOut, mean: float) -> list[float]:
    """P(N <= n) for n = 0, 1, ... of the number of items emitted, as far as it is below 1."""
    if kind == "even" or mean <= 0.0:
        whole = math.floor(mean)
        return [0.0] * whole + [1.0 - (mean - whole)] * (mean > whole)
    if kind == "binomial":
        trials = max(1, math.ceil(2.0 * mean))
        p = mean / trials
        terms = [math.comb(trials, n) * p**n * (1.0 - p) ** (trials - n) for n in range(trials)]
        return _sums(terms)
    terms = []
    left = 1.0
    # Both are built from their first term by ratios; Poisson's first underflows only for means of 700 and more.
    term = math.exp(-mean) if kind == "poisson" else 1.0 / (1.0 + mean)
    while left > _TAIL:
        terms.append(term)
        left -= term
        term *= mean / len(terms) if kind == "poisson" else mean / (1.0 + mean)
        if len(terms) > mean and term < _TAIL * (1.0 - _TAIL):
            break
    return _sums(terms)


def _sums(terms: Sequence[float]) -> list[float]:
    return [min(1.0, math.fsum(terms[: n + 1])) for n in range(len(terms))]


class Emission:
    """Makes the results of batches: for each item how many items it emits, and their keys."""

    __slots__ = ("_done", "_draws", "_fixed", "_joins", "_salts", "keyed")

    def __init__(self, graph: Graph, profile: Profile, kind: FanOut, seed: int) -> None:
        self._done = _DONE if graph.pipeline.partial == "allow" else None
        self._joins = graph.joins
        self._draws: list[list[list[list[float]]]] = []
        """Per stage, variant and child: the cumulative distribution."""
        self._fixed: list[list[Completion | None]] = []
        """Per stage and variant: the result of every item, where there is nothing to draw."""
        self._salts = [
            [mix(mix(seed, s), position) for position in range(len(children))]
            for s, children in enumerate(graph.children)
        ]
        needs = [False] * len(graph.stages)
        for s in reversed(range(len(graph.stages))):
            stage = graph.stages[s]
            means = [
                [profile.stages[stage][v].fan_out.get(graph.stages[c], 1.0) for c in graph.children[s]]
                for v in graph.variants[s]
            ]
            self._draws.append([[cumulative(kind, mean) for mean in row] for row in means])
            drawn = any(0.0 < below < 1.0 for row in self._draws[-1] for chances in row for below in chances)
            needs[s] = drawn or any(needs[c] and not graph.joins[c] for c in graph.children[s])
            self._fixed.append([None if needs[s] else self._same(row) for row in means])
        self._draws.reverse()
        self._fixed.reverse()
        self.keyed = needs[0]
        """Whether the items of a request carry keys."""

    def results(self, batch: Batch) -> list[Completion]:
        """What the items of a finished batch emit, in order."""
        s = batch.stage
        fixed = self._fixed[s][batch.variant]
        if fixed is not None:
            return [fixed] * len(batch.items)
        draws = self._draws[s][batch.variant]
        salts = self._salts[s]
        done = self._done
        keys: list[int] = [item.payload for item in batch.items]  # type: ignore[misc]
        if self._joins[s]:
            keys = [item.request.id for item in batch.items]
        made: list[Completion] = []
        for key in keys:
            children = []
            emits = 0
            for position, chances in enumerate(draws):
                # `mix` and `uniform`, written out: this is done for every item.
                z = (key * _GOLDEN + salts[position]) & _MASK
                z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
                z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
                z ^= z >> 31
                count = bisect_right(chances, (z >> 11) * _UNIT)
                emits += count
                # The emitted items' keys follow on from this draw's.
                children.append(range(z, z + count))
            made.append((None if emits else done, children))
        return made

    def _same(self, means: Sequence[float]) -> Completion:
        emitted = tuple((None,) * round(mean) for mean in means)
        return (None if any(emitted) else self._done, emitted)
