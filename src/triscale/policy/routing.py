"""Which variant an item goes to: MostAccurateFirst over tiers, from the capacity that is there now.

A tier is all lanes of one variant. Each path's items fill the most accurate tier of the next stage first, and the
most accurate paths choose first (Loki, arXiv 2407.03583). A tier counts as full at the head-room: filled to the brim
its queue never empties. Only when every tier is full that far do they fill up to their capacity, and beyond that all
get their part. Inside a tier, load is split evenly over lanes: filling one worker after the other was measured at 30
times the drop rate.

What stays unused is the backup for rerouting. The tables follow the present capacity, so they are made again when
lanes come or go and on a short timer; the plan's own shares are the same tables for the capacity that was planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triscale.core.graph import Graph
from triscale.core.plan import Plan

__all__ = ["Backup", "Path", "Routes", "Tier", "even_split", "planned_tiers", "route"]

Path = tuple[int, ...]
"""The variants that an item's ancestors ran on, from the root down; empty at the root."""

_DUST = 1e-12


@dataclass(frozen=True, slots=True)
class Tier:
    """All lanes of one variant of a stage."""

    variant: int
    items_per_s: float
    """Capacity."""
    latency_s: float = 0.0
    """Time at the stage, wait and service."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A variant with capacity to spare."""

    variant: int
    latency_s: float
    leftover: float
    """Items/s."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Shares per stage and path, and what is left."""

    graph: Graph
    tables: tuple[Mapping[tuple[int, Path], Mapping[int, float]], ...]
    """Per stage: (parent stage, path) -> variant -> share; the root's only key is (-1, ())."""
    loads: tuple[Mapping[int, float], ...]
    """Per stage: variant -> items/s."""
    leftover: tuple[Mapping[int, float], ...]
    """Per stage: variant -> items/s below its capacity."""
    backups: tuple[tuple[Backup, ...], ...]
    """Per stage: variants with something left, most accurate first."""
    arriving: tuple[Mapping[tuple[int, Path], float], ...]
    """Per stage: (parent stage, path) -> items/s that the table's row is for."""

    def shares(self, stage: int, parent: int = -1, path: Path = ()) -> Mapping[int, float]:
        """The shares for items of a path; for a path that was not foreseen, those of the stage as a whole."""
        return self.tables[stage].get((parent, path)) or self.overall(stage)

    def overall(self, stage: int) -> Mapping[int, float]:
        """Each variant's part of all items of the stage."""
        loads = self.loads[stage]
        total = sum(loads.values())
        if total > 0.0:
            return {variant: load / total for variant, load in loads.items()}
        return next(iter(self.tables[stage].values()), {})

    def by_parent(self, stage: int) -> Mapping[int, Mapping[int, float]]:
        """Variant of the only parent -> variant -> share, over all paths that end in it; empty where branches meet."""
        if len(self.graph.parents[stage]) != 1 or self.graph.joins[stage]:
            return {}
        found: dict[int, dict[int, float]] = {}
        for key, shares in self.tables[stage].items():
            row = found.setdefault(key[1][-1], {})
            for variant, share in shares.items():
                row[variant] = row.get(variant, 0.0) + share * max(self.arriving[stage][key], _DUST)
        totals = {above: sum(row.values()) for above, row in found.items()}
        return {above: {v: items / totals[above] for v, items in row.items()} for above, row in found.items()}

    def recover(self, stage: int, instead_of_s: float, late_s: float) -> Backup | None:
        """The most accurate variant with room that takes at least `late_s` less than `instead_of_s`."""
        return next((b for b in self.backups[stage] if instead_of_s - b.latency_s >= late_s), None)


@dataclass(frozen=True, slots=True)
class _Source:
    """Items of one path on their way to a stage."""

    parent: int
    path: Path
    items_per_s: float
    accuracy: float


def route(
    graph: Graph,
    tiers: Sequence[Sequence[Tier]],
    demand: float,
    fan_out: Sequence[Sequence[Sequence[float]]],
    headroom: float = 0.8,
) -> Routes:
    """Shares for `demand` requests/s. `tiers` are given per stage, `fan_out` per stage, variant and child stage (in
    the graph's order); `headroom` is the part of a tier that fills before the next tier is used.
    """
    tables: list[Mapping[tuple[int, Path], Mapping[int, float]]] = []
    loads: list[Mapping[int, float]] = []
    items: list[Mapping[tuple[int, Path], float]] = []
    arriving: list[list[_Source]] = [[] for _ in graph.stages]
    arriving[0].append(_Source(-1, (), demand, 1.0))
    for stage in range(len(graph.stages)):
        ranked = sorted(tiers[stage], key=lambda tier: (-graph.accuracy[stage][tier.variant], tier.variant))
        sources = [_Source(-1, (), demand, 1.0)] if graph.joins[stage] else arriving[stage]
        table, load, onward = _fill(graph, stage, ranked, sources, headroom)
        tables.append(table)
        loads.append(load)
        items.append({(source.parent, source.path): source.items_per_s for source in sources})
        for position, child in enumerate(graph.children[stage]):
            for path, sent, accuracy in onward:
                emitted = sent * fan_out[stage][path[-1]][position]
                arriving[child].append(_Source(stage, path, emitted, accuracy))
    leftover = tuple(
        {tier.variant: max(0.0, tier.items_per_s - loads[stage].get(tier.variant, 0.0)) for tier in tiers[stage]}
        for stage in range(len(graph.stages))
    )
    return Routes(graph, tuple(tables), tuple(loads), leftover, _backups(graph, tiers, leftover), tuple(items))


def _fill(
    graph: Graph, stage: int, ranked: Sequence[Tier], sources: Sequence[_Source], headroom: float
) -> tuple[dict[tuple[int, Path], dict[int, float]], dict[int, float], list[tuple[Path, float, float]]]:
    """The stage's table and loads, and what leaves it: (path, items/s, accuracy so far)."""
    table: dict[tuple[int, Path], dict[int, float]] = {}
    load = {tier.variant: 0.0 for tier in ranked}
    onward: list[tuple[Path, float, float]] = []
    for source in sorted(sources, key=lambda s: (-s.accuracy, s.parent, s.path)):
        taken = _take(ranked, load, source.items_per_s, headroom)
        total = sum(taken.values())
        shares = (
            {v: items / total for v, items in taken.items() if items > 0.0} if total > _DUST else _first(ranked, load)
        )
        table[source.parent, source.path] = shares
        for variant, share in shares.items():
            accuracy = source.accuracy * graph.accuracy[stage][variant]
            onward.append(((*source.path, variant), source.items_per_s * share, accuracy))
    return table, load, onward


def _take(ranked: Sequence[Tier], load: dict[int, float], items: float, headroom: float) -> dict[int, float]:
    """Put `items` on the tiers, most accurate first; `load` is brought up to date."""
    taken = {tier.variant: 0.0 for tier in ranked}
    left = items
    for full in (headroom, 1.0):
        for tier in ranked:
            room = min(left, max(0.0, full * tier.items_per_s - load[tier.variant]))
            taken[tier.variant] += room
            load[tier.variant] += room
            left -= room
    capacity = sum(tier.items_per_s for tier in ranked)
    if left > _DUST * max(1.0, items) and capacity > 0.0:
        for tier in ranked:
            part = left * (tier.items_per_s / capacity)
            taken[tier.variant] += part
            load[tier.variant] += part
    return taken


def _first(ranked: Sequence[Tier], load: Mapping[int, float]) -> dict[int, float]:
    """Where nothing flows: the most accurate tier with room, else the most accurate there is."""
    with_room = [tier for tier in ranked if load[tier.variant] < tier.items_per_s]
    return {tier.variant: 1.0 for tier in (with_room or list(ranked))[:1]}


def _backups(
    graph: Graph, tiers: Sequence[Sequence[Tier]], leftover: Sequence[Mapping[int, float]]
) -> tuple[tuple[Backup, ...], ...]:
    found: list[tuple[Backup, ...]] = []
    for stage, here in enumerate(tiers):
        spare = [
            Backup(t.variant, t.latency_s, leftover[stage][t.variant]) for t in here if leftover[stage][t.variant] > 0.0
        ]
        found.append(tuple(sorted(spare, key=lambda b: (-graph.accuracy[stage][b.variant], b.latency_s))))
    return tuple(found)


def even_split(lanes: Mapping[str, int]) -> dict[str, float]:
    """Each replica's part of its tier's load: as many parts as it has lanes."""
    total = sum(lanes.values())
    return {replica: count / total for replica, count in lanes.items()} if total else {}


def planned_tiers(graph: Graph, plan: Plan) -> tuple[tuple[Tier, ...], ...]:
    """The tiers that a plan provides, at full batches."""
    return tuple(
        tuple(
            Tier(graph.variant(stage, name), mine.lanes * mine.batch / mine.latency_s, mine.latency_s + mine.wait_s)
            for name, mine in plan.stages[stage_name].variants.items()
            if mine.lanes and mine.latency_s > 0.0
        )
        for stage, stage_name in enumerate(graph.stages)
    )
