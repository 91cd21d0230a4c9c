"""What every plan must obey, whoever made it: names that exist, shares that sum to one, cores that are there.

The simulator and the controller check each new plan here; an impossible one is reported and the last good one stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, ReplicaGroup, StagePlan

__all__ = ["broken_rules"]

_ROUNDING = 1e-6


def broken_rules(plan: Plan, graph: Graph, nodes: Sequence[Node], running: Plan | None = None) -> Iterator[str]:
    """Every rule that `plan` breaks, in words; none for a possible plan. `running` is the plan that it replaces.

    Nodes that are down count: a plan that needs them waits for them.
    """
    for name in plan.stages:
        if name not in graph.stages:
            yield f"stages.{name}: the pipeline has no such stage; it has {', '.join(graph.stages)}"
    for s, name in enumerate(graph.stages):
        if name in plan.stages:
            yield from _stage_rules(graph, s, plan.stages[name], nodes)
        else:
            yield f"stages.{name} is missing; a plan says what is to be done about every stage"
    for field in ("demand", "capacity", "shared_cores", "spare_cores", "spare_after_s", "served_fraction"):
        value = getattr(plan, field)
        if not 0.0 <= value < math.inf:
            yield f"{field} is {value!r}, but must be a finite number from 0 on"
    if plan.served_fraction > 1.0:
        yield f"served_fraction is {plan.served_fraction!r}, but no more than all (1) can be served"
    shared = plan.shared_cores > 0.0
    if running is not None and shared is not (running.shared_cores > 0.0):
        now, then = ("shared", "their own") if shared else ("their own", "shared")
        yield f"shared_cores is {plan.shared_cores:g}: lanes would go from {then} to {now} cores while they run"
    yield from _shared_rules(plan, nodes) if shared else _core_rules(plan, nodes)


def _stage_rules(graph: Graph, s: int, plan: StagePlan, nodes: Sequence[Node]) -> Iterator[str]:
    where = f"stages.{graph.stages[s]}"
    known = graph.variants[s]
    for name, mine in plan.variants.items():
        if name not in known:
            yield f"{where}.variants.{name}: the stage has no such variant; it has {', '.join(known)}"
        if mine.batch < 1:
            yield f"{where}.variants.{name}.batch is {mine.batch}, but a batch has at least one item"
    yield from _share_rules(f"{where}.variants", {name: mine.share for name, mine in plan.variants.items()})
    parents = [name for p in graph.parents[s] for name in graph.variants[p]]
    for parent, shares in plan.by_parent.items():
        if parent not in parents:
            yield f"{where}.by_parent.{parent}: no stage before this one has such a variant"
        for name in shares:
            if name not in known:
                yield f"{where}.by_parent.{parent}.{name}: the stage has no such variant"
        yield from _share_rules(f"{where}.by_parent.{parent}", shares)
    if not 0.0 <= plan.linger_s < math.inf:
        yield f"{where}.linger_s is {plan.linger_s!r}, but must be a finite number of seconds from 0 on"
    for index, group in enumerate(plan.groups):
        yield from _group_rules(f"{where}.groups[{index}]", group, known, nodes)


def _share_rules(where: str, shares: Mapping[str, float]) -> Iterator[str]:
    for name, share in shares.items():
        if not -_ROUNDING <= share <= 1.0 + _ROUNDING:
            yield f"{where}.{name}: the share is {share!r}, but must be between 0 and 1"
    total = math.fsum(shares.values())
    if abs(total) > _ROUNDING and abs(total - 1.0) > _ROUNDING:
        yield f"{where}: the shares sum to {total:g}, but must sum to 1, or to 0 where nothing runs"


def _group_rules(where: str, group: ReplicaGroup, known: Sequence[str], nodes: Sequence[Node]) -> Iterator[str]:
    if not group.variants:
        yield f"{where}.variants is empty, but a replica holds at least one variant"
    for name in group.variants:
        if name not in known:
            yield f"{where}.variants: the stage has no variant {name!r}; it has {', '.join(known)}"
    if group.replicas < 0:
        yield f"{where}.replicas is {group.replicas}, but must not be negative"
    for field in ("lanes", "threads"):
        if getattr(group, field) < 1:
            yield f"{where}.{field} is {getattr(group, field)}, but must be at least 1"
    if group.node is not None and all(node.id != group.node for node in nodes):
        yield f"{where}.node: there is no node {group.node!r}; there are {', '.join(node.id for node in nodes)}"


def _groups(plan: Plan) -> Iterator[tuple[str, ReplicaGroup]]:
    for name, stage in plan.stages.items():
        for index, group in enumerate(stage.groups):
            if group.replicas > 0:
                yield f"stages.{name}.groups[{index}]", group


def _core_rules(plan: Plan, nodes: Sequence[Node]) -> Iterator[str]:
    """Every lane has cores of its own."""
    sizes = {node.id: node.cores for node in nodes}
    wanted = 0
    pinned: dict[NodeId, int] = {}
    for where, group in _groups(plan):
        cores = group.lanes * group.threads
        wanted += cores * group.replicas
        largest = max(sizes.values(), default=0.0)
        if cores > largest + _ROUNDING:
            yield f"{where}: a replica of {cores} cores fits on no node; the largest has {largest:g}"
        if group.node in sizes:
            pinned[group.node] = pinned.get(group.node, 0) + cores * group.replicas
    total = sum(sizes.values())
    if wanted > total + _ROUNDING:
        yield f"the replicas need {wanted} cores, but all nodes together have {total:g}"
    for node, cores in pinned.items():
        if cores > sizes[node] + _ROUNDING:
            yield f"the replicas on node {node} need {cores} cores, but it has {sizes[node]:g}"


def _shared_rules(plan: Plan, nodes: Sequence[Node]) -> Iterator[str]:
    """The lanes of a node share its grant."""
    for node in nodes:
        granted = plan.cores_of(node.id)
        if not 0.0 <= granted <= node.cores + _ROUNDING:
            yield f"node {node.id} would grant {granted!r} cores, but it has {node.cores:g}"
    for where, group in _groups(plan):
        widest = max((plan.cores_of(n.id) for n in nodes if group.node in (None, n.id)), default=0.0)
        # A node that grants nothing keeps its replicas for when it does.
        if 0.0 < widest < group.threads - _ROUNDING:
            yield f"{where}.threads is {group.threads}, but its lanes share {widest:g} cores and could never run"
