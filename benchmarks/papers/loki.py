"""Loki's experiment: traffic analysis on 20 servers over a day, up a ramp beyond it, and its effective capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.papers.capacity import capacities, capacity_claim, capacity_table
from benchmarks.papers.claims import Claim, Finding, against
from benchmarks.papers.experiment import Contender, Lab, Results
from benchmarks.papers.section import Section
from benchmarks.papers.settings import ORACLE, TRISCALE, Tuned, loki_settings, tune, unbeaten
from benchmarks.papers.tables import contenders_table, figure, mean_cores, seconds_missed, table, tuning_table
from benchmarks.papers.worlds import Case, loki_case
from triscale.sim.result import Result

__all__ = ["loki"]

_DAY = "azure-day:low=50,high=425"
_RAMP = "ramp:from=50,to=1000,seconds=240"
_NIGHT = "poisson:rate=50,seconds=120"
"""The lowest demand, held: a day's own is noise from second to second, which no launch of 6 s follows."""
_TUNED_ON = (360.0, 510.0)
"""Seconds of the day on which settings are tried: its steep rise, from below to beyond what the most accurate variants
carry on the 20 servers."""
_MORNING = (360.0, 720.0)
_BUSY, _QUIET = 0.1, 0.02
"""Parts of the day: the peak, and the hours of the lowest rates (50 to 62 requests/s)."""
_CAPACITY, _FEWER, _SERVERS, _OWN = 2.7, 10.0, 2.67, 3.0
"""Published: times the capacity, times fewer violations, times fewer servers; and triscale's own target."""

_NO_LOADING = "The second quarter of the day, where models load in no time, as in the authors' simulator"
_STEADY = "Effective capacity: the highest steady demand with at most 1 % violations, to 3 %"


def loki(lab: Lab) -> Section:
    """Run it."""
    day = loki_case("day", _DAY)
    morning = replace(day.named("morning, no loading", cold_start_s=0.0), trace=day.trace.sliced(*_MORNING))
    rise = replace(day, name="rise", trace=day.trace.sliced(*_TUNED_ON))
    day, morning, rise, ramp = (lab.shortened(case) for case in (day, morning, rise, loki_case("ramp", _RAMP)))
    (tuned,) = tune(lab, [rise], [loki_settings()], seeds=1)
    contenders = [TRISCALE, *tuned.of("loki"), tuned.best["inferline"], tuned.best["proteus"], ORACLE]
    night = lab.shortened(loki_case("steady night", _NIGHT))
    found = lab.each([day, morning, ramp, night], contenders)
    steady = [TRISCALE, *(tuned.tried[policy][0] for policy in ("loki", "inferline", "proteus"))]
    carried = capacities(lab, day, steady)
    base = tuned.tried["inferline"][0]
    blocks = [
        f"**The day**, `{_DAY}`; cold starts take 6 s:\n\n{contenders_table(day, contenders, found)}",
        "The tenth of its seconds with the highest rates, and the fiftieth with the lowest:\n\n"
        + _extremes_table(day, contenders, found),
        f"**The lowest demand, held**, `{_NIGHT}`:\n\n{contenders_table(night, contenders, found)}",
        f"**{_NO_LOADING}**:\n\n{contenders_table(morning, contenders, found)}",
        f"**A ramp beyond it**, `{_RAMP}`; cold starts take 6 s:\n\n{contenders_table(ramp, contenders, found)}",
        f"**{_STEADY}**:\n\n{capacity_table(carried, steady, base)}",
        tuning_table([tuned]),
    ]
    claims = [
        capacity_claim(carried, tuned.tried["loki"][0], base, _CAPACITY),
        capacity_claim(carried, TRISCALE, base, _CAPACITY),
        *_peak_claims([day, morning], tuned, found),
        *_quiet_claims(day, night, tuned, found),
        *_own_claims([day, morning, ramp], tuned, found),
        unbeaten([tuned]),
    ]
    return Section("loki", blocks, claims)


def _extremes(case: Case) -> tuple[list[int], list[int]]:
    """The seconds of the trace with the highest and with the lowest rates."""
    seconds = range(int(case.trace.seconds))
    ordered = sorted(seconds, key=lambda second: case.trace.rate(second + 0.5))
    return ordered[-math.ceil(_BUSY * len(ordered)) :], ordered[: math.ceil(_QUIET * len(ordered))]


def _extremes_table(case: Case, contenders: Sequence[Contender], found: Results) -> str:
    peak, quiet = _extremes(case)
    rows = [
        (
            who.name,
            figure(found.of(case, who), lambda r: seconds_missed(r, peak), 3),
            figure(found.of(case, who), lambda r: seconds_missed(r, quiet), 3),
            figure(found.of(case, who), lambda r: mean_cores(r, quiet), 1),
        )
        for who in contenders
    ]
    return table(("policy", "violations % at the peak", "when it is quiet", "servers when it is quiet"), rows)


def _peak_claims(cases: Sequence[Case], tuned: Tuned, found: Results) -> list[Claim]:
    """What the paper says of Loki, asked of triscale too."""
    claims = []
    for mine in (*tuned.of("loki"), TRISCALE):
        for other in ("inferline", "proteus"):
            theirs = tuned.best[other]
            findings = [_at_peak(case, found.of(case, mine), found.of(case, theirs)) for case in cases]
            text = f"`{mine.name}` has at most a tenth of the violations of `{theirs.name}` at the peak"
            claims.append(Claim(text, findings))
    return claims


def _at_peak(case: Case, mine: Sequence[Result], theirs: Sequence[Result]) -> Finding:
    peak, _ = _extremes(case)
    a, b = (sum(seconds_missed(r, peak) for r in results) / len(results) for results in (mine, theirs))
    return Finding(case.name, _FEWER * a <= b, f"{a:.3f} % against {b:.3f} %")


def _quiet_claims(day: Case, night: Case, tuned: Tuned, found: Results) -> list[Claim]:
    """Likewise."""
    quiet: tuple[Case, Sequence[int]] = (day, _extremes(day)[1])
    held: tuple[Case, Sequence[int]] = (night, range(int(night.trace.seconds)))
    theirs = tuned.best["proteus"]
    claims = []
    for mine in (*tuned.of("loki"), TRISCALE):
        findings = [
            _servers(case, found.of(case, mine), found.of(case, theirs), seconds) for case, seconds in (quiet, held)
        ]
        claims.append(Claim(f"`{mine.name}` needs at most 1/{_SERVERS:g} of `proteus`'s servers off-peak", findings))
    return claims


def _servers(case: Case, mine: Sequence[Result], theirs: Sequence[Result], seconds: Sequence[int]) -> Finding:
    a, b = (sum(mean_cores(r, seconds) for r in results) / len(results) for results in (mine, theirs))
    return Finding(case.name, _SERVERS * a <= b, f"{a:.1f} against {b:.1f}: {b / a:.2f} times fewer")


def _own_claims(cases: Sequence[Case], tuned: Tuned, found: Results) -> list[Claim]:
    text = "`triscale` has at most a third of `{}`'s violations at no lower accuracy, for no more core-seconds"
    return [
        Claim(
            text.format(who.name),
            [against(case.name, found.of(case, TRISCALE), found.of(case, who), _OWN) for case in cases],
        )
        for who in tuned.of("loki")
    ]
