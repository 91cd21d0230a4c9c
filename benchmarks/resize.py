"""How long it takes from the decision to resize a replica until the resize has taken effect.

    python -m benchmarks.resize [--resizes N] [--affinity-only]

A replica under load (batches wait for a lane all the time) goes back and forth between two sizes. The clock starts at
the call of `LocalEngine.resize`. A grow has taken effect when the first batch begins on the new lane, a shrink when
the last batch of the closed lane is done and its core is given back; other threads, when the first batch begins on
them. Moments between two resizes are random, so a shrink meets batches at any point of their run: about half a
batch's time of its latency is the batch itself. The ONNX model is the OCR example's text detector at 320 x 320.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.ocr import weights
from triscale.clock import monotonic
from triscale.core.cluster import Replica, ReplicaId, ReplicaSpec, Resizing
from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.engines.local import LocalEngine
from triscale.replica.client import ReplicaClient
from triscale.wire.payload import Payload, pack, unpack

MOST_MS = 50.0
"""A resize takes effect within so much at the median."""
_IN_FLIGHT = 6
_LONGEST_PAUSE_S = 0.04
_EMULATED_MS = (5.0, 20.0)


@dataclass(frozen=True)
class Stamp:
    """When a batch began, on the clock that all processes share, as one of how many, on how many threads."""

    began: float
    lanes: int
    threads: int


class Load:
    """Keeps batches in flight on one replica, and tells of each batch's stamp."""

    def __init__(self, client: ReplicaClient, variant: str, item: Payload) -> None:
        self.client = client
        self.took_s: list[float] = []
        """Service time of every batch."""
        self._variant = variant
        self._item = item
        self._numbers = itertools.count()
        self._waiting: list[tuple[Stamp, asyncio.Future[float]]] = []
        self._stopped = False
        client.observer = self
        for _ in range(_IN_FLIGHT):
            self._send()

    def first_with(self, since: float, lanes: int, threads: int) -> asyncio.Future[float]:
        """When the first batch began, after `since`, beside as many others and on as many threads as that."""
        found: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((Stamp(since, lanes, threads), found))
        return found

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[Any]) -> None:  # noqa: ARG002
        """Put another in its place, and see whether somebody waits for one like it."""
        self._send()
        self.took_s.append(service_s)
        [(output, _)] = results
        stamp = Stamp(**unpack(output))  # type: ignore[arg-type]
        for wanted, found in self._waiting:
            if stamp.began > wanted.began and stamp.lanes >= wanted.lanes and stamp.threads == wanted.threads:
                found.set_result(stamp.began)
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:  # noqa: ARG002
        """End the benchmark."""
        raise RuntimeError(message)

    def lost(self, client: ReplicaClient, reason: str) -> None:  # noqa: ARG002
        """End the benchmark, unless that was the idea."""
        if not self._stopped:
            raise RuntimeError(f"the replica is gone: {reason}")

    def _send(self) -> None:
        if not self._stopped:
            self.client.run(next(self._numbers), self._variant, [[self._item]])


@dataclass(frozen=True)
class Line:
    """One row of the table: latencies in milliseconds, sorted."""

    name: str
    batch_ms: float
    ms: list[float]
    bounded: bool
    """Whether the goal is for it."""

    @property
    def missed(self) -> bool:
        """Whether it does not reach the goal."""
        return self.bounded and statistics.median(self.ms) > MOST_MS

    def __str__(self) -> str:
        median, p95 = statistics.median(self.ms), self.ms[int(0.95 * len(self.ms))]
        end = "  MISSED" if self.missed else ""
        return f"  {self.name:36}{self.batch_ms:10.1f}{median:10.2f}{p95:10.2f}{self.ms[-1]:10.2f}{end}"


Size = tuple[int, int]
"""(lanes, threads per lane)"""


async def resized(engine: LocalEngine, replica: Replica, load: Load, size: Size, *, grows: bool) -> float:
    """Resize it: the milliseconds until that has taken effect."""
    began = monotonic()
    first = load.first_with(began, *size) if grows else None
    result = await engine.resize(replica.spec.id, *size)
    ended = monotonic() if first is None else await first
    if result.status is not Resizing.APPLIED:
        raise RuntimeError(f"the resize was not applied: {result}")
    return 1e3 * (ended - began)


async def back_and_forth(
    engine: LocalEngine, name: str, variant: str, item: Payload, sizes: tuple[Size, Size], resizes: int
) -> list[Line]:
    """Resize a replica of its own between two sizes, `resizes` times in all."""
    small, large = sizes
    spec = ReplicaSpec(
        id=ReplicaId(f"{variant}-{small[1]}"), stage="work", variants=(variant,), lanes=small[0], threads=small[1]
    )
    replica = await engine.launch(spec)
    load = Load(engine.client(spec.id), variant, item)
    rng = random.Random(1)
    found: dict[Size, list[float]] = {small: [], large: []}
    threads = small[1] != large[1]
    for number in range(resizes + 2):
        await asyncio.sleep(rng.uniform(0.0, _LONGEST_PAUSE_S))
        size = small if number % 2 else large
        ms = await resized(engine, replica, load, size, grows=threads or size == large)
        if number > 1:  # the first of each kind warms up
            found[size].append(ms)
    load.stop()
    await engine.kill(spec.id, "done")
    batch_ms = 1e3 * statistics.median(load.took_s)
    return [
        Line(f"{name}, {_words(small)} -> {_words(large)}", batch_ms, sorted(found[large]), not threads),
        Line(f"{name}, {_words(large)} -> {_words(small)}", batch_ms, sorted(found[small]), not threads),
    ]


def _words(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


async def measure(resizes: int, lanes: int, *, limit: bool) -> list[Line]:
    """Every row of the table; replicas get a hard limit if there can be one, and if that is wanted."""
    path = weights.verified("ppocrv6/tiny/det/det.onnx")
    emulated = {f"emulated-{ms:g}": ms for ms in _EMULATED_MS}
    support = "benchmarks.support.stamped"
    pipeline = Pipeline(
        name="resize",
        slo_ms=1000.0,
        stages={
            "work": Stage(
                variants=(
                    *(
                        Variant(name=n, model=f"{support}:StampedEmulated", options={"ms": m})
                        for n, m in emulated.items()
                    ),
                    Variant(name="onnx", model=f"{support}:StampedOnnx", options={"path": str(path)}),
                )
            )
        },
    )
    engine = LocalEngine(pipeline, (str(Path(__file__).parents[1]),), limit=limit)
    limited = "affinity and control groups" if engine.capabilities.hard_limit else "affinity"
    print(f"  {os.cpu_count()} cores, kept by {limited}; sizes are lanes x threads; milliseconds")
    print(f"  {'':36}{'batch':>10}{'median':>10}{'p95':>10}{'worst':>10}")
    image = pack({"x": np.zeros((3, 320, 320), np.float32)})
    kinds = [(f"emulated {ms:g} ms", name, pack({})) for name, ms in emulated.items()] + [("ONNX", "onnx", image)]
    found = []
    try:
        for kind in kinds:
            found += await back_and_forth(engine, *kind, ((1, 1), (lanes, 1)), resizes)
        found += await back_and_forth(engine, *kinds[-1], ((1, lanes), (lanes, 1)), resizes)
    finally:
        await engine.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the number of medians that are too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resizes", type=int, default=200, help="of each replica")
    parser.add_argument("--affinity-only", action="store_true", help="without a hard limit, even where one can be set")
    options = parser.parse_args(argv)
    lanes = min(2, len(os.sched_getaffinity(0)))
    if lanes < 2:
        print("  needs two processors")
        return 0
    lines = asyncio.run(measure(options.resizes, lanes, limit=not options.affinity_only))
    for line in lines:
        print(line)
    missed = sum(line.missed for line in lines)
    goals = sum(line.bounded for line in lines)
    print(f"  medians of other lanes within {MOST_MS:g} ms: {goals - missed} of {goals}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
