"""From what runs to what the plan wants, by the steps that can be taken now.

Called again whenever something has changed (a new plan, a replica ready, resized, drained or lost): it looks at what
really runs each time and remembers nothing, so a controller that was restarted goes on where the last one stopped.

Capacity comes before it goes. Replicas grow and launch at once where their node has room; what a stage no longer
needs is kept while replicas that the plan wants for it are still starting or loading. Only where the new does not fit
beside the old is the old let go first, and no more of it than makes room.

Where live replicas can be given other variants (`hold`), one that the plan has no use for is changed into one that it
misses, before any is launched for it: it needs no core for that, and serves meanwhile. Where its memory has turned out
not to hold both (`ReplicaView.tight`), the old variants go first: then it serves with those that stay, or not at all if
none does. So of the replicas that the plan wants of a stage at most half are changed like that at the same time, which
is never the only one: that one is replaced by a launch.

Where the plan shares cores (`Plan.shared_cores`), lanes are not cores: a node takes any number of replicas, and the
cores that it grants are the plan's affair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.plan import Action, Drain, Hold, Launch, Plan, ReplicaGroup, Resize
from triscale.core.snapshot import Phase, ReplicaView

__all__ = ["reconcile"]

_DUST = 1e-9


@dataclass(slots=True)
class _Stage:
    """What is to be done about one stage."""

    matched: list[tuple[ReplicaView, ReplicaGroup]] = field(default_factory=list)
    missing: list[ReplicaGroup] = field(default_factory=list)
    surplus: list[ReplicaView] = field(default_factory=list)
    changing: bool = False
    """Some of the matched are of other variants yet."""

    @property
    def waits(self) -> bool:
        """Whether something that the plan wants here does not take work yet."""
        coming = any(view.phase is Phase.STARTING or view.loading for view, _ in self.matched)
        return bool(self.missing) or self.changing or coming


_Release: TypeAlias = tuple[ReplicaView, float, Action]
"""Who lets go how many cores, and by which step."""


def reconcile(
    plan: Plan,
    replicas: Sequence[ReplicaView],
    nodes: Sequence[Node],
    ids: Iterator[int],
    hold: Collection[ReplicaId] = (),
) -> tuple[Action, ...]:
    """Launches, resizes, holds and drains to start now; empty when there is nothing to do but wait.

    A replica that is being changed is seen with its target, so it is not changed to the same again. `ids` numbers new
    replicas. `hold`: the replicas that can be given other variants. The plan's shares and batches are not actions here:
    they hold as soon as the plan is followed. What is launched may come to hold as much memory as its group says, else
    all of its node's, where that is stated.
    """
    stages = _matches(plan, replicas)
    free = {node.id: node.cores for node in nodes if node.ready}
    coming = dict.fromkeys(free, 0.0)
    for view in replicas:
        if view.node in free:
            free[view.node] -= view.cores
            coming[view.node] += view.cores if view.phase is Phase.DRAINING else max(0, view.cores - view.spec.cores)
    room = _Room(free, unlimited=plan.shared_cores > 0.0)
    memory = {node.id: node.memory_bytes for node in nodes}
    steps: list[Action] = []
    for stage in stages.values():
        steps += _changes(stage, hold)
    for stage in stages.values():
        for view, group in stage.matched:
            if group.lanes * group.threads >= view.spec.cores and _shape(view) != (group.lanes, group.threads):
                steps += _grow(view, group, room)
    for name, stage in stages.items():
        for group in stage.missing:
            node = room.take(group.lanes * group.threads, group.node)
            if node is None:
                room.miss(group.lanes * group.threads, group.node)
            else:
                steps.append(Launch(_spec(name, group, node, memory[node], next(ids))))
    gone, later = _releases(stages.values())
    steps += [step for _, _, step in gone]
    for view, cores, _ in gone:
        coming[view.node] = coming.get(view.node, 0.0) + cores
    short = room.short(coming, later)
    for view, cores, step in later:
        if short.get(view.node, 0.0) > _DUST:
            short[view.node] -= cores
            steps.append(step)
    return tuple(steps)


def _matches(plan: Plan, replicas: Sequence[ReplicaView]) -> dict[str, _Stage]:
    """Which replica serves which group. Stages that the plan does not name keep nothing."""
    stages = {name: _Stage() for name in plan.stages}
    spare: dict[tuple[str, tuple[str, ...]], list[ReplicaView]] = {}
    for view in replicas:
        if view.phase is not Phase.DRAINING:
            stages.setdefault(view.spec.stage, _Stage())
            spare.setdefault((view.spec.stage, tuple(sorted(view.spec.variants))), []).append(view)
    for name, stage_plan in plan.stages.items():
        # Groups that name a node choose first: the others take any.
        for group in sorted(stage_plan.groups, key=lambda g: g.node is None):
            alike = spare.get((name, tuple(sorted(group.variants))), [])
            alike.sort(key=partial(_fit, group))
            suitable = sum(group.node is None or view.node == group.node for view in alike)
            count = min(group.replicas, suitable)
            stages[name].matched += [(view, group) for view in alike[:count]]
            stages[name].missing += [group] * (group.replicas - count)
            del alike[:count]
    for (name, _), views in spare.items():
        stages[name].surplus += views
    return stages


def _changes(stage: _Stage, hold: Collection[ReplicaId]) -> list[Action]:
    """Match what is missing with surplus replicas of other variants, and begin to change those whose turn it is.

    Those that hold most of the variants already come first.
    """
    pairs: list[tuple[ReplicaView, ReplicaGroup]] = []
    quota = _swaps(stage, hold)
    stopped = {view.spec.id for view in [*stage.surplus, *(v for v, _ in stage.matched)] if view.tight and view.loading}
    for group in list(stage.missing):
        able = [
            view
            for view in stage.surplus
            if view.phase is Phase.READY
            and view.spec.id in hold
            and (group.node is None or view.node == group.node)
            and (quota > 0 or not _stops(view, group))
        ]
        if able:
            best = min(able, key=lambda view: (-len({*view.spec.variants} & {*group.variants}), _fit(group, view)))
            stage.surplus.remove(best)
            stage.missing.remove(group)
            pairs.append((best, group))
    steps: list[Action] = []
    for view, group in pairs:
        if _stops(view, group) and view.spec.id not in stopped:
            if len(stopped) >= quota:
                continue  # its turn comes when another is done
            stopped.add(view.spec.id)
        steps.append(Hold(view.spec.id, group.variants, swap=view.tight))
    stage.matched += pairs
    stage.changing = bool(pairs)
    return steps


def _swaps(stage: _Stage, hold: Collection[ReplicaId]) -> int:
    """How many replicas of a stage may serve nothing at the same time, because they are swapped: at most half of those
    that serve it and go on to do so by the plan.
    """
    serving = sum(view.phase is Phase.READY and bool(view.spec.variants) for view, _ in stage.matched)
    changed = sum(
        view.phase is Phase.READY and bool(view.spec.variants) and view.spec.id in hold for view in stage.surplus
    )
    return (serving + min(changed, len(stage.missing))) // 2


def _stops(view: ReplicaView, group: ReplicaGroup) -> bool:
    """Whether it serves nothing while it is changed, and does serve now."""
    return view.tight and bool(view.spec.variants) and not {*view.spec.variants} & {*group.variants}


def _fit(group: ReplicaGroup, view: ReplicaView) -> tuple[bool, bool, bool, bool, int, str]:
    """Sorts replicas by how well they serve a group: on its node, ready, of its very shape, the largest first."""
    return (
        group.node is not None and view.node != group.node,
        view.phase is not Phase.READY,
        view.loading,
        _shape(view) != (group.lanes, group.threads),
        -view.spec.cores,
        view.spec.id,
    )


def _shape(view: ReplicaView) -> tuple[int, int]:
    return view.spec.lanes, view.spec.threads


def _grow(view: ReplicaView, group: ReplicaGroup, room: _Room) -> list[Action]:
    """To the group's shape if its node has room, else by as many lanes as fit now; the rest when there is room."""
    # What it still holds of an earlier, larger shape need not be found again.
    if room.take(max(0, group.lanes * group.threads - view.cores), view.node) is not None:
        return [Resize(view.spec.id, group.lanes, group.threads)]
    lanes = int(view.cores + room.left(view.node) + _DUST) // group.threads
    if group.threads != view.spec.threads or lanes <= view.spec.lanes:
        room.miss(group.lanes * group.threads - view.cores, view.node)
        return []
    room.take(max(0, lanes * group.threads - view.cores), view.node)
    room.miss(group.lanes * group.threads - max(view.cores, lanes * group.threads), view.node)
    return [Resize(view.spec.id, lanes, group.threads)]


def _releases(stages: Iterable[_Stage]) -> tuple[list[_Release], list[_Release]]:
    """What goes at once, and what only goes where others are short of it: shrinks first, the largest part first."""
    gone: list[_Release] = []
    later: list[tuple[int, float, _Release]] = []
    for stage in stages:
        for view in stage.surplus:
            release = view, float(view.spec.cores), Drain(view.spec.id)
            if view.phase is Phase.STARTING or not stage.waits:
                gone.append(release)
            else:
                later.append((1, -release[1], release))
        for view, group in stage.matched:
            fewer = view.spec.cores - group.lanes * group.threads
            if fewer > 0:
                shrink = view, float(fewer), Resize(view.spec.id, group.lanes, group.threads)
                if stage.waits and view.phase is Phase.READY:
                    later.append((0, -shrink[1], shrink))
                else:
                    gone.append(shrink)
    later.sort(key=lambda entry: entry[:2])
    return gone, [release for _, _, release in later]


class _Room:
    """Cores that are free on each node, while launches and grows take them; and what did not fit."""

    def __init__(self, free: dict[NodeId, float], *, unlimited: bool) -> None:
        self._free = free
        self._unlimited = unlimited
        self._missing: list[tuple[float, NodeId | None]] = []

    def left(self, node: NodeId) -> float:
        """Free cores of a node."""
        return max(0.0, self._free.get(node, 0.0))

    def take(self, cores: float, node: NodeId | None) -> NodeId | None:
        """The node that the cores were taken from: the one named, else that with the least room that suffices.

        Where room does not matter, the one with most of it: load spreads.
        """
        sign = -1.0 if self._unlimited else 1.0
        for candidate in sorted(self._candidates(node), key=lambda n: (sign * self._free[n], n)):
            if self._unlimited or self._free[candidate] >= cores - _DUST:
                self._free[candidate] -= cores
                return candidate
        return None

    def miss(self, cores: float, node: NodeId | None) -> None:
        """So many cores were not to be had, on the node named or on any one."""
        self._missing.append((cores, node))

    def short(self, coming: Mapping[NodeId, float], later: Iterable[_Release]) -> dict[NodeId, float]:
        """Cores that each node must let go besides those that are `coming`, if what did not fit is to go there.

        What may go to any node goes to where the least must be let go for it.
        """
        if self._unlimited:
            return {}
        free = {node: self._free[node] + coming.get(node, 0.0) for node in self._free}
        could = dict(free)
        for view, cores, _ in later:
            if view.node in could:
                could[view.node] += cores
        for cores, named in self._missing:
            node = max(self._candidates(named), key=lambda n: (could[n] >= cores - _DUST, free[n]), default=None)
            if node is not None:
                free[node] -= cores
                could[node] -= cores
        return {node: -left for node, left in free.items()}

    def _candidates(self, node: NodeId | None) -> list[NodeId]:
        """The nodes that are up, or the one named if it is."""
        if node is None:
            return list(self._free)
        return [node] if node in self._free else []


def _spec(stage: str, group: ReplicaGroup, node: NodeId, memory_bytes: int, number: int) -> ReplicaSpec:
    return ReplicaSpec(
        id=ReplicaId(f"{stage}-{number}"),
        stage=stage,
        variants=group.variants,
        lanes=group.lanes,
        threads=group.threads,
        node=node,
        memory_bytes=group.memory_bytes or memory_bytes,
    )
