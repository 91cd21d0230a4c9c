"""Loki's ablation: what becomes of items that would be late, under bursts."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

from benchmarks.papers.claims import Claim, Finding, Totals
from benchmarks.papers.experiment import Contender, Lab
from benchmarks.papers.section import Section
from benchmarks.papers.tables import contenders_table
from benchmarks.papers.worlds import loki_case
from triscale.app.simulation import Drop

__all__ = ["ablation"]

_LOAD = "mmpp:rates=260/330/400,dwell=4/2/1,seconds=120"
"""Beyond what the most accurate variants carry on 20 servers (about 200 requests/s), so that there are faster ones."""


def ablation(lab: Lab) -> Section:
    """Run it."""
    case = lab.shortened(loki_case("bursts", _LOAD))
    blocks, claims = [], []
    for policy in ("loki", "triscale"):
        rules = [Contender(policy, f"drop {drop}", drop=drop) for drop in get_args(Drop)]
        found = lab.each([case], rules)
        missed = [Totals.of(found.of(case, rule)).missed for rule in rules]
        blocks.append(contenders_table(case, rules, found))
        told = ", ".join(f"{drop} {share:.2f} %" for drop, share in zip(get_args(Drop), missed, strict=True))
        ordered = all(later <= earlier for earlier, later in pairwise(missed))
        claims.append(
            Claim(f"violations fall from rule to rule under `{policy}`", [Finding(f"`{_LOAD}`", ordered, told)])
        )
    return Section("ablation", blocks, claims)
