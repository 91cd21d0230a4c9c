"""A small deterministic world around one `Dispatcher`: a virtual clock, simulated batches, faults on demand.

The simulator in short, for tests: events are ordered by time and then by when they were scheduled; service times,
fan-outs and faults come from the test; everything that happens is one line of `log`. What the dispatcher promises is
checked after every step (`WorldError` says what was broken, and when):
- the accounts balance; no request ends twice;
- no lane runs two batches, no replica more than its lanes, no node more than the cores that its lanes share;
- a second step at the same instant does nothing; a wakeup does not ask for the same instant again;
- with `probe`, steps at random times before the next wakeup do nothing: nothing could have been done earlier.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.request import Outcome
from triscale.core.settings import Settings
from triscale.dispatch.commands import Commands, KillReplica, LanesClosed, Order, ReplicaDrained
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.results import ItemResult, Rejection
from triscale.dispatch.stage import ServiceModel
from triscale.dispatch.work import Batch, Item, Request
from triscale.testing.builders import TableTimes
from triscale.testing.builders import plan as simple_plan

__all__ = ["World", "WorldError"]

_MOST_IDLE_WAKEUPS = 100
_TOO_CLOSE = 1e-5
"""Seconds before a wakeup in which a step may already do what the wakeup is for."""


class WorldError(AssertionError):
    """The dispatcher broke a promise; the message says which, and when."""


class World:
    """Drives a dispatcher. Every method acts at the present virtual time, `now`; `run` moves it."""

    def __init__(
        self,
        pipeline: Pipeline,
        plan: Plan | None = None,
        *,
        settings: Settings | None = None,
        rng: random.Random | None = None,
        models: Sequence[Sequence[ServiceModel]] | None = None,
        probe: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.graph = graph = Graph.of(pipeline)
        self.rng = rng or random.Random(0)  # noqa: S311 - a seeded simulation
        self.now = 0.0
        self.log: list[str] = []
        self.probe = probe
        specs = [pipeline.stages[name].variants for name in graph.stages]
        self.models = models or [[TableTimes(v.latency_ms) for v in variants] for variants in specs]
        self.fan_out = [
            [[v.fan_out.get(graph.stages[c], 1.0) for c in graph.children[s]] for v in variants]
            for s, variants in enumerate(specs)
        ]
        self.dispatcher = Dispatcher(
            graph,
            self.models,
            self.fan_out,
            plan or simple_plan(pipeline),
            settings or Settings(admission=False),
            self.now,
        )
        self.service_s: Callable[[Batch], float] = self._as_predicted
        """How long a batch really takes; infinity: its lane hangs."""
        self.outcome_of: Callable[[Batch], str | None] = lambda _batch: None
        """Why a batch fails, or None when it succeeds."""
        self.emits: Callable[[Item, int], Sequence[int]] = self._as_profiled
        """How many items an item emits for each child of its stage; the second argument is the variant."""
        self.rejects: Callable[[Item], str | None] = lambda _item: None
        """Why the model refuses an item, or None."""
        self.requests: list[Request] = []
        self.ended: set[int] = set()
        self.running: dict[int, Batch] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._idle_wakeups = 0
        self._cores: dict[str, float] = {}
        self._most_lanes: dict[ReplicaId, int] = {}
        self.killed: Callable[[ReplicaId], None] = lambda _replica: None
        """What to do when the dispatcher gives a replica up."""

    # --- what a test does ---------------------------------------------------------------------------------------

    def replica(
        self, name: str, stage: str, *variants: str, lanes: int = 1, threads: int = 1, node: str = "node"
    ) -> ReplicaId:
        """A replica is ready, with these variants of the stage (default: all)."""
        mine = variants or tuple(v.name for v in self.pipeline.stages[stage].variants)
        self.dispatcher.replica_ready(ReplicaId(name), stage, mine, lanes, threads, node, self.now)
        self._most_lanes[ReplicaId(name)] = lanes
        return ReplicaId(name)

    def resize(self, replica: str, lanes: int, threads: int = 1) -> None:
        """A replica is to use so many lanes; what it runs may be more until it is `closed`."""
        self._note(f"resize {replica} to {lanes}x{threads}")
        name = ReplicaId(replica)
        self._most_lanes[name] = max(lanes, self._most_lanes.get(name, 0))
        self.dispatcher.resize(name, lanes, threads, self.now)

    def drain(self, replica: str) -> None:
        """A replica is to get no new work."""
        self._note(f"drain {replica}")
        self.dispatcher.drain(ReplicaId(replica), self.now)

    def share_cores(self, node: str, cores: float) -> None:
        """The lanes of a node share so many cores from now on."""
        self._cores[node] = cores
        self.dispatcher.share_cores(node, cores)

    def arrive(self, rows: int = 1, *, within_s: float | None = None) -> Request:
        """A request is at the door, with a deadline `within_s` from now (default: the SLO)."""
        number = len(self.requests)
        deadline = self.now + (self.pipeline.slo_s if within_s is None else within_s)
        self._note(f"arrive r{number}")
        payloads = [f"r{number}" if rows == 1 else f"r{number}[{row}]" for row in range(rows)]
        request = self.dispatcher.arrive(number, payloads, deadline, self.now)
        self.requests.append(request)
        return request

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Do something at a later time."""
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, lambda: (action(), None)[1]))

    def cancel(self, request: Request) -> None:
        """The request's client is gone."""
        self._note(f"cancel r{request.id}")
        self.dispatcher.cancel(request, self.now)

    def lose(self, replica: str) -> None:
        """A replica dies with everything on it."""
        self._note(f"lose {replica}")
        self._forget(replica)
        self.dispatcher.replica_lost(ReplicaId(replica), self.now)

    def step(self) -> Commands:
        """Let the dispatcher decide on what happened until now."""
        commands = self.dispatcher.step(self.now)
        for order in commands.orders:
            self._obey(order)
        for batch in commands.runs:
            self._start(batch)
        for request in commands.ends:
            if request.id in self.ended:
                raise WorldError(f"t={self.now!r}: {request!r} ended twice")
            self.ended.add(request.id)
            self._note(_how(request, self.graph))
        self._check()
        return commands

    def run(self, until: float = math.inf) -> None:
        """Step now, then at every event and wakeup until `until`, or until nothing is left to happen."""
        self._step_until_quiet(woken=False)
        while True:
            event = self._events[0][0] if self._events else math.inf
            wake = self.dispatcher.next_wakeup()
            at = min(event, math.inf if wake is None else wake)
            if at > until or at == math.inf:
                break
            self.now = max(self.now, at)
            woken = event > self.now
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self._step_until_quiet(woken=woken)
        if until != math.inf:
            self.now = max(self.now, until)

    # --- what happens by itself ---------------------------------------------------------------------------------

    def _step_until_quiet(self, *, woken: bool) -> None:
        busy = _busy(self.step())
        if _busy(self.step()):
            raise WorldError(f"t={self.now!r}: a second step at the same instant did something")
        self._idle_wakeups = 0 if busy or not woken else self._idle_wakeups + 1
        wake = self.dispatcher.next_wakeup()
        if wake is not None and wake <= self.now:
            raise WorldError(f"woke at t={self.now!r} and asked to be woken at t={wake!r} again")
        if self._idle_wakeups > _MOST_IDLE_WAKEUPS:
            raise WorldError(f"{self._idle_wakeups} wakeups in a row did nothing, the last at t={self.now!r}")
        if self.probe:
            self._probe(self.now, math.inf if wake is None else wake)

    def _probe(self, now: float, wake: float) -> None:
        """Step once before anything else happens; that must do nothing."""
        event = self._events[0][0] if self._events else math.inf
        until = min(event, wake, now + 1.0) - _TOO_CLOSE
        if until <= now:
            return
        self.now = now + self.rng.random() * (until - now)
        if _busy(self.step()):
            raise WorldError(f"a step at t={self.now!r} did something that no wakeup was asked for after t={now!r}")

    def _start(self, batch: Batch) -> None:
        stage, lane = self.graph.stages[batch.stage], batch.lane
        replica = lane.replica
        names = " ".join(str(item.payload) for item in batch.items)
        variant = self.graph.variants[batch.stage][batch.variant]
        self._note(f"run b{batch.id} {stage}/{variant} on {replica.id}: {names}")
        others = list(self.running.values())
        self.running[batch.id] = batch
        if any(other.lane is lane for other in others):
            raise WorldError(f"t={self.now!r}: {batch!r} was put on a lane of {replica.id} that is busy")
        lanes = 1 + sum(other.lane.replica is replica for other in others)
        if lanes > self._most_lanes[replica.id]:
            raise WorldError(f"t={self.now!r}: {replica.id} runs {lanes} of {self._most_lanes[replica.id]} lanes")
        used = sum(other.group.threads for other in self.running.values() if other.lane.replica.node == replica.node)
        if used > self._cores.get(replica.node, math.inf):
            raise WorldError(f"t={self.now!r}: {used} of the {self._cores[replica.node]} cores of {replica.node} run")
        took = self.service_s(batch)
        if took < math.inf:
            self.at(self.now + took, lambda: self._finish(batch))

    def _finish(self, batch: Batch) -> None:
        late = self.running.pop(batch.id, None) is None
        message = self.outcome_of(batch)
        # A result of a replica that was given up still comes in, and must be ignored.
        self._note(f"{'fail' if message is not None else 'done'} b{batch.id}{' too late' if late else ''}")
        if message is not None:
            self.dispatcher.batch_failed(batch.id, message, self.now)
            return
        results = [self._result(item, batch.variant) for item in batch.items]
        self.dispatcher.batch_done(batch.id, results, self.now)

    def _result(self, item: Item, variant: int) -> ItemResult:
        refusal = self.rejects(item)
        if refusal is not None:
            return Rejection(refusal)
        counts = self.emits(item, variant)
        what = item.payload
        children = [[f"{what}/{i}" if count > 1 else f"{what}/" for i in range(count)] for count in counts]
        return (what if not any(counts) else None, children)

    def _obey(self, order: Order) -> None:
        match order:
            case KillReplica(replica, reason):
                self._note(f"kill {replica}: {reason}")
                self._forget(replica)
                self.killed(replica)
            case LanesClosed(replica, lanes):
                self._note(f"closed {replica} to {lanes}")
                self._most_lanes[replica] = lanes
                self._expect_at_most(replica, lanes)
            case ReplicaDrained(replica):
                self._note(f"drained {replica}")
                del self._most_lanes[replica]
                self._expect_at_most(replica, 0)

    def _expect_at_most(self, replica: ReplicaId, lanes: int) -> None:
        busy = sum(batch.lane.replica.id == replica for batch in self.running.values())
        if busy > lanes:
            raise WorldError(f"t={self.now!r}: {replica} runs {busy} batches where only {lanes} lanes are left")

    def _forget(self, replica: str) -> None:
        for number in [n for n, batch in self.running.items() if batch.lane.replica.id == replica]:
            del self.running[number]

    def _as_predicted(self, batch: Batch) -> float:
        return batch.expected

    def _as_profiled(self, item: Item, variant: int) -> Sequence[int]:
        counts = []
        for mean in self.fan_out[item.stage][variant]:
            whole = math.floor(mean)
            counts.append(whole + (mean > whole and self.rng.random() < mean - whole))
        return counts

    def _check(self) -> None:
        problems = list(self.dispatcher.accounts.unbalanced(self.dispatcher.live_items()))
        if problems:
            raise WorldError(f"t={self.now!r}: " + "; ".join(problems))

    def _note(self, what: str) -> None:
        self.log.append(f"{self.now:.6f}".rstrip("0").rstrip(".") + " " + what)


def _busy(commands: Commands) -> bool:
    return bool(commands.runs or commands.ends or commands.orders)


def _how(request: Request, graph: Graph) -> str:
    outcome = request.outcome
    assert outcome is not None
    words = [f"end r{request.id} {outcome.label}"]
    if request.reason:
        words.append(str(request.reason))
    if request.stage >= 0:
        words.append(f"at {graph.stages[request.stage]}")
    if request.lost and outcome <= Outcome.LATE:
        words.append(f"without {request.lost}")
    return " ".join(words)
