"""triscale's own autoscaler: up, out and accuracy, each on the time scale it is good at.

Three clocks. Every batch, the dispatcher spends each item's slack (not here). Every `tick_s`, demand is compared with
what the cores in use carry, and a deficit is covered by what acts now: more cores for the lanes of nodes that are
ready, and where those are used up, faster variants, which are resident and take effect with the next batch. Where
nodes are left that are not in use, replicas are launched on them, and once they are ready accuracy goes up again.

Adding is immediate; releasing waits. Cores are given back when they have not been wanted for `hold_s`, a node when
it has not been needed for a few cold starts more. Like is compared with like: every demand here is a number of
requests per second over windows of one second, unless a shorter one shows, beyond its noise, that more is coming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from triscale.core.cluster import NodeId
from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import RECENT_S, Phase, Snapshot
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, read_options
from triscale.policy.autoscalers.pooled import PooledPlanner
from triscale.policy.drift import SteadyDrift
from triscale.policy.optimise.settings import Settings as PlannerSettings
from triscale.policy.stabilise import SlidingMaximum, SlidingMinimum

__all__ = ["Triscale", "TriscaleOptions"]

Least0: TypeAlias = Annotated[float, Meta(ge=0.0, description="a number from 0 on")]

_NO_BACKLOG = 0.1
"""Work that takes the cores so much of the objective is no backlog."""
_SOON = 0.25
"""Cores that come within such a part of a tick need no bridge: it would outlast what it bridges."""
_PREPARED = 6
"""Times that the expected demand is doubled, at most, to be planned for before it comes."""
_SAME_SHARE = 0.02
"""A mix whose shares differ by less is the same mix."""
_LEARN_S = 1.0
"""Planning anew with other latencies costs the processor that serves: no more often than this."""
_SAME_DEMAND = 0.15
"""Batches of the same variants on the same cores are left as they are while the demand differs by less."""


class TriscaleOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `triscale`."""

    tick_s: Above0 = 0.1
    demand_s: Above0 = 2.0
    """Demand is the mean rate of so many seconds."""
    hold_s: Least0 = 1.0
    """Cores are given back when they have not been wanted for so long,"""
    hold_resizes: Least0 = 4.0
    """and as long again as so many resizes take."""
    keep_colds: Least0 = 1.0
    """A node is left when it has not been needed for as long, and for so many cold starts more. One: whoever keeps what
    is idle for as long as getting it back would cost never pays more than twice what hindsight would (ski rental)."""
    headroom: Least0 = 0.8
    """Cores above what the planner asks for, in square roots of their number, per second that a resize takes: what
    rises meanwhile must be carried by what is there. At most one such part more than it asks for."""
    sigmas: Least0 = 1.5
    """How far a window shorter than a second must lie above the demand, in standard deviations, to count."""
    utilisation: Annotated[float, Meta(gt=0.0, lt=1.0, description="a number between 0 and 1")] = 0.97
    """Most of its time that a core is counted on."""
    wait_quantile: Annotated[float, Meta(gt=0.0, lt=1.0, description="a number between 0 and 1")] = 0.95
    """Part of the waits that must fit the SLO by the plan alone; slack and faster variants see to the others."""
    drift_s: Above0 = 2.0
    """Latencies are planned with as they were, on average, over about so many seconds."""
    drain_s: Above0 = 1.0
    """Time in which a backlog is worked off."""


class Triscale:
    """See the module. `options` are `TriscaleOptions`."""

    name = "triscale"
    dispatch = Settings()

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.options = options = read_options("triscale", TriscaleOptions, setting.options)
        self.tick_s = options.tick_s
        self._planner = PooledPlanner(
            setting,
            PlannerSettings(
                sharing="shared",
                min_accuracy=setting.min_accuracy,
                utilisation=options.utilisation,
                wait_quantile=options.wait_quantile,
                node_limit=2000,
            ),
        )
        self._cores = {node.id: int(node.cores) for node in setting.nodes}
        self._wanted = SlidingMaximum(options.hold_s)
        self._needed = SlidingMaximum(options.hold_s)
        self._granted = SlidingMinimum()
        self._drift = SteadyDrift(options.drift_s)
        self._headroom = 0.0
        self._expected = 0.0
        """Requests/s that the first plan was made for: believed until something has been seen."""
        self._learn_at = 0.0
        self._latest = 0.0
        """The demand of the last decision."""
        self._learn_delays(setting.cold_start_s, setting.resize_s)

    def first(self, demand: float) -> Plan:
        """As many nodes, cores and variants as the expected demand needs."""
        # A second may bring two standard deviations more than the mean, and nothing has been seen yet.
        self._expected = demand + 2.0 * math.sqrt(demand)
        total = sum(self._cores.values())
        want, plan = self._want(self._expected, total)
        # What a burst may bring is planned for beforehand, so that the planner has its tables when it comes.
        for doublings in range(1, _PREPARED + 1):
            if self._planner.plan(self._expected * 2.0**doublings, total).mode == "overload":
                break
        hosts = self._hosts(want, list(self._cores))
        return self._planner.spread(plan, self._grants(want, hosts), hosts)

    def decide(self, snapshot: Snapshot) -> Plan:
        """The fast tick and the slow one: what acts now, and what is launched or given back."""
        drift = self._drift.update(snapshot.drift, snapshot.now)
        if snapshot.now >= self._learn_at:
            self._learn_at = snapshot.now + _LEARN_S
            self._planner.learn(drift, snapshot.fan_out)
        self._learn_delays(snapshot.cold_start_s, snapshot.resize_s)
        self._cores = {node.id: int(node.cores) for node in snapshot.nodes if node.ready}
        demand = self._demand(snapshot)
        if len(snapshot.per_second) < self._wanted.window_s:
            demand = max(demand, self._expected)
        self._latest = demand
        total = sum(self._cores.values())
        if total < 1:
            return snapshot.plan
        want, plan = self._want(demand, total)
        want = math.ceil(self._wanted.add(snapshot.now, want))
        ready, starting = self._in_use(snapshot)
        hosts = self._hosts(math.ceil(self._needed.add(snapshot.now, want)), [*ready, *starting])
        serving = [node for node in hosts if node in ready] or hosts
        room = sum(self._cores[node] for node in serving)
        there = min(room, self._there(snapshot, room))
        if want > there:
            plan = self._bridge(demand, there, room)
        new = self._planner.spread(plan, self._grants(want, [*serving, *(n for n in hosts if n not in serving)]), hosts)
        # The door may count on what the next tick would grant.
        spare = max(0.0, room - new.cores)
        new = msgspec.structs.replace(new, spare_cores=spare, spare_after_s=self.tick_s + snapshot.resize_s)
        return snapshot.plan if _alike(new, snapshot.plan) else new

    def prepare(self) -> bool:
        """Make one of the plans that a surge would need, now that there is time; False when all of them are known."""
        total = sum(self._cores.values())
        return total > 0 and self._planner.foresee(self._latest, total)

    def _there(self, snapshot: Snapshot, room: int) -> int:
        """The cores that lanes may use now: those that were granted less than a resize ago are still to come."""
        if snapshot.resize_s < _SOON * self.tick_s:
            return room
        return round(self._granted.add(snapshot.now, snapshot.plan.cores, snapshot.resize_s))

    def _bridge(self, demand: float, there: int, room: int) -> Plan:
        """What serves on the cores that are there until more of them are, or more nodes: faster variants."""
        plan = self._planner.plan(demand, there)
        # What even those cannot carry is up to the door, which knows when cores that are granted will be there.
        if there >= room or plan.served_fraction >= 1.0:
            return plan
        return msgspec.structs.replace(plan, served_fraction=1.0, mode="accuracy")

    def _want(self, demand: float, most: int) -> tuple[int, Plan]:
        """Cores that the demand needs at the highest accuracy, at most `most`; and the plan with them."""
        plan = self._planner.plan(demand, most)
        if plan.mode != "hardware":
            return most, plan
        return min(most, math.floor(plan.cores + self._headroom * math.sqrt(plan.cores) + 0.5)), plan

    def _learn_delays(self, cold_start_s: float, resize_s: float) -> None:
        """What takes long is done with more reserve, and undone later."""
        self._headroom = self.options.headroom * min(1.0, resize_s)
        self._wanted.window_s = self.options.hold_s + self.options.hold_resizes * resize_s
        self._needed.window_s = self._wanted.window_s + self.options.keep_colds * cold_start_s

    def _demand(self, snapshot: Snapshot) -> float:
        """Requests/s to be ready for."""
        whole = snapshot.rate(self.options.demand_s)
        demand = whole
        for seconds in (0.2, 0.5, 1.0):
            windows = round(seconds / RECENT_S)
            if len(snapshot.recent) < windows:
                continue
            rate = sum(snapshot.recent[-windows:]) / seconds
            # A count of Poisson arrivals has its mean as its variance.
            demand = max(demand, rate - self.options.sigmas * math.sqrt(max(rate, whole) / seconds))
        return demand + self._backlog(snapshot)

    def _backlog(self, snapshot: Snapshot) -> float:
        """Requests/s that working off the queues in time adds to the demand."""
        graph = self._setting.graph
        work = self._planner.work_s(snapshot.plan)
        onward = [0.0] * len(graph.stages)
        for s in reversed(range(len(graph.stages))):
            name = graph.stages[s]
            onward[s] = work[name]
            for position, child in enumerate(graph.children[s]):
                emitted = sum(
                    v.share * self._emitted(snapshot, name, variant, s, position)
                    for variant, v in snapshot.plan.stages[name].variants.items()
                )
                onward[s] += emitted * onward[child]
        if onward[0] <= 0.0:
            return 0.0
        queued = sum(
            snapshot.stages[name].queued * onward[s] for s, name in enumerate(graph.stages) if name in snapshot.stages
        )
        # What the cores work off anyway within a batch or so is no backlog.
        idle_s = self.options.drain_s * (1.0 - self.options.utilisation)
        spare = snapshot.plan.cores * max(idle_s, _NO_BACKLOG * graph.pipeline.slo_ms / 1000.0)
        return max(0.0, queued - spare) / onward[0] / self.options.drain_s

    def _emitted(self, snapshot: Snapshot, stage: str, variant: str, s: int, position: int) -> float:
        child = self._setting.graph.stages[self._setting.graph.children[s][position]]
        measured = snapshot.fan_out.get((stage, variant))
        if measured is not None and child in measured:
            return measured[child]
        profiled = self._setting.profile.stages[stage][variant].fan_out
        return profiled.get(child, 1.0)

    def _in_use(self, snapshot: Snapshot) -> tuple[list[NodeId], list[NodeId]]:
        """The nodes on which every stage has a replica that is ready, and those where some are still starting."""
        stages = set(self._setting.graph.stages)
        ready: dict[NodeId, set[str]] = {}
        live: dict[NodeId, set[str]] = {}
        for view in snapshot.replicas:
            if view.phase is not Phase.DRAINING and view.node in self._cores:
                live.setdefault(view.node, set()).add(view.spec.stage)
                if view.phase is Phase.READY:
                    ready.setdefault(view.node, set()).add(view.spec.stage)
        up = [node for node in self._cores if ready.get(node, set()) >= stages]
        return up, [node for node in self._cores if node in live and node not in up]

    def _hosts(self, want: int, present: Sequence[NodeId]) -> list[NodeId]:
        """As many nodes as hold so many cores, at least one, those present first."""
        hosts: list[NodeId] = []
        room = 0
        for node in [*present, *(other for other in self._cores if other not in present)]:
            if room >= want and hosts:
                break
            hosts.append(node)
            room += self._cores[node]
        return hosts

    def _grants(self, want: int, hosts: Sequence[NodeId]) -> Mapping[NodeId, int]:
        """The cores, node after node; at least one of each, for a replica that is kept is not free."""
        grants: dict[NodeId, int] = {}
        left = max(0, want - len(hosts))
        for node in hosts:
            more = min(left, self._cores[node] - 1)
            grants[node] = 1 + more
            left -= more
        return grants


def _alike(a: Plan, b: Plan) -> bool:
    """Whether two plans run the same, but for differences that are noise."""
    if a.node_cores != b.node_cores or a.shared_cores != b.shared_cores or a.mode != b.mode:
        return False
    if abs(a.served_fraction - b.served_fraction) > _SAME_SHARE:
        return False
    batches = a.mode == "hardware" and abs(a.demand - b.demand) <= _SAME_DEMAND * b.demand
    for name, mine in a.stages.items():
        other = b.stages.get(name)
        if other is None or other.groups != mine.groups or set(other.variants) != set(mine.variants):
            return False
        for variant, each in mine.variants.items():
            theirs = other.variants[variant]
            if abs(each.share - theirs.share) > _SAME_SHARE or (each.batch != theirs.batch and not batches):
                return False
    return True
