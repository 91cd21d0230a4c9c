"""What the papers claim, and what triscale does, as sentences with the figures that decide them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triscale.observe.simulation_comparison import ACCURACY_MARGIN, COST_MARGIN
from triscale.sim.result import Result

__all__ = ["Claim", "Finding", "Totals", "against", "fewer", "times"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a claim holds in one place, and the figures."""

    where: str
    holds: bool
    figures: str

    def __str__(self) -> str:
        return f"{self.where} ({self.figures})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that holds in some places and, maybe, not in others."""

    text: str
    findings: Sequence[Finding]

    @property
    def holds(self) -> bool:
        """Everywhere."""
        return all(finding.holds for finding in self.findings)

    def __str__(self) -> str:
        parts = [
            f"{words} {'; '.join(map(str, found))}"
            for words, holds in (("**holds** on", True), ("**does not hold** on", False))
            if (found := [finding for finding in self.findings if finding.holds is holds])
        ]
        return f"claim: {self.text}: {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all seeds of one contender."""

    violations: int
    requests: int
    accuracy: float
    """Mean over the seeds; 0 where nothing was answered."""
    core_seconds: float
    """Likewise."""

    @classmethod
    def of(cls, results: Iterable[Result]) -> Totals:
        """Added up."""
        every = list(results)
        return cls(
            violations=sum(result.violations.total for result in every),
            requests=sum(result.requests for result in every),
            accuracy=math.fsum(result.accuracy or 0.0 for result in every) / len(every),
            core_seconds=math.fsum(result.core_seconds for result in every) / len(every),
        )

    @property
    def accuracy_of_all(self) -> float:
        """Mean accuracy over all requests, 0 for those that were not answered in time."""
        return self.accuracy * (1.0 - self.violations / max(1, self.requests))

    @property
    def missed(self) -> float:
        """Violations in % of the requests."""
        return 100.0 * self.violations / max(1, self.requests)

    def dominates(self, other: Totals) -> bool:
        """Worse on none of violations, accuracy and cost, and better on one beyond the margins."""
        worse = self.violations > other.violations or self.worse_accuracy(other) or self.worse_cost(other)
        better = self.violations < other.violations or other.worse_accuracy(self) or other.worse_cost(self)
        return better and not worse

    def worse_accuracy(self, other: Totals) -> bool:
        """By more than what counts as none."""
        return self.accuracy < other.accuracy - ACCURACY_MARGIN

    def worse_cost(self, other: Totals) -> bool:
        """Likewise."""
        return self.core_seconds > other.core_seconds * (1.0 + COST_MARGIN)


def times(theirs: int, mine: int) -> str:
    """How many times fewer: `13.2 times fewer`."""
    if theirs == mine:
        return "as many" if mine else "none on either side"
    if not mine or not theirs:
        return "all of them fewer" if theirs else "they have none"
    return f"{theirs / mine:,.1f} times fewer" if theirs > mine else f"{mine / theirs:,.1f} times more"


def fewer(where: str, mine: Sequence[Result], theirs: Sequence[Result], factor: float) -> Finding:
    """Whether violations are at most 1/`factor` of the others'."""
    a, b = Totals.of(mine).violations, Totals.of(theirs).violations
    return Finding(where, factor * a <= b, f"{a:,} against {b:,}: {times(b, a)}")


def against(where: str, mine: Sequence[Result], theirs: Sequence[Result], factor: float) -> Finding:
    """The same, at no lower accuracy and for no more core-seconds (within the margins of `triscale compare`)."""
    a, b = Totals.of(mine), Totals.of(theirs)
    few = factor * a.violations <= b.violations
    parts = [f"{a.violations:,} against {b.violations:,} violations"]
    if abs(a.accuracy - b.accuracy) > 1e-9:
        parts.append(f"{100.0 * (a.accuracy - b.accuracy):+.2f} points of accuracy")
    parts.append(f"{100.0 * (a.core_seconds / b.core_seconds - 1.0):+.1f} % core-seconds")
    return Finding(where, few and not a.worse_accuracy(b) and not a.worse_cost(b), ", ".join(parts))
