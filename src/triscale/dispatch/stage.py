"""One stage inside the dispatcher: its queue, the lanes that can run it, and the plan's shares as credits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.plan import StagePlan
from triscale.dispatch.queue import DeadlineQueue
from triscale.dispatch.work import Cores, Group, Lane, ReplicaState

__all__ = ["Routes", "ServiceModel", "StageState"]

_FAN_OUT_MEMORY = 500.0
"""Items over which the measured fan-out is averaged."""
_MOST_CREDIT = 4.0
"""Full batches that a variant may be owed or owe, so that one whose lanes were away does not monopolise the stage."""


class ServiceModel(Protocol):
    """Predicts how long one variant takes, and learns from what it took."""

    def predict(self, batch: int) -> float:
        """Seconds that a batch of so many items takes, as a high quantile: what a deadline must leave room for."""
        ...

    def typical(self, batch: int) -> float:
        """Seconds that it takes as a median: what capacity is counted in."""
        ...

    def observe(self, batch: int, seconds: float) -> None:
        """A batch of so many items took so long, on as many threads as are expected."""
        ...

    def expect(self, threads: int, lanes: int) -> None:
        """From now on batches run on so many threads, beside so many lanes of the same replica, itself included."""
        ...


class Routes:
    """How one row of the share table is followed with the variants that are resident now.

    `shares` sum to 1 over `variants`: the plan's, without what no lane holds. Lanes that hold nothing of the plan's
    yet, but are about to, do their part until then, on the most accurate variant that they hold. Where no lane holds
    anything of the plan's, every resident variant counts alike: work goes on until the plan's replicas are there.
    """

    __slots__ = ("credits", "planned", "shares", "variants")

    def __init__(self, planned: Sequence[float]) -> None:
        self.planned = planned
        """The plan's share of each variant."""
        self.credits = [0.0] * len(planned)
        """Items that each variant is owed."""
        self.shares: list[float] = []
        self.variants: tuple[int, ...] = ()
        """Those with a share, most accurate first."""

    def survey(self, resident: Sequence[int], strays: Mapping[int, float]) -> None:
        """Other variants are resident (most accurate first). `strays`: variant -> part of the stage's lanes that run it
        until they hold something of the plan's.
        """
        planned = self.planned
        self.shares = [0.0] * len(planned)
        total = sum(planned[v] for v in resident)
        if total <= 0.0:
            self.variants = tuple(resident)
            for v in resident:
                self.shares[v] = 1.0 / len(resident)
            return
        self.variants = tuple(v for v in resident if planned[v] > 0.0 or v in strays)
        rest = 1.0 - sum(strays.values())
        for v in self.variants:
            self.shares[v] = strays[v] if v in strays else rest * (planned[v] / total)

    def pick(self, variants: tuple[int, ...]) -> int:
        """The variant among these (most accurate first) whose turn it is; -1 when none has a share."""
        shares, owed = self.shares, self.credits
        best = -1
        for v in variants:
            if shares[v] > 0.0 and (best < 0 or owed[v] > owed[best] + 1e-9):
                best = v
        return best

    def charge(self, variant: int, items: int, batch: Sequence[int]) -> None:
        """Account `items` run by the plan's choice: each variant earns its share of them, the chosen one pays."""
        if len(self.variants) < 2:
            return
        shares, owed = self.shares, self.credits
        owed[variant] -= items
        for v in self.variants:
            bound = _MOST_CREDIT * batch[v]
            owed[v] = max(-bound, min(bound, owed[v] + shares[v] * items))


class StageState:
    """Queue, lanes, shares and measurements of one stage. Fields are open to the dispatcher; rules are here."""

    __slots__ = (
        "_strays",
        "accuracy",
        "batch",
        "by_path",
        "children",
        "fan_out",
        "groups",
        "idle",
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
        "routes",
        "rows",
        "running",
        "shares",
        "threads",
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
        self.groups: list[Group] = []
        """Those with the most accurate variants first."""
        self.replicas: dict[ReplicaId, ReplicaState] = {}
        self.lanes = 0
        """Open lanes, busy and idle."""
        self.idle = 0
        """Idle lanes, whether or not their cores are free."""
        self.resident: tuple[int, ...] = ()
        """Variants that some open lane holds, most accurate first."""
        self.planned: tuple[int, ...] = ()
        """Variants with a share, most accurate first."""
        self.batch = [1] * count
        self.threads = [1] * count
        """Of a lane that runs the variant, by the plan: what its predictions are for."""
        self.shares: list[float] = [0.0] * count
        """The plan's, over all paths."""
        self.rows: Mapping[int, int] = _rows(graph, index)
        """Parent stage -> row of `routes` of the items that its variant 0 emitted; variant v's are v rows further."""
        self.routes: list[Routes] = []
        """Row 0 is for items of whatever path; rows that the plan does not tell apart are the same object."""
        self.by_path = False
        """Whether any row differs from row 0."""
        self.linger_s = 0.0
        self._strays: dict[int, float] = {}
        self.without_lanes_since: float | None = now

    def follow(self, plan: StagePlan, graph: Graph, max_batch: Sequence[int], most_lanes: float = float("inf")) -> None:
        """Take over a plan's shares and batch sizes. Credits start afresh. At most `most_lanes` run at a time."""
        names = graph.variants[self.index]
        count = len(names)
        self.shares = [plan.variants[name].share if name in plan.variants else 0.0 for name in names]
        everywhere = Routes(self.shares)
        self.routes = [everywhere]
        for parent in graph.parents[self.index]:
            for name in graph.variants[parent]:
                mine = plan.by_parent.get(name)
                self.routes.append(Routes([mine.get(own, 0.0) for own in names]) if mine else everywhere)
        self.by_path = any(row is not everywhere for row in self.routes)
        planned = [v for v in range(count) if any(row.planned[v] > 0.0 for row in self.routes)]
        self.planned = tuple(sorted(planned, key=lambda v: -self.accuracy[v]))
        # A variant without a share still serves as a rescue; it may then batch as the planned ones do.
        widest = max((plan.variants[names[v]].batch for v in planned if names[v] in plan.variants), default=1)
        self.batch = [
            max(1, min(max_batch[v], plan.variants[name].batch if v in planned and name in plan.variants else widest))
            for v, name in enumerate(names)
        ]
        self.linger_s = plan.linger_s
        for v, name in enumerate(names):
            group = next((group for group in plan.groups if name in group.variants), None)
            if group is not None:
                self.threads[v] = group.threads
                self.models[v].expect(group.threads, max(1, int(min(group.lanes, most_lanes))))
        self._survey()

    def learn_fan_out(self, variant: int, items: int, emitted: Sequence[int]) -> None:
        """Fold in how many items each child got from `items` that were completed together."""
        means = self.fan_out[variant]
        weight = items / (items + _FAN_OUT_MEMORY)
        for position, count in enumerate(emitted):
            means[position] += (count / items - means[position]) * weight

    # --- lanes --------------------------------------------------------------------------------------------------

    def open_lane(self, lane: Lane, cores: Cores | None) -> None:
        """A lane may take work, as soon as it is idle."""
        replica = lane.replica
        key = (replica.variants, replica.threads, replica.node if cores is not None else None, replica.changing)
        group = next((group for group in self.groups if group.key == key), None)
        if group is None:
            group = Group(key, replica.variants, replica.threads, cores, changing=replica.changing)
            self.groups.append(group)
        lane.group = group
        group.size += 1
        self.lanes += 1
        if group.size == 1 or self._strays:
            self._survey()
        self.without_lanes_since = None
        if lane.batch is None:
            self.rest_lane(lane)

    def available(self) -> Sequence[Group]:
        """The groups with a lane that can take a batch now, the most accurate first."""
        groups = self.groups
        if len(groups) == 1 and groups[0].cores is None:
            return groups if groups[0].idle else ()
        return [group for group in groups if group.available()]

    def rest_lane(self, lane: Lane) -> None:
        """An open lane is idle."""
        assert lane.group is not None, "an idle lane is open"
        lane.group.idle.append(lane)
        self.idle += 1

    def take_lane(self, group: Group) -> Lane:
        """The lane of a group that has been idle longest; it is idle no more."""
        self.idle -= 1
        return group.idle.popleft()

    def close_lane(self, lane: Lane, now: float) -> None:
        """A lane takes no more work; a batch on it may still run."""
        group = lane.group
        if group is None:
            return
        lane.group = None
        if lane.batch is None:
            group.idle.remove(lane)
            self.idle -= 1
        group.size -= 1
        self.lanes -= 1
        if not group.size:
            self.groups.remove(group)
        if not group.size or self._strays:
            self._survey()
        if not self.lanes:
            self.without_lanes_since = now

    def _survey(self) -> None:
        found = {v for group in self.groups for v in group.variants}
        self.resident = tuple(sorted(found, key=lambda v: -self.accuracy[v]))
        # The most accurate lanes are offered work first: routing to the most accurate with room.
        self.groups.sort(key=lambda group: -self.accuracy[group.variants[0]])
        self._strays = self._stray()
        for row in self.routes:
            row.survey(self.resident or self.planned or range(len(self.models)), self._strays)

    def _stray(self) -> dict[int, float]:
        """Variant -> part of the lanes that run it until they hold something of the plan's."""
        parts: dict[int, float] = {}
        for group in self.groups:
            if group.changing and not any(v in self.planned for v in group.variants):
                parts[group.variants[0]] = parts.get(group.variants[0], 0.0) + group.size / self.lanes
        return parts


def _rows(graph: Graph, index: int) -> dict[int, int]:
    rows: dict[int, int] = {}
    first = 1
    for parent in graph.parents[index]:
        rows[parent] = first
        first += len(graph.variants[parent])
    return rows
