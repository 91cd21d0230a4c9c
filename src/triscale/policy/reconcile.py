"""From what runs to what the plan wants, by the steps that can be taken now.

Called again whenever something has changed (a new plan, a replica ready, resized, drained or lost): it looks at what
really runs each time and remembers nothing, so a controller that was restarted goes on where the last one stopped.

Capacity comes before it goes. Replicas grow and launch at once where their node has room; what a stage no longer
needs is kept while replicas that the plan wants for it are still starting. Only where the new does not fit beside the
old is the old let go first, and no more of it than makes room.

Where the plan shares cores (`Plan.shared_cores`), lanes are not cores: a node takes any number of replicas, and the
cores that it grants are the plan's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.plan import Action, Drain, Launch, Plan, ReplicaGroup, Resize
from triscale.core.snapshot import Phase, ReplicaView

__all__ = ["reconcile"]

_DUST = 1e-9


@dataclass(slots=True)
class _Stage:
    """What is to be done about one stage."""

    matched: list[tuple[ReplicaView, ReplicaGroup]] = field(default_factory=list)
    missing: list[ReplicaGroup] = field(default_factory=list)
    surplus: list[ReplicaView] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether something that the plan wants here does not take work yet."""
        return bool(self.missing) or any(view.phase is Phase.STARTING for view, _ in self.matched)


_Release: TypeAlias = tuple[ReplicaView, float, Action]
"""Who lets go how many cores, and by which step."""


def reconcile(
    plan: Plan, replicas: Sequence[ReplicaView], nodes: Sequence[Node], ids: Iterator[int]
) -> tuple[Action, ...]:
    """Launches, resizes and drains to start now; empty when there is nothing to do but wait.

    A replica that is being resized is seen with its target, so it is not resized to the same again. `ids` numbers
    new replicas. The plan's shares and batches are not actions here: they hold as soon as the plan is followed.
    """
    stages = _matches(plan, replicas)
    free = {node.id: node.cores for node in nodes if node.ready}
    coming = dict.fromkeys(free, 0.0)
    for view in replicas:
        if view.node in free:
            free[view.node] -= view.cores
            coming[view.node] += view.cores if view.phase is Phase.DRAINING else max(0, view.cores - view.spec.cores)
    room = _Room(free, unlimited=plan.shared_cores > 0.0)
    steps: list[Action] = []
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
                steps.append(Launch(_spec(name, group, node, next(ids))))
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


def _fit(group: ReplicaGroup, view: ReplicaView) -> tuple[bool, bool, bool, int, str]:
    """Sorts replicas by how well they serve a group: on its node, ready, of its very shape, the largest first."""
    return (
        group.node is not None and view.node != group.node,
        view.phase is not Phase.READY,
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


def _spec(stage: str, group: ReplicaGroup, node: NodeId, number: int) -> ReplicaSpec:
    return ReplicaSpec(
        id=ReplicaId(f"{stage}-{number}"),
        stage=stage,
        variants=group.variants,
        lanes=group.lanes,
        threads=group.threads,
        node=node,
    )
