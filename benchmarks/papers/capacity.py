"""Effective capacity: the highest steady demand of which at most 1 % is not answered in time, and at what accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.papers.claims import Claim, Finding
from benchmarks.papers.experiment import Contender, Lab, Run
from benchmarks.papers.tables import table
from benchmarks.papers.worlds import Case
from triscale.traces.spec import parse_trace

__all__ = ["Capacities", "Capacity", "CapacitySearch", "capacities", "capacity_claim", "capacity_table"]

_MOST_MISSED = 0.01
_TOLERANCE = 0.03
_STEP = 1.25
_FLOORS = (0.0, 0.8, 0.9)
_NO_VARIANTS = frozenset({"inferline"})
"""Policies that no floor changes: they always run the most accurate variants."""
_NO_FLOOR = frozenset({"proteus"})
"""Policies that know no floor."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a search found."""

    rate: float
    """Requests/s; 0 where not even the lowest demand is carried."""
    accuracy: float
    """At that rate."""


@dataclass(frozen=True, slots=True)
class CapacitySearch:
    """From above, in steps of a quarter down to the first demand that is carried; then between the last two, to 3 %.

    From above, because a policy may miss more at a demand that its plan fills to the brim than at a higher one.
    """

    case: Case
    """Its trace is not used."""
    contender: Contender
    seed: int
    min_accuracy: float
    seconds: float
    warmup_s: float
    low: float = 50.0
    high: float = 3000.0

    def __call__(self) -> Capacity:
        """Search."""
        high = self.high
        found = self._carried(high)
        while found is None:
            low = high / _STEP
            if low < self.low:
                return Capacity(0.0, 0.0)
            found = self._carried(low)
            if found is None:
                high = low
        while high / found.rate > 1.0 + _TOLERANCE:
            middle = self._carried(math.sqrt(found.rate * high))
            if middle is None:
                high = math.sqrt(found.rate * high)
            else:
                found = middle
        return found

    def __str__(self) -> str:
        return f"capacity: {self.contender.name}, accuracy from {self.min_accuracy:g} on, seed {self.seed}"

    def _carried(self, rate: float) -> Capacity | None:
        """None where it is not."""
        world = self.case.named(self.case.name, warmup_s=self.warmup_s, first_demand=rate)
        steady = replace(world, trace=parse_trace(f"poisson:rate={rate:.6g},seconds={self.seconds:g}"))
        result = Run(steady, self.contender, self.seed, self.min_accuracy)()
        few = result.violations.total <= _MOST_MISSED * result.requests
        return Capacity(rate, result.accuracy or 0.0) if few else None


Capacities = Mapping[tuple[str, float], Capacity]
"""(contender's name, least accuracy) -> what was found with the first seed: many thousands of requests, one answer."""


def capacities(lab: Lab, case: Case, contenders: Sequence[Contender]) -> Capacities:
    """Of every contender, with every floor that it knows."""
    seconds, warmup_s = 30.0 * lab.part, 6.0 * lab.part
    searches = [
        CapacitySearch(case, who, lab.seeds[0], floor, seconds, warmup_s)
        for who in contenders
        for floor in _FLOORS
        if not floor or who.policy not in _NO_VARIANTS | _NO_FLOOR
    ]
    found = lab.all(searches)
    return {
        (search.contender.name, search.min_accuracy): capacity for search, capacity in zip(searches, found, strict=True)
    }


def capacity_table(found: Capacities, contenders: Sequence[Contender], base: Contender) -> str:
    """Capacity and the accuracy at it; and how many times that of `base` it is."""
    rows = []
    for who in contenders:
        for floor in _FLOORS:
            mine = found.get((who.name, floor))
            if mine is not None:
                rows.append(
                    (
                        who.name,
                        f"{100.0 * floor:.0f} %" if floor else "none",
                        f"{mine.rate:,.0f}",
                        f"{100.0 * mine.accuracy:.1f}",
                        f"{_times(found, who, floor, base):.2f}",
                    )
                )
    return table(("policy", "least accuracy", "requests/s", "accuracy % there", f"times `{base.name}`"), rows)


def capacity_claim(found: Capacities, who: Contender, base: Contender, factor: float) -> Claim:
    """Whether one has so many times the other's capacity, with each floor."""
    findings = []
    for floor in _FLOORS:
        times = _times(found, who, floor, base)
        accuracy = found[who.name, floor].accuracy
        where = f"accuracies from {100.0 * floor:.0f} % on" if floor else "any accuracy"
        findings.append(Finding(where, times >= factor, f"{times:.2f} times, at {100.0 * accuracy:.1f} %"))
    text = f"`{who.name}` carries at least {factor:g} times the steady demand that `{base.name}` does"
    return Claim(text, findings)


def _times(found: Capacities, who: Contender, floor: float, base: Contender) -> float:
    least = found[base.name, 0.0].rate
    return found[who.name, floor].rate / least if least else math.inf
