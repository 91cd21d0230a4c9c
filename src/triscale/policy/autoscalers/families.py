"""Servers for independent model families: the integer program of Proteus (Ahmad et al., ASPLOS 2024) on HiGHS.

For each family f with demand d_f and members i of accuracy a_i and rate q_i, n_i servers run member i and w_i items/s
go to it:

    max   sum_i a_i w_i / sum_f d_f  -  a trifle per server
    s.t.  w_i <= q_i n_i,    sum_{i in f} w_i = min(1, beta) d_f,    sum_i n_i <= servers
          sum_{i in f} q_i n_i >= beta d_f,    least_f <= sum_{i in f} n_i <= most_f,    n_i whole

All servers are alike, so counts stand for the published program's one binary per device and variant. Where not even
the fastest members reach beta, it is lowered to what they reach; below 1, so much of each demand is served. Servers
that make nothing more accurate are in use all the same: they widen the family whose throughput is narrowest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Family", "Member", "Share", "allocate"]

_PER_SERVER = 1e-6
"""Accuracy that all servers together are worth: among equals, fewer, and more accurate ones."""
_SCALE = 1e4
"""Of the objective, so that the trifle is not lost in the solver's tolerances."""
_MOST_NODES = 5000
_SOLVED = 2
"""HiGHS's status of a point that meets all constraints."""


@dataclass(frozen=True, slots=True)
class Member:
    """A variant of a family on one server."""

    accuracy: float
    rate: float
    """Items/s."""


@dataclass(frozen=True, slots=True)
class Family:
    """The variants of one stage, and what is asked of them."""

    demand: float
    """Items/s."""
    members: Sequence[Member]
    """The most accurate one first: it gets the servers that are spare."""
    least: int = 1
    """Servers that it must have."""
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one member gets."""

    servers: int
    items_per_s: float


def allocate(families: Sequence[Family], servers: int, beta: float) -> list[list[Share]] | None:
    """Per family and member, its servers and its load; None where the servers are fewer than the families need."""
    fastest = [[max(family.members, key=lambda member: member.rate).rate] for family in families]
    counts = _widened(families, fastest, [[family.least] for family in families], servers)
    if counts is None:
        return None
    reach = min(_width(family, rates, n) for family, rates, n in zip(families, fastest, counts, strict=True))
    # A hair less, so that rounding does not rule out the one allocation that reaches it.
    found = _solve(families, servers, min(beta, reach * (1.0 - 1e-9)))
    used = [[share.servers for share in shares] for shares in found]
    rates = [[member.rate for member in family.members] for family in families]
    wide = _widened(families, rates, used, servers) or used
    return [
        [Share(n, share.items_per_s) for n, share in zip(row, shares, strict=True)]
        for row, shares in zip(wide, found, strict=True)
    ]


def _widened(
    families: Sequence[Family], rates: Sequence[Sequence[float]], used: Sequence[Sequence[int]], servers: int
) -> list[list[int]] | None:
    """All servers in use: what `used` leaves over goes to the narrowest family's first member, one by one.

    None where `used` are more than there are.
    """
    counts = [list(n) for n in used]
    left = servers - sum(map(sum, counts))
    if left < 0:
        return None
    for _ in range(left):
        open_ = [f for f, family in enumerate(families) if family.most is None or sum(counts[f]) < family.most]
        if not open_:
            break
        narrowest = min(open_, key=lambda f: (_width(families[f], rates[f], counts[f]), sum(counts[f])))
        counts[narrowest][0] += 1
    return counts


def _width(family: Family, rates: Sequence[float], counts: Sequence[int]) -> float:
    """Throughput in parts of the demand."""
    throughput = sum(rate * n for rate, n in zip(rates, counts, strict=True))
    return throughput / family.demand if family.demand > 0.0 else math.inf


def _solve(families: Sequence[Family], servers: int, beta: float) -> list[list[Share]]:
    import highspy  # 0.1 s; only where a program is solved

    highs = highspy.Highs()
    for option, value in {
        "output_flag": False,
        "threads": 1,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 1e-6,
        "mip_max_nodes": _MOST_NODES,
        "random_seed": 0,
    }.items():
        highs.setOptionValue(option, value)
    infinity = highspy.kHighsInf
    total = sum(family.demand for family in families) or 1.0
    members = [(f, member) for f, family in enumerate(families) for member in family.members]
    count = len(members)
    for _, member in members:
        highs.addVar(0.0, float(servers))
        highs.changeColCost(highs.getNumCol() - 1, -_SCALE * _PER_SERVER * (1.0 - 0.5 * member.accuracy) / servers)
    for _, member in members:
        highs.addVar(0.0, infinity)
        highs.changeColCost(highs.getNumCol() - 1, _SCALE * member.accuracy / total)
    for i in range(count):
        highs.changeColIntegrality(i, highspy.HighsVarType.kInteger)

    def row(low: float, high: float, terms: dict[int, float]) -> None:
        highs.addRow(low, high, len(terms), np.array(list(terms), dtype=np.int32), np.array(list(terms.values())))

    for i, (_, member) in enumerate(members):
        row(-infinity, 0.0, {count + i: 1.0, i: -member.rate})
    for f, family in enumerate(families):
        mine = [i for i, (g, _) in enumerate(members) if g == f]
        served = min(1.0, beta) * family.demand
        row(served, served, {count + i: 1.0 for i in mine})
        rates = {i: members[i][1].rate for i in mine}
        row(beta * family.demand if family.demand > 0.0 else 0.0, infinity, rates)
        row(float(family.least), float(servers if family.most is None else family.most), dict.fromkeys(mine, 1.0))
    row(-infinity, float(servers), dict.fromkeys(range(count), 1.0))
    highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
    highs.run()
    values = highs.getSolution().col_value
    assert highs.getInfo().primal_solution_status == _SOLVED, "the fastest members alone carry so much"
    found: list[list[Share]] = [[] for _ in families]
    for i, (f, _) in enumerate(members):
        found[f].append(Share(round(values[i]), max(0.0, values[count + i])))
    return found
