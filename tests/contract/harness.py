"""What tests of engines share: a pipeline of models that misbehave, and somebody to run batches."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from triscale.core.cluster import Replica, ReplicaId, ReplicaSpec
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.ports import Engine, EngineEvent
from triscale.replica.client import ReplicaClient
from triscale.wire.payload import pack, unpack

WAIT = 20.0
ROOT = str(Path(__file__).parent)
MODELS = {
    "echo": "Echo",
    "sleeps": "Sleeps",
    "raises": "Raises",
    "wrong-count": "WrongCount",
    "never": "Never",
    "exits": "Exits",
    "alarms": "Alarms",
    "prints": "Prints",
    "spawns": "Spawns",
    "slow-load": "SlowLoad",
    "fails-to-load": "FailsToLoad",
    "exits-in-load": "ExitsInLoad",
    "slow-close": "SlowClose",
    "meters": "Meters",
    "large-a": "Large",
    "large-b": "Large",
}
PIPELINE = Pipeline(
    name="misbehaving",
    slo_ms=1000.0,
    stages={
        "work": Stage(
            variants=(
                *(
                    Variant(name=name, model=f"replica_models:{model}", options={"path": "/nowhere"})
                    for name, model in MODELS.items()
                ),
                Variant(name="missing", model="no_such_models:Model"),
                Variant(name="emulated", runtime="emulated", latency_ms={1: 1.0}),
            )
        )
    },
)

_numbers = itertools.count(1)


class ConnectedEngine(Engine, Protocol):
    """An engine that hands out its connections."""

    def client(self, replica: ReplicaId) -> ReplicaClient: ...


def spec(*variants: str, lanes: int = 1, threads: int = 1) -> ReplicaSpec:
    """A replica of the pipeline's only stage."""
    return ReplicaSpec(
        id=ReplicaId(f"work-{next(_numbers)}"), stage="work", variants=variants, lanes=lanes, threads=threads
    )


class Runner:
    """Runs batches on one replica and waits for their end."""

    def __init__(self, engine: ConnectedEngine, replica: Replica) -> None:
        self.client = engine.client(replica.spec.id)
        self.client.observer = self
        self.variant = replica.spec.variants[0]
        self.losses: list[str] = []
        self._ends: dict[int, asyncio.Future[Any]] = {}

    def start(self, variant: str = "", **values: Any) -> asyncio.Future[Any]:
        """Send a batch of one item: resolves to its output's values, to (kind, message), or to the loss's reason."""
        number = next(_numbers)
        end = self._ends[number] = asyncio.get_running_loop().create_future()
        self.client.run(number, variant or self.variant, [[pack(values)]])
        return end

    async def run(self, variant: str = "", **values: Any) -> Any:
        """Send a batch of one item and wait for its end."""
        return await asyncio.wait_for(self.start(variant, **values), WAIT)

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[Any]) -> None:
        [(output, _)] = results
        self._ends.pop(batch_id).set_result(unpack(output) if output is not None else None)

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:
        self._ends.pop(batch_id).set_result((kind, message))

    def lost(self, client: ReplicaClient, reason: str) -> None:
        self.losses.append(reason)
        for end in self._ends.values():
            end.set_result(reason)
        self._ends.clear()


async def next_of(kind: type[Any], events: AsyncIterator[EngineEvent]) -> Any:
    """The next event of a kind."""
    async with asyncio.timeout(WAIT):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the events ended before a {kind.__name__}")
