"""Themis's motivation: one stage, a staircase and a spike, scaled up alone and out alone."""

from __future__ import annotations

from benchmarks.papers.claims import Claim, Finding
from benchmarks.papers.experiment import Contender, Lab
from benchmarks.papers.section import Section
from benchmarks.papers.settings import TRISCALE
from benchmarks.papers.tables import figure, missed, table
from benchmarks.papers.worlds import motivation_case

__all__ = ["motivation"]

_LOADS = {
    "staircase, 20 to 120 requests/s": (
        "staircase:from=20,to=120,step=20,each=10,process=even",
        {"vertical": 0.88, "horizontal": 5.71},
    ),
    "spike, 20 to 120 for 5 s": (
        "spike:base=20,peak=120,start=20,length=5,seconds=60,process=even",
        {"vertical": 5.53, "horizontal": 27.65},
    ),
    "surge, 20 to 120 for 40 s": (
        "spike:base=20,peak=120,start=10,length=40,seconds=60,process=even",
        {"themis": 1.81},
    ),
}
"""Trace and published violations in %."""
_OPTIONS = {"tick_s": 0.5, "window_s": 0.5, "models": {"classify": [34.9, 0.0, 0.0, 3.57]}}
"""Half a second to see a change; the resize (0.5 s) or the cold start (5.5 s) makes it 1 s up, 6 s out. The model goes
through the capacities of 1 and of 8 cores: the figure's author knows that 3 times 26 requests/s do not carry 80."""
_ALIKE = 2.0
"""Factor within which a schematic figure counts as found."""


def motivation(lab: Lab) -> Section:
    """Run it. Nothing in it is random, so there is one run of each."""
    cases = [motivation_case(name, trace) for name, (trace, _) in _LOADS.items()]
    contenders = [*(Contender(policy, "", _OPTIONS) for policy in ("vertical", "horizontal", "themis")), TRISCALE]
    found = lab.each(cases, contenders, seeds=range(1))
    rows = []
    findings = []
    for case in cases:
        _, published = _LOADS[case.name]
        for who in contenders:
            mine = found.of(case, who)
            known = published.get(who.policy)
            rows.append(
                (
                    case.name,
                    who.policy,
                    "" if known is None else f"{known:.2f}",
                    figure(mine, missed, 2),
                    figure(mine, lambda r: r.core_seconds),
                )
            )
        share = {who.policy: missed(found.of(case, who)[0]) for who in contenders}
        near = all(known / _ALIKE <= share[policy] <= known * _ALIKE for policy, known in published.items())
        told = ", ".join(f"`{p}` {share[p]:.2f} % for {known:.2f} %" for p, known in published.items())
        findings.append(Finding(case.name, near, told))
    claim = Claim(f"the published violations come out in kind (within a factor of {_ALIKE:g})", findings)
    header = ("load", "policy", "published violations %", "violations %", "core-seconds")
    return Section("motivation", [table(header, rows)], [claim])
