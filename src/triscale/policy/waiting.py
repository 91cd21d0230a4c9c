"""How long an item waits for a lane: a quantile of the wait at a pool of lanes under random arrivals.

The pool is work conserving, as the dispatcher is: a lane that falls idle takes at once what waits, up to a full
batch. Three things make an item wait, and each has its approximation:

- All lanes are busy. With Markovian arrivals and services the number waiting behind busy lanes is geometric, also
  when up to b items leave together, so P(busy) is Erlang's B with that geometric tail (Erlang's C where b = 1).
  Bursts, the items that one parent emits at once, make the offered load peaky; Hayward's method scales for that.
- The next lane to fall idle. Among m lanes out of step with each other it takes longer than x with probability
  (1 - x / l)^m; more variable services bring that towards exponential.
- Full batches ahead. The tail of the wait falls as exp(-theta x), with theta from the root y of
      rho (e^(y ca) - 1) / ca = (1 - e^(-y cs)) / cs        theta = lanes / full_s * (1 - e^(-y cs)) / cs
  for gamma-distributed times of squared coefficient of variation ca (of full batches' arrivals) and cs (of service):
  the exact rate for M/M/m, M/D/m and GI/G/1 of that family. Its weight is such that the mean comes out right.

Everything is vectorised over numpy arrays and in seconds; the tests hold it against an event simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Pool", "WaitRule", "busy_probability", "wait_quantile"]

WaitRule: TypeAlias = Literal["queue", "half_slo", "batch_fill", "none"]
"""`queue`: this module. The papers' rules: `half_slo`, as long as the service itself (Loki plans for half the SLO);
`batch_fill`, the time in which a batch fills, (batch - 1) / rate (Themis). `none`: no wait."""

Array: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = Array | float

_FILL = 0.6
"""How fast the weight of full batches ahead falls with the mean fill of a batch; calibrated by simulation."""
_MANY = 256
"""Lanes above which Erlang's B is taken from its normal limit."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Lanes that serve one kind of item. Every field is a number or an array; arrays broadcast."""

    lanes: Numbers
    batch: Numbers
    """Most items that one lane takes at once."""
    first_s: Numbers
    """Mean service of one item alone."""
    full_s: Numbers
    """Mean service of a full batch; in between, service is taken as linear in the items."""
    burst: Numbers = 1.0
    """Items that arrive together."""
    arrival_scv: Numbers = 1.0
    """Squared coefficient of variation of the times between arrivals (of bursts); 1 = Poisson."""
    service_scv: Numbers = 0.0


def wait_quantile(pool: Pool, load: Numbers, quantile: float) -> Array:
    """Seconds that no more than 1 - `quantile` of the items wait longer than; 0 where fewer wait at all.

    `load` is the arrival rate over the pool's greatest rate, lanes * batch / full_s, and must be below 1. The
    result has the broadcast shape of all inputs.
    """
    q = _Pool(pool, load)
    busy = busy_probability(q) * _smooth(q)
    root = _root(q.rho, q.ca * q.burst / q.size, q.cs)
    theta = q.lanes / q.full * _shrink(root, q.cs)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        odds = np.log(busy / (1.0 - quantile))
        calm = np.maximum(1.0 - q.cs, 1e-6)
        turn = q.service(q.seen) / calm * -np.expm1(-np.maximum(odds, 0.0) * calm / q.lanes)
        mean = q.full / (q.lanes + 1.0 - q.cs) + q.full / q.lanes / np.expm1(root)
        ahead = theta * q.burst / q.size * q.full / q.lanes
        # Others of the same burst go first: E[e^(theta x)] over a uniform place in it.
        own = np.where(q.burst > 1.0, np.log(np.expm1(np.minimum(ahead, 500.0)) / np.maximum(ahead, 1e-12)), 0.0)
        behind = (theta * mean - 1.0 - _FILL * (q.size - q.fill) / q.fill + own + odds) / theta
    behind = np.where((odds > 0.0) | (q.burst > 1.0), behind, 0.0)
    return np.where(busy > 0.0, np.maximum(np.maximum(turn, behind), 0.0), 0.0)


def busy_probability(q: _Pool) -> Array:
    """Share of arrivals that find every lane busy."""
    # Peakedness at an infinite pool: the burst itself for fixed services, half of it for exponential ones.
    peaky = 1.0 + (np.maximum(q.burst, q.ca) - 1.0).clip(0.0) / (1.0 + q.cs)
    blocked = _erlang_b(q.lanes / peaky, q.rate * q.chunk_work() / peaky)
    # Waiting chunks are geometric: a + M = a / z + M z^b, arrivals a, departures M, up to b at once.
    departures = q.lanes / q.service(q.fill)
    z = q.rate / (q.rate + departures)
    for _ in range(60):
        z = np.minimum(q.rate / (q.rate + departures * (1.0 - z**q.size)), 1.0 - 1e-12)
    return np.asarray(blocked / (1.0 - z * (1.0 - blocked)))


class _Pool:
    """A pool in arrays of one shape, counted in chunks: the items of a burst that fit a batch move as one."""

    __slots__ = (
        "_batch",
        "_chunk",
        "_first",
        "burst",
        "ca",
        "cs",
        "fill",
        "full",
        "lanes",
        "rate",
        "rho",
        "seen",
        "size",
    )

    def __init__(self, pool: Pool, load: Numbers) -> None:
        self.lanes, self._batch, self._first, self.full, burst, self.ca, self.cs, self.rho = (
            array.astype(float)
            for array in np.broadcast_arrays(
                pool.lanes,
                pool.batch,
                pool.first_s,
                pool.full_s,
                pool.burst,
                pool.arrival_scv,
                pool.service_scv,
                load,
            )
        )
        self._chunk = np.clip(burst, 1.0, self._batch)
        self.size = self._batch / self._chunk
        """Chunks in a full batch."""
        self.burst = np.maximum(burst / self._chunk, 1.0)
        """Chunks that arrive together."""
        self.rate = self.rho * self.lanes * self.size / self.full
        self.fill = self._steady(0.0)
        """Chunks of a typical batch while the lanes are busy."""
        self.seen = self._steady(1.0)
        """Chunks of the batch that an arrival finds running: larger batches run longer and so are met more often."""

    def service(self, chunks: Array) -> Array:
        """Mean seconds for a batch of so many chunks."""
        part = (chunks * self._chunk - 1.0) / np.maximum(self._batch - 1.0, 1e-9)
        return np.asarray(self._first + (self.full - self._first) * np.clip(part, 0.0, 1.0))

    def chunk_work(self) -> Array:
        """Lane-seconds that a chunk costs when its burst meets idle lanes."""
        whole = np.floor(self.burst + 1e-9)
        rest = self.burst - whole
        return np.asarray((whole * self.service(np.ones_like(whole)) + (rest > 1e-9) * self.service(rest)) / self.burst)

    def _steady(self, extra: float) -> Array:
        chunks: Array = np.ones_like(self.size)
        for _ in range(40):
            chunks = np.asarray(np.clip(extra + self.rate * self.service(chunks) / self.lanes, 1.0, self.size))
        return chunks


def _grow(y: Array, c: Array) -> Array:
    """(e^(yc) - 1) / c, which is y where c is 0."""
    tiny = c < 1e-9
    return np.asarray(np.where(tiny, y, np.expm1(np.minimum(y * c, 600.0)) / np.where(tiny, 1.0, c)))


def _shrink(y: Array, c: Array) -> Array:
    """(1 - e^(-yc)) / c, which is y where c is 0."""
    tiny = c < 1e-9
    return np.asarray(np.where(tiny, y, -np.expm1(-y * c) / np.where(tiny, 1.0, c)))


def _root(rho: Array, ca: Array, cs: Array) -> Array:
    """The positive root of rho * grow(y, ca) = shrink(y, cs), by Newton from the right, where both sides are tame."""
    y = 2.0 * (1.0 - rho) / np.maximum(ca + cs, 1e-6) + 1.0
    for _ in range(12):
        y = np.where(rho * _grow(y, ca) > _shrink(y, cs), y, 2.0 * y)
    for _ in range(40):
        slope = rho * np.exp(np.minimum(y * ca, 600.0)) - np.exp(-y * cs)
        step = (rho * _grow(y, ca) - _shrink(y, cs)) / np.where(slope > 0.0, slope, 1.0)
        y = np.maximum(y - step, 1e-9)
        if np.all(np.abs(step) <= 1e-7 * y):
            break
    return y


def _smooth(q: _Pool) -> Array:
    """Arrivals more regular than Poisson meet busy lanes less often (Kraemer and Langenbach-Belz)."""
    regular = np.minimum(q.ca, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = (1.0 + regular + q.rho * q.cs) / (1.0 + q.rho * (q.cs - 1.0) + q.rho**2 * (4.0 * regular + q.cs))
    return np.asarray(np.clip(1.0 + (regular - 1.0) * (1.0 - q.rho) * h, 0.0, 1.0))


def _erlang_b(lanes: Array, offered: Array) -> Array:
    """Erlang's B for any real number of lanes: the recursion, log-linear between whole numbers."""
    whole = np.floor(lanes)
    few = lanes <= _MANY
    inverse = np.ones_like(offered)
    below = np.ones_like(offered)
    for k in range(1, int(np.max(np.where(few, whole, 0.0), initial=0.0)) + 2):
        below = np.where(k - 1 == whole, inverse, below)
        inverse = np.where(k <= whole + 1, 1.0 + inverse * k / offered, inverse)
    part = lanes - whole
    result = np.exp(-((1.0 - part) * np.log(below) + part * np.log(inverse)))
    return result if few.all() else np.where(few, result, _normal_limit(lanes, offered))


def _erfc(x: Array) -> Array:
    function: Callable[[Array], Array] = np.vectorize(math.erfc, otypes=[float])
    return function(x)


def _normal_limit(lanes: Array, offered: Array) -> Array:
    """Erlang's B for many lanes: phi(x) / (sqrt(A) * Phi(x)) at x = (lanes - A) / sqrt(A)."""
    x = (lanes - offered) / np.sqrt(offered)
    density = np.exp(-(x**2) / 2.0) / math.sqrt(2.0 * math.pi)
    below = 0.5 * _erfc(-x / math.sqrt(2.0))
    return np.asarray(np.minimum(1.0, density / (np.sqrt(offered) * np.maximum(below, 1e-300))))
