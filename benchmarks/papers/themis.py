"""Themis's experiment: three pipelines under its slice of the Twitter trace, against scaling out or up alone."""

from __future__ import annotations

from benchmarks.papers.claims import Claim, against, fewer
from benchmarks.papers.experiment import Lab, Run
from benchmarks.papers.section import Section
from benchmarks.papers.settings import ORACLE, TRISCALE, peak_rate, themis_settings, tune, unbeaten
from benchmarks.papers.tables import contenders_table, tuning_table
from benchmarks.papers.worlds import STABILISATION, themis_cases

__all__ = ["themis"]


def themis(lab: Lab) -> Section:
    """Run it."""
    cases = [lab.shortened(case) for case in themis_cases()]
    tuned = tune(lab, cases, [themis_settings(peak_rate(case), STABILISATION[case.name]) for case in cases])
    found = lab.run(
        [Run(t.case, who, seed) for t in tuned for who in (TRISCALE, *t.contenders(), ORACLE) for seed in lab.seeds]
    )
    published = [
        Claim(
            f"`themis` has at most a tenth of `{other}`'s violations, both as published",
            [
                fewer(t.case.name, found.of(t.case, t.tried["themis"][0]), found.of(t.case, t.tried[other][0]), 10.0)
                for t in tuned
            ],
        )
        for other in ("horizontal", "vertical")
    ]
    tightened = [
        Claim(
            f"`themis` has at most a tenth of `{other}`'s violations, both at their best",
            [
                fewer(t.case.name, found.of(t.case, t.best["themis"]), found.of(t.case, t.best[other]), 10.0)
                for t in tuned
            ],
        )
        for other in ("horizontal", "vertical")
    ]
    own = [
        Claim(
            f"`triscale` has at most a third of `themis`'s violations for no more core-seconds, `themis` {how}",
            [against(t.case.name, found.of(t.case, TRISCALE), found.of(t.case, which), 3.0) for t, which in pairs],
        )
        for how, pairs in (
            ("as published", [(t, t.tried["themis"][0]) for t in tuned]),
            ("at its best", [(t, t.best["themis"]) for t in tuned]),
        )
    ]
    tables = [
        f"**{t.case.name}**, {t.case.pipeline.slo_ms:g} ms:\n\n"
        + contenders_table(t.case, [TRISCALE, *t.contenders(), ORACLE], found)
        for t in tuned
    ]
    return Section("themis", [*tables, tuning_table(tuned)], [*published, *tightened, *own, unbeaten(tuned)])
