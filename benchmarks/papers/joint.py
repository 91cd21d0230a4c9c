"""The joint experiment: surges beyond the whole cluster, cold starts, and variants. Every axis is needed."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.papers.claims import Claim, Finding, Totals, times
from benchmarks.papers.experiment import Contender, Lab, Results
from benchmarks.papers.section import Section
from benchmarks.papers.settings import ORACLE, TRISCALE, loki_settings, peak_rate, themis_settings, tune, unbeaten
from benchmarks.papers.tables import axes_table, contenders_table, table, tuning_table
from benchmarks.papers.worlds import Case, joint_case

__all__ = ["JOINT_LOAD", "joint", "joint_settings"]

JOINT_LOAD = "mmpp:rates=80/220/600,dwell=20/10/5,seconds=240,seed=1"
"""Requests/s: what a quarter of the cluster carries with the most accurate variants, what most of it does, and twice
what all of it does."""

_AXES = (
    "Where the cores came from, in % of the core-seconds (there from the start, grown in place, launched), and what "
    "was paid in accuracy"
)


def joint(lab: Lab) -> Section:
    """Run it."""
    case = lab.shortened(joint_case("joint", JOINT_LOAD))
    (tuned,) = tune(lab, [case], [joint_settings(case)], seeds=1)
    baselines = tuned.contenders()
    everyone = [TRISCALE, *baselines, ORACLE]
    found = lab.each([case], everyone)
    blocks = [
        f"Load: `{JOINT_LOAD}`.\n\n{contenders_table(case, everyone, found)}",
        f"{_AXES}:\n\n{axes_table([(who.name, found.of(case, who)) for who in everyone])}",
        "triscale against each of them:\n\n" + _standing_table(case, everyone[1:], found),
        tuning_table([tuned]),
    ]
    return Section("joint", blocks, [*_claims(case, baselines, found), unbeaten([tuned])])


def joint_settings(case: Case) -> dict[str, list[Contender]]:
    """Those of both papers' policies; the programs of Themis's family with large batches too, for the fan-out."""
    found = {**themis_settings(peak_rate(case)), **loki_settings()}
    for policy in ("themis", "horizontal", "vertical"):
        wide: dict[str, object] = {"revision": 2025, "most_batch": 32}
        if policy == "vertical":
            wide |= {"replicas": "peak", "peak_rate": peak_rate(case)}
        found[policy].append(Contender(policy, "revision 2025, batches up to 32", wide))
    return found


def _standing_table(case: Case, others: Sequence[Contender], found: Results) -> str:
    mine = Totals.of(found.of(case, TRISCALE))
    rows = []
    for who in others:
        theirs = Totals.of(found.of(case, who))
        rows.append(
            (
                who.name,
                times(theirs.violations, mine.violations),
                f"{100.0 * (mine.accuracy - theirs.accuracy):+.2f}",
                f"{100.0 * (mine.accuracy_of_all - theirs.accuracy_of_all):+.2f}",
                f"{100.0 * (mine.core_seconds / theirs.core_seconds - 1.0):+.1f}",
            )
        )
    header = ("against", "violations", "points of accuracy", "points of accuracy over all requests", "core-seconds %")
    return table(header, rows)


def _claims(case: Case, baselines: Sequence[Contender], found: Results) -> list[Claim]:
    mine = Totals.of(found.of(case, TRISCALE))
    unbeaten, dominated = [], []
    for who in baselines:
        theirs = Totals.of(found.of(case, who))
        few = times(theirs.violations, mine.violations)
        beaten = theirs.violations < mine.violations and not theirs.worse_accuracy(mine) and not theirs.worse_cost(mine)
        unbeaten.append(Finding(who.name, not beaten, few))
        worse = mine.accuracy_of_all < theirs.accuracy_of_all or mine.worse_cost(theirs)
        cost = f"{100.0 * (mine.core_seconds / theirs.core_seconds - 1.0):+.1f} % core-seconds"
        dominated.append(Finding(who.name, mine.violations < theirs.violations and not worse, cost))
    return [
        Claim("no baseline has fewer violations than `triscale` without being worse on accuracy or cost", unbeaten),
        Claim(
            "`triscale` has fewer violations at no higher cost and no lower accuracy over all requests "
            "(0 for one that is not answered)",
            dominated,
        ),
    ]
