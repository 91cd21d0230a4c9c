"""What a comparison says: each policy's figures over the seeds, and who is better than whom.

Policies are compared seed by seed, because every policy met the same arrivals (`simulation_statistics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from triscale.core.figures import rounded
from triscale.observe.simulation_document import SimulationView
from triscale.observe.simulation_statistics import Interval, interval
from triscale.observe.simulation_wording import listed

__all__ = ["ACCURACY_MARGIN", "COST_MARGIN", "ORACLE", "Standing", "remarks", "standings"]

ORACLE = "oracle"
"""The policy that knows the future: the bound for all others."""
ACCURACY_MARGIN = 0.001
"""A mean accuracy that is lower by at most so much is not worse."""
COST_MARGIN = 0.01
"""Core-seconds that are more by at most this part of the other's are not worse."""


_MINUS = "\u2212"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One policy over all its seeds."""

    policy: str
    runs: Sequence[SimulationView]
    """In the order of the seeds."""
    attainment: Interval | None
    violations: Interval
    """Requests per run."""
    relative: float | None
    """Violations over those of the first policy, on the seeds that both have; None where that has none."""
    accuracy: Interval | None
    core_seconds: Interval
    p99_ms: Interval | None

    @property
    def missed(self) -> Interval | None:
        """Violations as a share of all requests."""
        return None if self.attainment is None else Interval(1.0 - self.attainment.mean, self.attainment.half)


def standings(runs: Sequence[SimulationView]) -> list[Standing]:
    """The policies in the order in which they first appear."""
    by_policy: dict[str, list[SimulationView]] = {}
    for run in runs:
        by_policy.setdefault(run.policy, []).append(run)
    first = next(iter(by_policy.values()), [])
    return [_standing(policy, mine, first) for policy, mine in by_policy.items()]


def _standing(policy: str, runs: Sequence[SimulationView], first: Sequence[SimulationView]) -> Standing:
    def over(figure: Callable[[SimulationView], float | None]) -> Interval | None:
        return interval([value for run in runs if (value := figure(run)) is not None])

    violations = over(lambda run: run.violations.total)
    core_seconds = over(lambda run: run.core_seconds)
    assert violations is not None
    assert core_seconds is not None
    pairs = list(_pairs(runs, first))
    base = sum(other.violations.total for _, other in pairs)
    return Standing(
        policy=policy,
        runs=runs,
        attainment=over(lambda run: run.attainment),
        violations=violations,
        relative=sum(mine.violations.total for mine, _ in pairs) / base if base else None,
        accuracy=over(lambda run: run.accuracy),
        core_seconds=core_seconds,
        p99_ms=over(lambda run: run.latency_ms.p99),
    )


def _pairs(
    runs: Sequence[SimulationView], others: Sequence[SimulationView]
) -> Iterator[tuple[SimulationView, SimulationView]]:
    """Runs of two policies on the same seeds."""
    by_seed = {run.seed: run for run in others}
    return ((run, by_seed[run.seed]) for run in runs if run.seed in by_seed)


def remarks(found: Sequence[Standing]) -> list[str]:
    """Who is better on violations without being worse on accuracy or cost, and how far the oracle is."""
    contenders = [each for each in found if each.policy != ORACLE]
    lines = []
    for better in contenders:
        beaten = [worse.policy for worse in contenders if worse is not better and _dominates(better, worse)]
        if beaten:
            lines.append(
                f"{better.policy} has fewer violations than {listed(beaten)}, and is not worse on accuracy or cost."
            )
    if not lines and len(contenders) > 1:
        lines.append("No policy has fewer violations than another without being worse on accuracy or cost.")
    bound = next((each for each in found if each.policy == ORACLE), None)
    if bound is not None:
        lines += [line for each in contenders if (line := _distance(each, bound))]
    return lines


def _dominates(better: Standing, worse: Standing) -> bool:
    """Fewer violations beyond doubt (at one seed: fewer), at an accuracy and a cost that are not worse."""
    less = interval(
        [theirs.violations.total - mine.violations.total for mine, theirs in _pairs(better.runs, worse.runs)]
    )
    if less is None or less.low <= 0.0:
        return False
    if better.accuracy is None or worse.accuracy is None:
        return False
    return (
        better.accuracy.mean >= worse.accuracy.mean - ACCURACY_MARGIN
        and better.core_seconds.mean <= worse.core_seconds.mean * (1.0 + COST_MARGIN)
    )


def _distance(each: Standing, bound: Standing) -> str:
    """`triscale is 1.2 points of attainment below the oracle, at the same accuracy and 12 % more core-seconds`."""
    if each.attainment is None or bound.attainment is None:
        return ""
    parts = [_points(each.attainment.mean - bound.attainment.mean, "attainment", 1e-9)]
    if each.accuracy is not None and bound.accuracy is not None:
        parts.append(_points(each.accuracy.mean - bound.accuracy.mean, "accuracy", 0.00005))
    if bound.core_seconds.mean > 0.0:
        parts.append(_cost(each.core_seconds.mean / bound.core_seconds.mean))
    return f"{each.policy} against the oracle: {', '.join(parts)}."


def _cost(ratio: float) -> str:
    if abs(ratio - 1.0) < 0.0005:
        return "as many core-seconds"
    return f"{ratio:.1f} times the core-seconds" if ratio >= 2.0 else f"{_signed(100.0 * (ratio - 1.0))} % core-seconds"


def _points(difference: float, of: str, same: float) -> str:
    """In percentage points, where they differ by more than `same`."""
    return f"the same {of}" if abs(difference) <= same else f"{_signed(100.0 * difference, 2)} points of {of}"


def _signed(number: float, decimals: int = 1) -> str:
    sign = "+" if number > 0.0 else _MINUS
    return f"{sign}{rounded(abs(number), decimals)}"
