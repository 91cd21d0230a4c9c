"""A stand for the simulated engine: a dispatcher and an agenda, moved on by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

import pytest

from triscale.core.cluster import Node, NodeId, ReplicaId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.settings import Settings
from triscale.dispatch.assemble import make_dispatcher
from triscale.dispatch.work import Batch
from triscale.sim.agenda import Agenda
from triscale.sim.cores import CoreLedger
from triscale.sim.engine import Engine
from triscale.sim.settings import Failure, SimSettings


class Stand:
    """An engine at work on a plan. Batches take `service_s`."""

    def __init__(self, pipeline: Pipeline, plan: Plan, nodes: Sequence[Node], settings: SimSettings) -> None:
        graph = Graph.of(pipeline)
        profile = inline_profile(pipeline)
        assert profile is not None
        self.now = 0.0
        self.service_s = 1.0
        self.running: dict[int, Batch] = {}
        self.interrupted: list[ReplicaId] = []
        self.agenda = Agenda()
        self.ledger = CoreLedger(len(graph.stages) + 1, 0.0, 1e6)
        self.dispatcher = make_dispatcher(graph, profile, plan, 0.0, Settings(drop="none", admission=False))
        self.engine = Engine(
            graph, profile, nodes, settings, self.dispatcher, self.ledger, self.agenda, self._interrupted
        )
        self.engine.open(plan, 0.0)
        self.numbers = 0
        self._turn()

    def _interrupted(self, replica: ReplicaId, now: float) -> None:
        self.interrupted.append(replica)
        self.running = {n: batch for n, batch in self.running.items() if batch.lane.replica.id != replica}

    def follow(self, plan: Plan) -> None:
        self.dispatcher.follow(plan, self.now)
        self.engine.follow(plan, self.now)
        self._turn()

    def fail(self, failure: Failure) -> None:
        self.engine.fail(failure, self.now)
        self._turn()

    def arrive(self, count: int = 1) -> None:
        for _ in range(count):
            self.numbers += 1
            self.dispatcher.arrive(self.numbers, [None], self.now + 1e9, self.now)
        self._turn()

    def run(self, until: float) -> None:
        events = self.agenda.events
        while events and events[0][0] <= until + 1e-9:
            self.now, _, batch, action = heappop(events)
            if action is not None:
                action(self.now)
            elif batch is not None and batch.id in self.running:
                del self.running[batch.id]
                self.dispatcher.batch_done(batch.id, [(None, ())] * len(batch.items), self.now)
            self._turn()
        self.now = until

    def _turn(self) -> None:
        while True:
            self.engine.settle(self.now)
            commands = self.dispatcher.step(self.now)
            for order in commands.orders:
                self.engine.obey(order, self.now)
            for batch in commands.runs:
                self.running[batch.id] = batch
                self.agenda.serial += 1
                heappush(self.agenda.events, (self.now + self.service_s, self.agenda.serial, batch, None))
            if not commands.orders:
                break
        self.engine.grants.settle(self.now)
        self.engine.settle(self.now)

    @property
    def lanes(self) -> list[int]:
        """Lanes that may take work, per stage."""
        return [stage.lanes for stage in self.dispatcher.stages]

    @property
    def held(self) -> float:
        """Cores that are paid for."""
        return self.ledger.held

    @property
    def phases(self) -> dict[str, str]:
        return {view.spec.id: view.phase.value for view in self.engine.views()}


StandMaker = Callable[..., Stand]


@pytest.fixture
def stand() -> StandMaker:
    """`stand(pipeline, plan, n1=8.0, cold_start_s=6.0, ...)`: node sizes, their memory and settings by name."""

    def make(pipeline: Pipeline, plan: Plan, **words: float) -> Stand:
        memory = int(words.pop("memory_mb", 0) * 2**20)
        sizes = {name: words.pop(name) for name in ("n1", "n2") if name in words} or {"n1": 8.0}
        nodes = [Node(id=NodeId(name), cores=cores, memory_bytes=memory) for name, cores in sizes.items()]
        fields: Any = {"cold_start_s": 6.0, "resize_s": 0.5, **words}
        return Stand(pipeline, plan, nodes, SimSettings(**fields))

    return make
