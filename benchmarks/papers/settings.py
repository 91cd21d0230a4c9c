"""The settings that each baseline is tried with, so that it is judged by its best.

A baseline's first setting is the published one. The others are tried on arrivals of another seed than those on which
policies are judged; the best has the fewest violations, and of equals the fewest core-seconds. triscale and the oracle
have their defaults everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.papers.claims import Claim, Finding, Totals
from benchmarks.papers.experiment import Contender, Lab, Results, Run
from benchmarks.papers.worlds import Case
from triscale.observe.simulation_wording import listed

__all__ = ["ORACLE", "TRISCALE", "Tuned", "loki_settings", "peak_rate", "themis_settings", "tune", "unbeaten"]

TRISCALE = Contender("triscale")
ORACLE = Contender("oracle")

_FIRST_SEED = 1000
"""Of the arrivals on which settings are chosen; those on which policies are judged begin at 0."""
_LIKE_WITH_LIKE = {"load": "peak", "window_s": 10.0}
"""The same statistic on both sides of Themis's test (docs/baselines.md)."""


def peak_rate(case: Case) -> float:
    """The highest rate of the case's trace, requests/s."""
    return max(case.trace.rate(float(second)) for second in range(math.ceil(case.trace.seconds)))


def themis_settings(peak_rate: float, stabilisation: int = 10) -> dict[str, list[Contender]]:
    """Of the policies that keep the most accurate variant: policy -> settings."""
    stable = {"stabilisation": stabilisation}
    programs: list[tuple[str, Mapping[str, Any]]] = [
        ("published", stable),
        ("peak of 10 s", {**stable, **_LIKE_WITH_LIKE}),
        ("revision 2025", {"revision": 2025}),
        ("revision 2025, peak of 10 s", {"revision": 2025, "window_s": 10.0}),
    ]
    peak = {"replicas": "peak", "peak_rate": peak_rate}
    quick = {"look_back_s": 2.0, "metrics_interval_s": 1.0, "upscale_delay_s": 0.0, "downscale_delay_s": 30.0}
    return {
        "themis": [Contender("themis", setting, options) for setting, options in programs],
        "horizontal": [Contender("horizontal", setting, options) for setting, options in programs],
        "vertical": [
            Contender("vertical", "published"),
            Contender("vertical", "replicas for the peak", peak),
            Contender("vertical", "replicas for the peak, peak of 10 s", {**peak, **_LIKE_WITH_LIKE}),
            Contender("vertical", "revision 2025, replicas for the peak", {**peak, "revision": 2025}),
        ],
        "hpa": [
            Contender("hpa", "Ray Serve's defaults"),
            Contender("hpa", "Kubernetes's defaults", {"style": "kubernetes"}),
            Contender("hpa", "quick, target 1", {**quick, "target": 1.0}),
            Contender("hpa", "quick, target 0.7", {**quick, "target": 0.7}),
        ],
    }


def loki_settings() -> dict[str, list[Contender]]:
    """Of the policies of Loki's evaluation: policy -> settings."""
    slow = {"interval_s": 20.0}
    return {
        "loki": [
            Contender("loki", "published"),
            Contender("loki", "every 1 s", {"interval_s": 1.0}),
            Contender("loki", "every 20 s", slow),
            Contender("loki", "every 20 s, admission, no rerouting", slow, drop="per_stage", admission=True),
            Contender("loki", "every 20 s, beta 1.5", {**slow, "beta": 1.5}),
            Contender("loki", "every 20 s, beta 2", {**slow, "beta": 2.0}),
            Contender("loki", "beta 2", {"beta": 2.0}),
            Contender("loki", "beta 2, on changes of 10 %", {"beta": 2.0, "change": 0.1}),
        ],
        "inferline": [
            Contender("inferline", "published"),
            Contender("inferline", "every 1 s", {"interval_s": 1.0}),
            Contender("inferline", "admission", admission=True),
        ],
        "proteus": [
            Contender("proteus", "published"),
            Contender("proteus", "every 1 s", {"interval_s": 1.0}),
            Contender("proteus", "every 30 s", {"interval_s": 30.0}),
            Contender("proteus", "every 30 s, beta 1.5", {"interval_s": 30.0, "beta": 1.5}),
            Contender(
                "proteus",
                "every 30 s, beta 1.5, rerouting, admission",
                {"interval_s": 30.0, "beta": 1.5},
                drop="reroute",
                admission=True,
            ),
        ],
    }


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was tried in one case, and what it came to."""

    case: Case
    tried: Mapping[str, Sequence[Contender]]
    """Policy -> its settings, the published one first."""
    results: Results
    best: Mapping[str, Contender]
    """Policy -> its best setting."""

    def contenders(self) -> list[Contender]:
        """Each policy as published, and at its best where that is another setting."""
        return [who for policy, tried in self.tried.items() for who in self.of(policy)]

    def of(self, policy: str) -> list[Contender]:
        """One policy's, likewise."""
        first, best = self.tried[policy][0], self.best[policy]
        return [first] if best.name == first.name else [first, best]


def tune(
    lab: Lab, cases: Sequence[Case], settings: Sequence[Mapping[str, Sequence[Contender]]], seeds: int = 2
) -> list[Tuned]:
    """The best settings in each case, of those named for it. triscale is run beside them."""
    runs = [
        Run(case, who, _FIRST_SEED + i)
        for case, mine in zip(cases, settings, strict=True)
        for who in (TRISCALE, *(each for tried in mine.values() for each in tried))
        for i in range(seeds)
    ]
    results = lab.run(runs)
    return [
        Tuned(case, mine, results, {policy: _best(case, tried, results) for policy, tried in mine.items()})
        for case, mine in zip(cases, settings, strict=True)
    ]


def unbeaten(tuned: Sequence[Tuned]) -> Claim:
    """Whether any setting that was tried is as good as triscale on violations, accuracy and cost, and better on one."""
    findings = []
    for each in tuned:
        mine = Totals.of(each.results.of(each.case, TRISCALE))
        everyone = [who for tried in each.tried.values() for who in tried]
        better = [who.name for who in everyone if Totals.of(each.results.of(each.case, who)).dominates(mine)]
        told = f"as good, and better on one: {listed(better)}" if better else f"{len(everyone)} settings"
        findings.append(Finding(each.case.name, not better, told))
    return Claim("no setting tried is as good as `triscale` on violations, accuracy and cost", findings)


def _best(case: Case, tried: Sequence[Contender], results: Results) -> Contender:
    def worth(who: Contender) -> tuple[int, float]:
        mine = results.of(case, who)
        return sum(result.violations.total for result in mine), sum(result.core_seconds for result in mine)

    return min(tried, key=worth)
