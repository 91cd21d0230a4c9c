"""Replicas, their lanes and the batches on them.

A lane runs at most one batch, and where a node's cores are shared, lanes run only while cores are free. A shrink
closes idle lanes at once and busy ones when their batch is done; only then may the engine take cores away.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.dispatch.commands import LanesClosed, Order, ReplicaDrained
from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Batch, Cores, Group, Item, Lane, ReplicaState

__all__ = ["Fleet"]


class Fleet:
    """Everything that can run a batch. What the driver must do as a consequence is put into `orders`."""

    __slots__ = ("_cores", "_graph", "_hangs", "_next_batch", "_replicas", "_stages", "orders", "running")

    def __init__(self, graph: Graph, stages: Sequence[StageState]) -> None:
        self._graph = graph
        self._stages = stages
        self._replicas: dict[ReplicaId, ReplicaState] = {}
        self._cores: dict[str, Cores] = {}
        self._hangs: list[tuple[float, int]] = []
        self._next_batch = 0
        self.running: dict[int, Batch] = {}
        self.orders: list[Order] = []

    @property
    def shared_cores(self) -> float:
        """Cores of the nodes whose lanes share them; 0 where lanes own theirs."""
        return sum(shared.total for shared in self._cores.values())

    def share_cores(self, node: str, cores: float) -> None:
        """Lanes of `node` run only while one of its `cores` is free."""
        shared = self._cores.get(node)
        if shared is None:
            self._cores[node] = Cores(cores)
        else:
            shared.free += cores - shared.total
            shared.total = cores

    # --- replicas -----------------------------------------------------------------------------------------------

    def ready(
        self, name: ReplicaId, stage: str, variants: Sequence[str], lanes: int, threads: int, node: str, now: float
    ) -> None:
        """A replica can take work. ValueError when its id is taken, or its stage or a variant unknown."""
        if name in self._replicas:
            raise ValueError(f"replica {name!r} is already known")
        s = self._graph.stage(stage)
        state = self._stages[s]
        indices = sorted((self._graph.variant(s, own) for own in variants), key=lambda v: -state.accuracy[v])
        replica = ReplicaState(name, s, tuple(indices), threads, node)
        self._replicas[name] = state.replicas[name] = replica
        self.resize(name, lanes, threads, now)

    def resize(self, name: ReplicaId, lanes: int, threads: int, now: float) -> None:
        """Open or close lanes; other threads hold from a lane's next batch on. Unknown replicas are ignored."""
        replica = self._replicas.get(name)
        if replica is None:
            return
        stage = self._stages[replica.stage]
        if threads != replica.threads:
            replica.threads = threads
            for lane in replica.lanes:
                if lane.batch is None:
                    self._regroup(stage, lane, now)
        in_use = [lane for lane in replica.lanes if not lane.closing]
        for lane in [lane for lane in replica.lanes if lane.closing][: max(0, lanes - len(in_use))]:
            lane.closing = False
            in_use.append(lane)
        for _ in range(lanes - len(in_use)):
            lane = Lane(replica)
            replica.lanes.append(lane)
            stage.join_lane(lane, self._cores.get(replica.node))
        surplus = sorted(in_use, key=lambda lane: lane.batch is not None)[: max(0, len(in_use) - lanes)]
        for lane in surplus:
            lane.closing = True
            if lane.batch is None:
                self._close(stage, lane, now)
        if surplus or (replica.draining and not replica.lanes):
            self._report_closed(replica)

    def drain(self, name: ReplicaId, now: float) -> None:
        """Give a replica no new work; ReplicaDrained follows when it is idle. Idempotent."""
        replica = self._replicas.get(name)
        if replica is not None and not replica.draining:
            replica.draining = True
            self.resize(name, 0, replica.threads, now)

    def lose(self, name: ReplicaId, now: float) -> list[Item]:
        """A replica is gone; returns the items that it was running. Idempotent."""
        replica = self._replicas.pop(name, None)
        if replica is None:
            return []
        stage = self._stages[replica.stage]
        del stage.replicas[name]
        orphans: list[Item] = []
        for lane in replica.lanes:
            if lane.batch is not None:
                orphans.extend(lane.batch.items)
                self._clear(stage, lane)
            stage.leave_lane(lane, now)
        replica.lanes.clear()
        return orphans

    # --- batches ------------------------------------------------------------------------------------------------

    def start(
        self, stage: StageState, group: Group, variant: int, items: list[Item], now: float, *, hangs_after: float
    ) -> Batch:
        """Put a batch on the lane of `group` that has been idle longest."""
        lane = group.idle.popleft()
        if group.cores is not None:
            group.cores.free -= group.threads
        number = self._next_batch
        self._next_batch += 1
        expected = stage.models[variant].predict(len(items))
        batch = Batch(number, stage.index, variant, lane, items, now, expected)
        lane.batch = batch
        self.running[number] = batch
        heapq.heappush(self._hangs, (now + hangs_after, number))
        stage.running += len(items)
        return batch

    def finish(self, batch: Batch, now: float) -> None:
        """A batch has left its lane, whichever way; the lane is idle again, or closed."""
        lane = batch.lane
        stage = self._stages[batch.stage]
        group = self._clear(stage, lane)
        if lane.closing:
            self._close(stage, lane, now)
            self._report_closed(lane.replica)
        elif group.threads != lane.replica.threads:
            self._regroup(stage, lane, now)
        else:
            group.idle.append(lane)

    def hung(self, now: float) -> Batch | None:
        """A batch that has run for longer than it ever should; None when there is none (any more)."""
        while self._hangs and self._hangs[0][0] <= now:
            batch = self.running.get(heapq.heappop(self._hangs)[1])
            if batch is not None:
                return batch
        return None

    def next_hang(self) -> float:
        """When a running batch will count as hung; infinity when nothing runs."""
        hangs = self._hangs
        while hangs and hangs[0][1] not in self.running:
            heapq.heappop(hangs)
        return hangs[0][0] if hangs else float("inf")

    # --- lanes --------------------------------------------------------------------------------------------------

    def _clear(self, stage: StageState, lane: Lane) -> Group:
        """Take a lane's batch off it and free its cores."""
        batch, group = lane.batch, lane.group
        assert batch is not None
        assert group is not None, "a busy lane belongs to a group"
        del self.running[batch.id]
        lane.batch = None
        stage.running -= len(batch.items)
        if group.cores is not None:
            group.cores.free += group.threads
        return group

    def _regroup(self, stage: StageState, lane: Lane, now: float) -> None:
        stage.leave_lane(lane, now)
        stage.join_lane(lane, self._cores.get(lane.replica.node))

    def _close(self, stage: StageState, lane: Lane, now: float) -> None:
        stage.leave_lane(lane, now)
        lane.replica.lanes.remove(lane)

    def _report_closed(self, replica: ReplicaState) -> None:
        if any(lane.closing for lane in replica.lanes):
            return
        if replica.draining:
            del self._replicas[replica.id]
            del self._stages[replica.stage].replicas[replica.id]
            self.orders.append(ReplicaDrained(replica.id))
        else:
            self.orders.append(LanesClosed(replica.id, len(replica.lanes)))
