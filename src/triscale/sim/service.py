"""How long batches really take in the simulated world: draws from distributions through the profile's quantiles.

Between two known quantiles ln(service time) is a straight line over the standard normal's quantile z: a lognormal
distribution where p95 and p99 agree on one, with a heavier or lighter tail where they do not. Beyond p99 the last
line goes on, to about p99.95; below the median the first is mirrored. The mean is the distribution's own, a little
above the median, not the p50 that `fixed` takes.

Other busy lanes slow a batch down as the profile's points with several lanes say, by those busy when it begins.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

from triscale.core.profile import VariantProfile
from triscale.policy.latency import LatencyModel
from triscale.sim.settings import Service

__all__ = ["StageService", "distribution"]

_POINTS = 1024
"""Equally likely values that stand for a distribution."""
_Z = tuple(NormalDist().inv_cdf((i + 0.5) / _POINTS) for i in range(_POINTS))
_Z95 = NormalDist().inv_cdf(0.95)
_Z99 = NormalDist().inv_cdf(0.99)


def distribution(p50: float, p95: float, p99: float) -> tuple[float, ...]:
    """Equally likely values, ascending, with these quantiles; one value where the three are equal."""
    p95 = max(p50, p95)
    p99 = max(p95, p99)
    if p99 <= p50 or p50 <= 0.0:
        return (p50,)
    body = math.log(p95 / p50) / _Z95
    tail = math.log(p99 / p95) / (_Z99 - _Z95)
    return tuple(p50 * math.exp(body * min(z, _Z95) + tail * max(0.0, z - _Z95)) for z in _Z)


class StageService:
    """Service times of one stage's variants, from one stream of random numbers."""

    __slots__ = ("_contention", "_kind", "_models", "_random", "_tables")

    def __init__(self, profiles: Sequence[VariantProfile], kind: Service, rng: random.Random) -> None:
        self._kind = kind
        self._random = rng.random
        self._models = [[LatencyModel(p, "p50"), LatencyModel(p, "p95"), LatencyModel(p, "p99")] for p in profiles]
        self._tables: list[dict[tuple[int, int], tuple[float, ...]]] = [{} for _ in profiles]
        self._contention = [_slowdowns(models[0]) for models in self._models]

    def draw(self, variant: int, size: int, threads: int, busy: int = 1) -> float:
        """Seconds that a batch of `size` items takes on `threads` threads while `busy` lanes are, itself included."""
        table = self._tables[variant].get((size, threads)) or self._table(variant, size, threads)
        seconds = table[int(self._random() * len(table))] if len(table) > 1 else table[0]
        if self._kind == "exponential":
            seconds *= -math.log(1.0 - self._random())
        factors = self._contention[variant]
        return seconds * factors[busy if busy < len(factors) else -1]

    def mean(self, variant: int, size: int, threads: int) -> float:
        """Mean seconds of a batch that runs alone."""
        table = self._table(variant, size, threads)
        return math.fsum(table) / len(table)

    def _table(self, variant: int, size: int, threads: int) -> tuple[float, ...]:
        p50, p95, p99 = (model(size, threads) for model in self._models[variant])
        table = distribution(p50, p95, p99) if self._kind == "profile" else (p50,)
        self._tables[variant][size, threads] = table
        return table


def _slowdowns(model: LatencyModel) -> tuple[float, ...]:
    """Factor over busy lanes, as far as it still grows: index 0 is for none. The last one holds for more lanes."""
    factors = [1.0, 1.0]
    while len(factors) <= model.most_lanes:
        factors.append(model.contention(len(factors)))
    if all(later == earlier for earlier, later in pairwise(factors)):
        return (1.0,)
    return tuple(factors)
