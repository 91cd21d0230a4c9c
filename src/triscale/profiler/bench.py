"""A replica on the bench: one process with variants of one stage, and batches run on it alone or side by side.

Whatever goes wrong with a model on its pipeline's own samples is a `ModelError` that names the variant.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Iterable, Sequence

from msgspec.structs import replace

from triscale.clock import Clock
from triscale.core.cluster import ReplicaId, ReplicaSpec, Resizing
from triscale.core.profile import LatencyPoint
from triscale.dispatch.results import ItemResult
from triscale.engines.local import LocalEngine
from triscale.errors import ModelError
from triscale.profiler.grid import Cell
from triscale.profiler.machine import process_memory
from triscale.profiler.precision import Precision, Repetitions
from triscale.profiler.work import Work
from triscale.replica.client import ReplicaClient

__all__ = ["Bench"]

_DRAIN_S = 5.0


class Bench:
    """One replica. Start it with `start`, and `stop` it."""

    def __init__(self, engine: LocalEngine, spec: ReplicaSpec, clock: Clock) -> None:
        self.spec = spec
        self.start_s = 0.0
        """From launching the process to the first batch that it could take."""
        self._engine = engine
        self._clock = clock
        self._client: ReplicaClient
        self._pid = 0
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[list[ItemResult]]]] = {}
        self._rng = random.Random(0)  # noqa: S311 - which items share a batch; nothing secret

    @classmethod
    async def start(
        cls, engine: LocalEngine, stage: str, variants: Sequence[str], lanes: int, threads: int, clock: Clock
    ) -> Bench:
        """Launch a replica of just these variants. EngineError when it does not start."""
        name = ReplicaId(f"profile-{stage}-{variants[0]}")
        spec = ReplicaSpec(id=name, stage=stage, variants=tuple(variants), lanes=lanes, threads=threads)
        self = cls(engine, spec, clock)
        replica = await engine.launch(spec)
        self.start_s, self._pid = replica.ready_after_s, replica.pid
        self._client = engine.client(name)
        self._client.observer = self
        return self

    @property
    def load_s(self) -> float:
        """What loading and warming up its variants took, as the replica measured it."""
        return sum(self._client.ready.variants.values())

    @property
    def takes_threads(self) -> bool:
        """Whether every variant's model can change its threads while it runs."""
        return not self._client.ready.fixed_threads

    async def resize(self, lanes: int, threads: int) -> bool:
        """Change lanes and threads in place, as a plan would; False when a model cannot."""
        resized = await self._engine.resize(self.spec.id, lanes, threads)
        if resized.status is not Resizing.APPLIED:
            return False
        self.spec = replace(self.spec, lanes=lanes, threads=threads)
        return True

    def memory_bytes(self) -> int:
        """What the process holds now (`process_memory`)."""
        return process_memory(self._pid) or self._client.rss

    async def stop(self) -> None:
        """Have the process end."""
        await self._engine.drain(self.spec.id, _DRAIN_S)

    async def run_all(self, variant: str, items: Sequence[Work], batch: int) -> list[ItemResult]:
        """Every item once, on all lanes: their results, in order."""
        batches = iter([items[at : at + batch] for at in range(0, len(items), batch)])
        results: list[list[ItemResult]] = []

        async def lane() -> None:
            for own in batches:
                position = len(results)
                results.append([])
                results[position] = await self._run(variant, own)

        await _together(lane() for _ in range(self.spec.lanes))
        return [result for each in results for result in each]

    async def repeat(
        self, variant: str, items: Sequence[Work], cell: Cell, precision: Precision, budget_s: float
    ) -> LatencyPoint:
        """Run one cell again and again until it is known or its time is over, each of its lanes always busy.

        The first batch of each lane is not counted: memory for its shape may have to be found.
        """
        found = Repetitions(precision)
        started = self._clock.now()

        def over() -> bool:
            # A slow cell has fewer repetitions than wished, rather than overrun its time many times.
            spent = self._clock.now() - started
            enough = precision.fewest if spent < 2.0 * budget_s else 1
            return found.known(spent) or (spent >= budget_s and len(found) >= enough)

        async def lane() -> None:
            await self._timed(variant, items, cell.batch)
            while not over():
                seconds = await self._timed(variant, items, cell.batch)
                # When the other lanes have stopped, the last batch had no company.
                if not over():
                    found.add(seconds)

        await _together(lane() for _ in range(cell.lanes))
        return found.point(cell)

    async def _timed(self, variant: str, items: Sequence[Work], batch: int) -> float:
        chosen = self._rng.choices(items, k=batch)
        started = self._clock.now()
        await self._run(variant, chosen)
        return self._clock.now() - started

    async def _run(self, variant: str, items: Sequence[Work]) -> list[ItemResult]:
        number = next(self._ids)
        future: asyncio.Future[list[ItemResult]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = f"{self.spec.stage}/{variant}", future
        self._client.run(number, variant, [item.parts for item in items])
        return await future

    # What the connection tells.

    def batch_done(self, _client: ReplicaClient, batch_id: int, _service_s: float, results: list[ItemResult]) -> None:
        """A batch has run."""
        _, future = self._waiting.pop(batch_id)
        if not future.done():
            future.set_result(results)

    def batch_failed(self, _client: ReplicaClient, batch_id: int, _kind: str, message: str) -> None:
        """A model raised, or broke its contract."""
        self._fail(batch_id, f"failed on the pipeline's own samples: {message}")

    def lost(self, _client: ReplicaClient, reason: str) -> None:
        """The process is gone, and every batch with it."""
        for batch_id in list(self._waiting):
            self._fail(batch_id, f"died on the pipeline's own samples: {reason}")

    def _fail(self, batch_id: int, what: str) -> None:
        title, future = self._waiting.pop(batch_id)
        if not future.done():
            future.set_exception(ModelError(f"{title} {what}"))


async def _together(lanes: Iterable[Coroutine[None, None, None]]) -> None:
    """All lanes side by side. The first error ends them all."""
    tasks = [asyncio.ensure_future(lane) for lane in lanes]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
