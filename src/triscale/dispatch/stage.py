"""One stage inside the dispatcher: its queue, the lanes that can run it, and the plan's shares as credits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.plan import StagePlan
from triscale.dispatch.queue import DeadlineQueue
from triscale.dispatch.work import Cores, Group, GroupKey, Lane, ReplicaState

__all__ = ["ServiceModel", "StageState"]

_FAN_OUT_MEMORY = 500.0
"""Items over which the measured fan-out is averaged."""


class ServiceModel(Protocol):
    """Predicts how long one variant takes, and learns from what it took."""

    def predict(self, batch: int) -> float:
        """Seconds that a batch of so many items takes, as a high quantile: what a deadline must leave room for."""
        ...

    def typical(self, batch: int) -> float:
        """Seconds that it takes as a median: what capacity is counted in."""
        ...

    def observe(self, batch: int, seconds: float) -> None:
        """A batch of so many items took so long."""
        ...


class StageState:
    """Queue, lanes, shares and measurements of one stage. Fields are open to the dispatcher; rules are here."""

    __slots__ = (
        "accuracy",
        "batch",
        "children",
        "credits",
        "fan_out",
        "groups",
        "index",
        "is_join",
        "lanes",
        "linger_s",
        "live",
        "models",
        "planned",
        "queue",
        "replicas",
        "resident",
        "rows",
        "running",
        "shares",
        "without_lanes_since",
    )

    def __init__(
        self, graph: Graph, index: int, models: Sequence[ServiceModel], fan_out: Sequence[Sequence[float]], now: float
    ) -> None:
        count = len(graph.variants[index])
        self.index = index
        self.is_join = graph.joins[index]
        self.children = graph.children[index]
        self.accuracy = graph.accuracy[index]
        self.models = list(models)
        self.fan_out = [list(row) for row in fan_out]
        """Per variant and child (in the graph's order): mean items emitted per item, kept up to date."""
        self.queue = DeadlineQueue()
        self.live = 0
        """Live items, queued and running."""
        self.running = 0
        """Live and ended items in batches now."""
        self.groups: dict[GroupKey, Group] = {}
        self.replicas: dict[ReplicaId, ReplicaState] = {}
        self.lanes = 0
        self.resident: tuple[int, ...] = ()
        """Variants that some lane holds, most accurate first."""
        self.planned: tuple[int, ...] = ()
        """Variants with a share, most accurate first."""
        self.batch = [1] * count
        self.shares: list[list[float]] = [[0.0] * count]
        self.rows: Mapping[int, int] = {}
        """Parent variant -> row of `shares`; empty unless shares depend on the path."""
        self.credits: list[list[float]] = [[0.0] * count]
        self.linger_s = 0.0
        self.without_lanes_since: float | None = now

    def follow(self, plan: StagePlan, graph: Graph, max_batch: Sequence[int]) -> None:
        """Take over a plan's shares and batch sizes. Credits start afresh."""
        count = len(self.models)
        names = graph.variants[self.index]
        shares = [plan.variants[name].share if name in plan.variants else 0.0 for name in names]
        self.shares = [shares]
        rows: dict[int, int] = {}
        for parent in graph.parents[self.index]:
            for variant, name in enumerate(graph.variants[parent]):
                if name in plan.by_parent:
                    rows[variant] = len(self.shares)
                    self.shares.append([plan.by_parent[name].get(own, 0.0) for own in names])
        self.rows = rows
        self.credits = [[0.0] * count for _ in self.shares]
        self.batch = [
            min(max_batch[v], plan.variants[name].batch) if name in plan.variants else 1 for v, name in enumerate(names)
        ]
        planned = [v for v in range(count) if any(row[v] > 0 for row in self.shares)]
        self.planned = tuple(sorted(planned, key=lambda v: -self.accuracy[v]))
        # A variant without a share still serves as a rescue; it may then batch as the planned ones do.
        widest = max((self.batch[v] for v in planned), default=1)
        for v in range(count):
            if v not in planned:
                self.batch[v] = min(max_batch[v], widest)
        self.linger_s = plan.linger_s

    def pick(self, variants: tuple[int, ...], row: int) -> int:
        """The planned variant among `variants` (most accurate first) whose turn it is; -1 when none is planned."""
        shares = self.shares[row]
        credit = self.credits[row]
        best = -1
        for v in variants:
            if shares[v] > 0.0 and (best < 0 or credit[v] > credit[best] + 1e-9):
                best = v
        return best

    def charge(self, variant: int, row: int, items: int) -> None:
        """Account `items` run by the plan's choice: each variant earns its share of them, the chosen one pays."""
        shares = self.shares[row]
        credit = self.credits[row]
        for v in self.planned:
            # Bounded, so that a variant whose lanes were away does not monopolise the stage when it is back.
            credit[v] = min(credit[v] + shares[v] * items, 4.0 * self.batch[v])
        credit[variant] = max(credit[variant] - items, -4.0 * self.batch[variant])

    def learn_fan_out(self, variant: int, items: int, emitted: Sequence[int]) -> None:
        """Fold in how many items each child got from a batch of `items`."""
        means = self.fan_out[variant]
        weight = items / (items + _FAN_OUT_MEMORY)
        for position, count in enumerate(emitted):
            means[position] += (count / items - means[position]) * weight

    def join_lane(self, lane: Lane, cores: Cores | None) -> None:
        """A lane can take work."""
        replica = lane.replica
        key = (replica.variants, replica.threads, replica.node if cores is not None else None)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key, replica.variants, replica.threads, cores)
            self._survey()
        lane.group = group
        group.size += 1
        group.idle.append(lane)
        self.lanes += 1
        self.without_lanes_since = None

    def leave_lane(self, lane: Lane, now: float) -> None:
        """A lane is gone; it must not be running a batch any more."""
        group = lane.group
        if group is None:
            return
        lane.group = None
        if lane in group.idle:
            group.idle.remove(lane)
        group.size -= 1
        self.lanes -= 1
        if not group.size:
            del self.groups[group.key]
            self._survey()
        if not self.lanes:
            self.without_lanes_since = now

    def _survey(self) -> None:
        found = {v for group in self.groups.values() for v in group.variants}
        self.resident = tuple(sorted(found, key=lambda v: -self.accuracy[v]))
        # Most accurate lanes are offered work first: routing to the most accurate with room.
        self.groups = dict(sorted(self.groups.items(), key=lambda entry: -self.accuracy[entry[1].variants[0]]))
