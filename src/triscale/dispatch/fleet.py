"""Replicas, their lanes and the batches on them.

A lane runs at most one batch, and where a node's cores are shared, lanes run only while cores are free. A shrink
closes idle lanes at once and busy ones when their batch is done; only then may the engine take cores away.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.dispatch.commands import KillReplica, LanesClosed, Order, ReplicaDrained
from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Batch, Cores, Group, Item, Lane, ReplicaState

__all__ = ["Fleet"]


class Fleet:
    """Everything that can run a batch. What the driver must do as a consequence is told by `orders`."""

    __slots__ = (
        "_graph",
        "_hangs",
        "_next_batch",
        "_orders",
        "_replicas",
        "_resized",
        "_stages",
        "changed",
        "cores",
        "running",
    )

    def __init__(self, graph: Graph, stages: Sequence[StageState]) -> None:
        self._graph = graph
        self._stages = stages
        self._replicas: dict[ReplicaId, ReplicaState] = {}
        self._hangs: list[tuple[float, int]] = []
        self._next_batch = 0
        self.cores: dict[str, Cores] = {}
        """Of the nodes whose lanes share them."""
        self.changed = False
        """Lanes or cores came or went since this was last cleared."""
        self.running: dict[int, Batch] = {}
        self._orders: list[Order] = []
        self._resized: dict[ReplicaId, ReplicaState] = {}
        """Replicas of which a resize seems to be done."""

    def share_cores(self, node: str, cores: float) -> None:
        """Lanes of `node` run only while one of its `cores` is free."""
        self.changed = True
        shared = self.cores.get(node)
        if shared is None:
            self.cores[node] = Cores(cores)
        else:
            shared.free += cores - shared.total
            shared.total = cores

    # --- replicas -----------------------------------------------------------------------------------------------

    def ready(
        self, name: ReplicaId, stage: str, variants: Sequence[str], lanes: int, threads: int, node: str, now: float
    ) -> None:
        """A replica can take work. ValueError when its id is taken, its stage or a variant unknown, or none given."""
        if name in self._replicas:
            raise ValueError(f"replica {name!r} is already known")
        s = self._graph.stage(stage)
        # Not yet told that an earlier one of this name is drained: nobody is to take this one for it.
        self._orders = [order for order in self._orders if order != ReplicaDrained(name)]
        replica = ReplicaState(name, s, self._indices(name, s, variants), threads, node)
        self._replicas[name] = self._stages[s].replicas[name] = replica
        self._fit(replica, lanes, threads, now)

    def hold(self, name: ReplicaId, variants: Sequence[str], now: float, *, changing: bool = False) -> None:
        """Its lanes run these variants from their next batches on. ValueError when one is unknown, or none given.

        Replicas that are unknown or draining are left alone.
        """
        replica = self._replicas.get(name)
        if replica is None or replica.draining:
            return
        indices = self._indices(name, replica.stage, variants)
        if indices != replica.variants or changing is not replica.changing:
            self.changed = True
            replica.variants = indices
            replica.changing = changing
            self._regroup(replica, now)

    def adopt(self, name: ReplicaId, variants: Sequence[str], lanes: int, threads: int, now: float) -> bool:
        """Bring a replica to this shape whatever was begun with it: it is not drained any more. False if it is unknown.

        Its batches go on.
        """
        replica = self._replicas.get(name)
        if replica is None:
            return False
        replica.draining = False
        self.hold(name, variants, now)
        self.resize(name, lanes, threads, now)
        return True

    def resize(self, name: ReplicaId, lanes: int, threads: int, now: float) -> None:
        """Open or close lanes; other threads hold from a lane's next batch on. LanesClosed follows when that is done.

        Replicas that are unknown or draining are left alone.
        """
        replica = self._replicas.get(name)
        if replica is None or replica.draining:
            return
        replica.resizing = True
        self._fit(replica, lanes, threads, now)
        self._settle(replica)

    def drain(self, name: ReplicaId, now: float) -> None:
        """Give a replica no new work; ReplicaDrained follows when it is idle. Idempotent."""
        replica = self._replicas.get(name)
        if replica is not None and not replica.draining:
            replica.draining = True
            self._fit(replica, 0, replica.threads, now)
            self._settle(replica)

    def lose(self, name: ReplicaId, now: float) -> list[Item]:
        """A replica is gone; returns the items that it was running. Idempotent."""
        replica = self._replicas.pop(name, None)
        if replica is None:
            return []
        self.changed = True
        stage = self._stages[replica.stage]
        del stage.replicas[name]
        orphans: list[Item] = []
        for lane in replica.lanes:
            if lane.batch is not None:
                orphans.extend(lane.batch.items)
                stage.close_lane(lane, now)
                self._clear(stage, lane.batch)
            else:
                stage.close_lane(lane, now)
        replica.lanes.clear()
        return orphans

    def _fit(self, replica: ReplicaState, lanes: int, threads: int, now: float) -> None:
        """Make it so many lanes of so many threads, as far as the batches that run allow."""
        self.changed = True
        stage = self._stages[replica.stage]
        cores = self.cores.get(replica.node)
        if threads != replica.threads:
            replica.threads = threads
            self._regroup(replica, now)
        in_use = [lane for lane in replica.lanes if not lane.closing]
        for lane in [lane for lane in replica.lanes if lane.closing][: max(0, lanes - len(in_use))]:
            lane.closing = False
            in_use.append(lane)
            stage.open_lane(lane, cores)
        for _ in range(lanes - len(in_use)):
            lane = Lane(replica)
            replica.lanes.append(lane)
            stage.open_lane(lane, cores)
        # Idle lanes go first: they are free at once.
        for lane in sorted(in_use, key=lambda lane: lane.batch is not None)[: max(0, len(in_use) - lanes)]:
            stage.close_lane(lane, now)
            if lane.batch is None:
                replica.lanes.remove(lane)
            else:
                lane.closing = True

    def _regroup(self, replica: ReplicaState, now: float) -> None:
        """Its lanes are of another kind from their next batches on; those that run keep theirs until they are done."""
        stage = self._stages[replica.stage]
        for lane in replica.lanes:
            if not lane.closing:
                stage.close_lane(lane, now)
                stage.open_lane(lane, self.cores.get(replica.node))

    def _indices(self, name: ReplicaId, s: int, variants: Sequence[str]) -> tuple[int, ...]:
        """The variants' indices, most accurate first."""
        if not variants:
            raise ValueError(f"replica {name!r} of stage {self._graph.stages[s]!r} holds no variant; name at least one")
        accuracy = self._stages[s].accuracy
        return tuple(sorted((self._graph.variant(s, own) for own in variants), key=lambda v: -accuracy[v]))

    def _settle(self, replica: ReplicaState) -> None:
        """A resize or a drain may be done; the drained are forgotten."""
        if not (replica.resizing or replica.draining) or not replica.settled:
            return
        if replica.draining:
            del self._replicas[replica.id]
            del self._stages[replica.stage].replicas[replica.id]
            self._orders.append(ReplicaDrained(replica.id))
        else:
            self._resized[replica.id] = replica

    def orders(self) -> list[Order]:
        """What the driver is asked for, once."""
        if not self._resized and not self._orders:
            return []
        # Only now, for a later resize may have made an earlier one's answer wrong.
        for replica in self._resized.values():
            if self._replicas.get(replica.id) is replica and replica.settled and not replica.draining:
                replica.resizing = False
                self._orders.append(LanesClosed(replica.id, len(replica.lanes)))
        self._resized.clear()
        orders, self._orders = self._orders, []
        return orders

    def give_up(self, replica: ReplicaId, reason: str, now: float) -> list[Item]:
        """Have a replica killed; it counts as lost at once."""
        self._orders.append(KillReplica(replica, reason))
        return self.lose(replica, now)

    # --- batches ------------------------------------------------------------------------------------------------

    def start(
        self, stage: StageState, group: Group, variant: int, items: list[Item], expected: float, hang: float, now: float
    ) -> Batch:
        """Put a batch on the lane of `group` that has been idle longest. It hangs if it runs for `hang` seconds."""
        lane = stage.take_lane(group)
        if group.cores is not None:
            group.cores.free -= group.threads
        number = self._next_batch
        self._next_batch += 1
        batch = Batch(number, stage.index, variant, lane, group, items, now, expected)
        lane.batch = batch
        self.running[number] = batch
        heapq.heappush(self._hangs, (now + hang, number))
        stage.running += len(items)
        return batch

    def finish(self, batch: Batch) -> None:
        """A batch has left its lane, whichever way; the lane is idle again, or closed."""
        lane = batch.lane
        replica = lane.replica
        stage = self._stages[batch.stage]
        self._clear(stage, batch)
        if lane.closing:
            replica.lanes.remove(lane)
        else:
            stage.rest_lane(lane)
        if replica.resizing or replica.draining:
            self._settle(replica)

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

    def _clear(self, stage: StageState, batch: Batch) -> None:
        """Take a batch off its lane and free its cores."""
        del self.running[batch.id]
        batch.lane.batch = None
        stage.running -= len(batch.items)
        group = batch.group
        if group.cores is not None:
            group.cores.free += group.threads
