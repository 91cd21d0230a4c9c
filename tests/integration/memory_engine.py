"""An engine in memory whose replicas run batches, and which objects to everything that a real machine would suffer for.

More batches at once than a replica has lanes, cores taken away while batches run on them, a node that grants more cores
than it has, batches of a variant that is not resident, more variants than memory holds: each is noted in `objections`,
at the moment it happens.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from msgspec import structs

from triscale.core.cluster import Capabilities, Node, Replica, ReplicaId, ReplicaSpec, Resized, Resizing
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.errors import EngineError
from triscale.replica.client import DoesNotFit, ReplicaClient
from triscale.replica.runtimes.emulated import interpolate
from triscale.serve.runner import Runner
from triscale.testing.fake_engine import FakeEngine
from triscale.wire.payload import Payload, pack

__all__ = ["MemoryEngine"]

_OUTPUT = pack({"y": 1.0})


class MemoryEngine(FakeEngine):
    """Launches, resizes and batches take time on the running event loop."""

    def __init__(
        self,
        pipeline: Pipeline,
        nodes: Sequence[Node],
        *,
        launch_s: float = 0.03,
        resize_s: float = 0.002,
        most_variants: int = 0,
        hold: bool = True,
    ) -> None:
        """`most_variants`: what a replica's memory holds; 0 = all. `hold`: whether variants of live ones can change."""
        super().__init__(nodes=nodes)
        self.objections: list[str] = []
        self.shares = False
        """Lanes share their node's cores: then they are not cores, and the dispatcher keeps to the grant."""
        self.room: dict[str, int] = {}
        """Node -> cores that it really gives; more is refused as infeasible. Where it is not stated: all of them."""
        self._launch_s = launch_s
        self._resize_s = resize_s
        self._most_variants = most_variants
        self._hold = hold
        self._rng = random.Random(1)
        self._clients: dict[ReplicaId, Client] = {}
        self._graph = Graph.of(pipeline)

    @property
    def capabilities(self) -> Capabilities:
        """Everything, but for what it was told not to do."""
        return structs.replace(super().capabilities, hold=self._hold)

    def client(self, replica: ReplicaId) -> ReplicaClient:
        """The connection to a live replica."""
        if replica not in self._clients or replica not in self._replicas:
            raise EngineError(f"no replica {replica!r} runs here")
        return cast("ReplicaClient", self._clients[replica])

    def alive(self, replica: ReplicaId) -> bool:
        """Whether it runs."""
        return replica in self._replicas

    def held(self, node: str) -> int:
        """Cores of the replicas on a node."""
        return sum(replica.spec.cores for replica in self._replicas.values() if replica.node == node)

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """Ready after a while."""
        await asyncio.sleep(self._launch_s * self._rng.uniform(0.5, 1.5))
        self._clients[spec.id] = Client(self, self._graph, spec)
        replica = await super().launch(spec)
        self._check(replica.node)
        return replica

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """Applied after a while, if its node has room."""
        await asyncio.sleep(self._resize_s * self._rng.uniform(0.5, 1.5))
        known = self._known(replica)
        more = lanes * threads - known.spec.cores
        limit = self.room.get(known.node)
        if limit is not None and more > 0 and self.held(known.node) + more > limit:
            self.next_resized = Resized(
                status=Resizing.INFEASIBLE,
                lanes=known.spec.lanes,
                threads=known.spec.threads,
                reason=f"node {known.node} has no room",
            )
        resized = await super().resize(replica, lanes, threads)
        client = self._clients[replica]
        client.lanes, client.threads = resized.lanes, resized.threads
        if client.running > resized.lanes:
            self.objections.append(f"{replica} runs {client.running} batches and was cut to {resized.lanes} lanes")
        self._check(known.node)
        return resized

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        """Each load takes about as long as a launch; what is not wanted goes last, or first where memory is short."""
        self.calls.append(("hold", replica, *variants))
        wanted = tuple(variants)
        new = [variant for variant in wanted if variant not in self._known(replica).spec.variants]
        swap = bool(self._most_variants) and len({*wanted, *self._known(replica).spec.variants}) > self._most_variants
        if len(wanted) > self._most_variants > 0:
            raise DoesNotFit(f"{replica} has no room for {', '.join(wanted)}")
        if swap:
            await self._unload(replica, wanted)
        for variant in new:
            await asyncio.sleep(self._launch_s * self._rng.uniform(0.5, 1.5))
            self._now_holds(replica, (*self._known(replica).spec.variants, variant))
        await self._unload(replica, wanted)
        return self._known(replica).spec.variants

    async def _unload(self, replica: ReplicaId, wanted: Sequence[str]) -> None:
        """Let go of all others, when their batches are done."""
        for other in [variant for variant in self._known(replica).spec.variants if variant not in wanted]:
            client = self._clients[replica]
            self._now_holds(replica, tuple(v for v in self._known(replica).spec.variants if v != other))
            while client.busy[other]:
                await asyncio.sleep(0.001)
                self._known(replica)

    def _now_holds(self, replica: ReplicaId, variants: tuple[str, ...]) -> None:
        known = self._known(replica)
        self._replicas[replica] = structs.replace(known, spec=structs.replace(known.spec, variants=variants))
        self._clients[replica].holds = variants
        if len(variants) > self._most_variants > 0:
            self.objections.append(f"{replica} holds {', '.join(variants)}, more than its memory does")

    async def drain(self, replica: ReplicaId, grace: float) -> None:
        """It must be idle by now."""
        client = self._clients.get(replica)
        if client is not None and client.running:
            self.objections.append(f"{replica} was ended while it ran {client.running} batches")
        await asyncio.sleep(self._resize_s)
        await super().drain(replica, grace)

    def _check(self, node: str) -> None:
        cores = self._nodes[node].cores  # type: ignore[index]
        if self.held(node) > cores and not self.shares:
            self.objections.append(f"node {node} has {cores:g} cores and grants {self.held(node)}")


class Client:
    """A replica, as the runner talks to it. Emulates: each batch takes what its variant's table says."""

    def __init__(self, engine: MemoryEngine, graph: Graph, spec: ReplicaSpec) -> None:
        self.observer: Runner
        self.lanes, self.threads = spec.lanes, spec.threads
        self.running = 0
        self.holds = spec.variants
        self.busy: Counter[str] = Counter()
        """Variant -> its batches that run."""
        self._engine = engine
        self._spec = spec
        self._children = len(graph.children[graph.stage(spec.stage)])
        self._variants = {v.name: v for v in graph.pipeline.stages[spec.stage].variants}

    def run(self, number: int, variant: str, items: Sequence[Sequence[Payload]]) -> None:
        """Take a batch."""
        self.running += 1
        name = self._spec.id
        if self.running > self.lanes:
            self._engine.objections.append(f"{name} was given batch {self.running} on {self.lanes} lanes")
        if variant not in self.holds:
            self._engine.objections.append(f"{name} was given a batch of {variant}, which it does not hold")
        self.busy[variant] += 1
        ms = interpolate(self._variants[variant].latency_ms, len(items))
        asyncio.get_running_loop().call_later(ms / 1000.0, self._done, number, variant, len(items))

    def _done(self, number: int, variant: str, items: int) -> None:
        self.running -= 1
        self.busy[variant] -= 1
        if self._engine.alive(self._spec.id):
            emitted = [[_OUTPUT] for _ in range(self._children)]
            result: Any = (None if self._children else _OUTPUT, emitted)
            self.observer.batch_done(cast("ReplicaClient", self), number, 0.0, [result] * items)
