"""The simulated engine: replicas that start, are resized, drain and die as slowly as real ones, on nodes of a size.

It carries out what `reconcile` says, whenever something has changed, and never grants more cores than a node has. It
keeps the rules of every engine: to grow, cores are taken first and lanes open `resize_s` later; to shrink, lanes close
at once and the cores are given back when their batches are done and `resize_s` has passed; the newest target wins.
Other variants are loaded while the replica serves those that it holds; where its memory does not hold both, its lanes
close first, or stay with those that are wanted still, until the new ones are there.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.plan import Drain, Hold, Launch, Plan, Resize
from triscale.core.profile import Profile
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.commands import KillReplica, LanesClosed, Order, ReplicaDrained
from triscale.dispatch.dispatcher import Dispatcher
from triscale.policy.reconcile import reconcile
from triscale.sim.agenda import Agenda
from triscale.sim.cores import CoreLedger, Kind
from triscale.sim.errors import SimulationError
from triscale.sim.grants import Grants
from triscale.sim.holding import Holding
from triscale.sim.replica import SimulatedReplica
from triscale.sim.settings import Failure, SimSettings

__all__ = ["Engine"]

_MOST_ROUNDS = 100
"""Times in a row that one instant's changes may lead to further ones."""


class Engine:
    """Replicas on nodes. `interrupted` is told of a replica just before it is lost with what it runs."""

    def __init__(
        self,
        graph: Graph,
        profile: Profile,
        nodes: Sequence[Node],
        settings: SimSettings,
        dispatcher: Dispatcher,
        ledger: CoreLedger,
        agenda: Agenda,
        interrupted: Callable[[ReplicaId, float], None],
    ) -> None:
        self._graph = graph
        self._profile = profile
        self._settings = settings
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._agenda = agenda
        self._interrupted = interrupted
        self._nodes = {node.id: node for node in nodes}
        self._used = dict.fromkeys(self._nodes, 0.0)
        """Cores of each node that replicas hold. Shared cores are `grants`' affair."""
        self._replicas: dict[ReplicaId, SimulatedReplica] = {}
        self._ids = itertools.count(1)
        self._plan: Plan
        self._views: tuple[ReplicaView, ...] | None = None
        self._holding = Holding(profile, settings, dispatcher, agenda, self._takes_work, self._touch)
        self.grants = Grants(dispatcher, ledger, len(graph.stages), settings.resize_s, agenda)
        self.cold_start_s = settings.cold_start_s
        """What the latest launch took; before the first one, what is assumed."""
        self.changed = False
        """Something happened since the last `settle`: there may be something to do."""
        self.counts: Counter[str] = Counter()
        """What was done so far: launch, resize, hold, drain, lost."""

    # --- what is seen -------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, those that are down marked so."""
        return tuple(self._nodes.values())

    @property
    def shared(self) -> bool:
        """Whether lanes share the cores of their node."""
        return self._plan.shared_cores > 0.0

    def views(self) -> tuple[ReplicaView, ...]:
        """All replicas, in the order of their launch."""
        if self._views is None:
            self._views = tuple(replica.view() for replica in self._replicas.values())
        return self._views

    # --- plans --------------------------------------------------------------------------------------------------

    def open(self, plan: Plan, now: float) -> None:
        """Everything that the first plan wants is there and ready."""
        self._plan = plan
        self.grants.open(self._wanted())
        for action in reconcile(plan, (), self.nodes, self._ids):
            assert isinstance(action, Launch), "nothing runs yet"
            replica = self._add(action.spec, now, initial=True)
            if replica is not None:
                self._ready(replica, now)
        self.changed = False

    def follow(self, plan: Plan, now: float) -> None:
        """Work towards another plan."""
        self._plan = plan
        self.grants.follow(self._wanted(), now)
        self.changed = True

    def settle(self, now: float) -> None:
        """Do what can be done now."""
        for _ in range(_MOST_ROUNDS):
            if not self.changed:
                return
            self.changed = False
            hold = self._replicas.keys() if self._settings.hold else ()
            for action in reconcile(self._plan, self.views(), self.nodes, self._ids, hold):
                match action:
                    case Launch(spec):
                        self._launch(spec, now)
                    case Resize(name, lanes, threads):
                        self._resize(self._replicas[name], lanes, threads, now)
                    case Hold(name, variants, swap):
                        self._change(self._replicas[name], variants, now, swap=swap)
                    case Drain(name):
                        self._drain(self._replicas[name], now)
        raise SimulationError(
            f"t={now!r}: after {_MOST_ROUNDS} rounds of actions there was still something to do at the same instant"
        )

    def _wanted(self) -> dict[NodeId, float]:
        return {node: self._plan.cores_of(node) for node in self._nodes} if self.shared else {}

    # --- what the dispatcher asks for ---------------------------------------------------------------------------

    def obey(self, order: Order, now: float) -> None:
        """Carry out an order."""
        replica = self._replicas.get(order.replica)
        if replica is None:
            return
        match order:
            case LanesClosed():
                if replica.closed:
                    self._holding.lanes_closed(replica, now)
                elif not replica.waits and replica.cores > replica.spec.cores:
                    self._agenda.at(now + self._settings.resize_s, partial(self._give_back, replica, replica.target))
            case ReplicaDrained():
                self._remove(replica, now)
            case KillReplica():
                self._interrupted(order.replica, now)
                self.counts["lost"] += 1
                self._remove(replica, now)

    # --- failures -----------------------------------------------------------------------------------------------

    def fail(self, failure: Failure, now: float) -> None:
        """Something breaks."""
        if failure.stage:
            owner = self._graph.stage(failure.stage)
            hit = [r for r in self._replicas.values() if r.owner == owner and r.phase is Phase.READY]
            for replica in hit[: failure.replicas]:
                self._lose(replica, now)
            return
        node = NodeId(failure.node)
        self._nodes[node] = replace(self._nodes[node], ready=False)
        for replica in [r for r in self._replicas.values() if r.node == node]:
            self._lose(replica, now)
        self.changed = True
        if failure.down_s is not None:
            self._agenda.at(now + failure.down_s, partial(self._back, node))

    def _back(self, node: NodeId, now: float) -> None:  # noqa: ARG002 - as every action
        self._nodes[node] = replace(self._nodes[node], ready=True)
        self.changed = True

    def _lose(self, replica: SimulatedReplica, now: float) -> None:
        if replica.phase is not Phase.STARTING:
            self._interrupted(replica.spec.id, now)
            self._dispatcher.replica_lost(replica.spec.id, now)
        self.counts["lost"] += 1
        self._remove(replica, now)

    # --- steps --------------------------------------------------------------------------------------------------

    def _launch(self, spec: ReplicaSpec, now: float) -> None:
        replica = self._add(spec, now, initial=False)
        if replica is not None:
            self.counts["launch"] += 1
            takes = self._cold_start_of(spec)
            self._agenda.at(now + takes, partial(self._come_up, replica, takes))

    def _cold_start_of(self, spec: ReplicaSpec) -> float:
        """From launch to ready: each variant but the first is loaded on top."""
        settings = self._settings
        loads = (
            self._profile.stages[spec.stage][name].load_s if settings.load_s is None else settings.load_s
            for name in spec.variants[1:]
        )
        return settings.cold_start_s + sum(loads)

    def _add(self, spec: ReplicaSpec, now: float, *, initial: bool) -> SimulatedReplica | None:
        """A replica with its cores; None where they are not there."""
        assert spec.node is not None, "reconcile says where"
        replica = SimulatedReplica(spec, spec.node, self._graph.stage(spec.stage), initial=initial)
        if not self._hold(replica, spec.cores, now):
            return None
        self._replicas[spec.id] = replica
        self.grants.occupy(spec.node, now)
        return replica

    def _come_up(self, replica: SimulatedReplica, took: float, now: float) -> None:
        if self._replicas.get(replica.spec.id) is replica:  # else it was called off, or its node went down
            self.cold_start_s = took
            self._ready(replica, now)

    def _ready(self, replica: SimulatedReplica, now: float) -> None:
        spec = replica.spec
        replica.phase = Phase.READY
        replica.open_cores = spec.cores
        self._dispatcher.replica_ready(spec.id, spec.stage, spec.variants, spec.lanes, spec.threads, replica.node, now)
        self._touch()

    def _resize(self, replica: SimulatedReplica, lanes: int, threads: int, now: float) -> None:
        before = replica.spec
        cores = lanes * threads
        if not self._hold(replica, cores if replica.phase is Phase.STARTING else max(cores, replica.cores), now):
            return
        self.counts["resize"] += 1
        replica.spec = replace(before, lanes=lanes, threads=threads)
        replica.target += 1
        if replica.phase is Phase.STARTING or replica.closed:
            return  # it comes up, or goes on, in its new shape
        replica.waits = cores >= replica.open_cores
        if not replica.waits:
            replica.open_cores = cores
            self._dispatcher.resize(before.id, lanes, threads, now)
        else:
            self._agenda.at(now + self._settings.resize_s, partial(self._apply, replica, replica.target))

    def _apply(self, replica: SimulatedReplica, target: int, now: float) -> None:
        """A grow, or another shape of the same size, takes effect."""
        if self._is(replica, target):
            replica.waits = False
            replica.open_cores = replica.spec.cores
            self._dispatcher.resize(replica.spec.id, replica.spec.lanes, replica.spec.threads, now)
            self._touch()

    def _give_back(self, replica: SimulatedReplica, target: int, now: float) -> None:
        """A shrink has taken effect."""
        if self._is(replica, target):
            self._hold(replica, replica.spec.cores, now)
            self._touch()

    def _is(self, replica: SimulatedReplica, target: int) -> bool:
        """Whether it is still there and is still to have that shape."""
        return self._replicas.get(replica.spec.id) is replica and replica.target == target

    def _change(self, replica: SimulatedReplica, variants: tuple[str, ...], now: float, *, swap: bool) -> None:
        """Other variants, in the place of those that it holds."""
        if self._holding.change(replica, variants, now, swap=swap):
            self.counts["hold"] += 1
            if replica.closed:
                replica.target += 1  # a grow that has not come yet is not to open its lanes
            self._views = None

    def _drain(self, replica: SimulatedReplica, now: float) -> None:
        self.counts["drain"] += 1
        if replica.phase is Phase.STARTING:
            self._remove(replica, now)
            return
        replica.phase = Phase.DRAINING
        replica.target += 1
        self._dispatcher.drain(replica.spec.id, now)
        self._views = None

    def _remove(self, replica: SimulatedReplica, now: float) -> None:
        self._hold(replica, 0, now)
        self.grants.leave(replica.node, now)
        del self._replicas[replica.spec.id]
        self._touch()

    # --- cores --------------------------------------------------------------------------------------------------

    def _hold(self, replica: SimulatedReplica, cores: int, now: float) -> bool:
        """It holds so many cores from now on; False, and nothing changes, where its node has no room for more."""
        before = replica.cores
        if not self.shared:
            used = self._used[replica.node] + cores - before
            if cores > before and used > self._nodes[replica.node].cores + 1e-9:
                return False
            self._used[replica.node] = used
            launched = Kind.START if replica.initial else Kind.OUT
            first = replica.first
            self._ledger.change(replica.owner, launched, min(cores, first) - min(before, first), now)
            self._ledger.change(replica.owner, Kind.UP, max(cores - first, 0) - max(before - first, 0), now)
        replica.cores = cores
        self._views = None
        return True

    def _takes_work(self, replica: SimulatedReplica) -> bool:
        """Whether it is there, and not on its way out."""
        return self._replicas.get(replica.spec.id) is replica and replica.phase is Phase.READY

    def _touch(self) -> None:
        self._views = None
        self.changed = True
