"""The wait model, against closed forms and against an event simulation."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from triscale.policy.waiting import Pool, wait_quantile

WITHIN = 0.25
OR_SECONDS = 0.002
"""The promise: a quarter of the wait, or two milliseconds."""


@dataclass(frozen=True)
class Queue:
    """One case: a pool of lanes, and how busy it is."""

    lanes: int
    load: float
    batch: int = 1
    first_s: float = 0.02
    full_s: float = 0.02
    burst: int = 1
    arrival_scv: float = 1.0
    service_scv: float = 0.0

    def predicted(self, quantile: float) -> float:
        pool = Pool(
            float(self.lanes),
            float(self.batch),
            self.first_s,
            self.full_s,
            float(self.burst),
            self.arrival_scv,
            self.service_scv,
        )
        return float(wait_quantile(pool, self.load, quantile))

    def simulated(self, items: int = 120_000, seed: int = 1) -> list[float]:
        """Waits, sorted: lanes take what waits, up to a batch, as soon as they are idle."""
        rng = random.Random(seed)
        rate = self.load * self.lanes * self.batch / self.full_s
        arrivals: list[float] = []
        now = 0.0
        while len(arrivals) < items:
            shape = 1.0 / self.arrival_scv
            now += rng.gammavariate(shape, self.burst / rate / shape)
            arrivals += [now] * self.burst
        free = [0.0] * self.lanes
        waits: list[float] = []
        at = 0
        while at < len(arrivals):
            start = max(heapq.heappop(free), arrivals[at])
            end = at
            while end < len(arrivals) and end < at + self.batch and arrivals[end] <= start:
                waits.append(start - arrivals[end])
                end += 1
            part = (end - at - 1) / max(1, self.batch - 1)
            service = self.first_s + part * (self.full_s - self.first_s)
            if self.service_scv > 0.0:
                service *= rng.gammavariate(1.0 / self.service_scv, self.service_scv)
            heapq.heappush(free, start + service)
            at = end
        return sorted(waits[len(waits) // 10 :])

    def check(self) -> None:
        waits = self.simulated(items=80_000 if self.burst == 1 else 350_000)
        for quantile in (0.95, 0.99):
            simulated = waits[int(quantile * len(waits))]
            assert self.predicted(quantile) == pytest.approx(simulated, rel=WITHIN, abs=OR_SECONDS), (self, quantile)


@pytest.mark.parametrize("service_scv", [0.0, 0.5])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("lanes", [1, 3, 8, 32])
def test_single_items(lanes: int, load: float, service_scv: float) -> None:
    Queue(lanes, load, service_scv=service_scv).check()


@pytest.mark.parametrize("burst", [5, 17])
@pytest.mark.parametrize("load", [0.5, 0.9])
@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_bursts_as_a_fan_out_makes_them(lanes: int, load: float, burst: int) -> None:
    Queue(lanes, load, burst=burst, service_scv=0.05).check()


@pytest.mark.parametrize("load", [0.5, 0.9])
@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_clustered_arrivals(lanes: int, load: float) -> None:
    Queue(lanes, load, arrival_scv=3.0).check()


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_batches(lanes: int, load: float) -> None:
    Queue(lanes, load, batch=16, first_s=0.01, full_s=0.03, service_scv=0.05).check()


@pytest.mark.parametrize("load", [0.5, 0.9])
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_batches_of_bursts(lanes: int, load: float) -> None:
    Queue(lanes, load, batch=4, first_s=0.01, full_s=0.022, burst=17, service_scv=0.05).check()


@pytest.mark.parametrize("lanes", [1, 2, 7, 30])
def test_it_is_exact_for_markovian_pools(lanes: int) -> None:
    load, service = 0.8, 0.02
    offered = load * lanes
    blocked = 1.0
    for k in range(1, lanes + 1):
        blocked = offered * blocked / (k + offered * blocked)
    busy = blocked / (1.0 - load * (1.0 - blocked))
    expected = max(0.0, math.log(busy / 0.01) / (lanes / service * (1.0 - load)))
    assert Queue(lanes, load, service_scv=1.0).predicted(0.99) == pytest.approx(expected, rel=1e-3)


def test_arrivals_more_regular_than_poisson_wait_less() -> None:
    assert Queue(2, 0.7, arrival_scv=0.2).predicted(0.95) < Queue(2, 0.7).predicted(0.95)


def test_nobody_waits_where_lanes_abound() -> None:
    assert Queue(32, 0.1).predicted(0.99) == 0.0


def test_ten_thousand_lanes_hardly_wait_and_cost_no_loop() -> None:
    assert 0.0 <= Queue(10_000, 0.95).predicted(0.99) < 1e-3
    assert 0.0 < Queue(10_000, 0.999, service_scv=1.0).predicted(0.99) < 0.02


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("lanes", [1, 8])
def test_the_wait_rises_with_the_load(lanes: int, batch: int) -> None:
    waits = [Queue(lanes, load / 100, batch=batch, first_s=0.01).predicted(0.95) for load in range(5, 99, 2)]
    assert waits == sorted(waits)


def test_many_pools_at_once_are_each_as_alone() -> None:
    lanes = np.array([1.0, 4.0, 40.0, 400.0])
    loads = np.array([[0.4], [0.9]])
    pool = Pool(lanes, 4.0, 0.01, 0.02, 3.0, 1.0, 0.1)
    together = wait_quantile(pool, loads, 0.95)
    assert together.shape == (2, 4)
    for i, load in enumerate((0.4, 0.9)):
        for j, count in enumerate((1, 4, 40, 400)):
            alone = Queue(count, load, 4, 0.01, 0.02, 3, 1.0, 0.1).predicted(0.95)
            assert together[i, j] == pytest.approx(alone, rel=1e-9)
