"""What is measured of a live run from inside the server: cores held, and what the machine itself adds."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.live.setup import Overheads, Report
from benchmarks.support.process import own_cpu_seconds
from triscale.app.system import System
from triscale.control.loop import Controller
from triscale.control.process_decider import ProcessDecider
from triscale.core.graph import Graph
from triscale.core.request import Outcome
from triscale.dispatch.work import Batch
from triscale.observe.axes import CoreAxes
from triscale.observe.recorder import Recorder
from triscale.policy.latency import LatencyModel

__all__ = ["Meter", "WatchingRecorder"]

_SAMPLE_S = 0.05


class WatchingRecorder(Recorder):
    """The server's recorder, which also compares what batches took with what they should have."""

    __slots__ = ("_models", "added_s", "slept_s")

    def __init__(self, graph: Graph, models: Sequence[Sequence[LatencyModel]]) -> None:
        super().__init__(graph)
        self._models = models
        self.added_s: list[float] = []
        self.slept_s = 0.0

    def batch_ended(self, batch: Batch, now: float) -> None:
        """See `Recorder`."""
        super().batch_ended(batch, now)
        slept = self._models[batch.stage][batch.variant](len(batch.items), batch.group.threads)
        self.added_s.append(now - batch.started - slept)
        self.slept_s += slept


class Meter:
    """Watches a system from `run` on. Made, run and asked on its event loop."""

    def __init__(
        self,
        system: System,
        controller: Controller,
        recorder: WatchingRecorder,
        decider: ProcessDecider,
        dilation: float,
    ) -> None:
        self._system = system
        self._controller = controller
        self._recorder = recorder
        self._decider = decider
        self._real_ms = 1000.0 * dilation
        self._axes = CoreAxes()
        self._at: list[float] = []
        self._cores: list[float] = []
        self._lag: list[float] = []
        self._steps = self._count()
        self._began = self._spent()

    async def run(self) -> None:
        """Sample until cancelled."""
        self._steps = self._count()
        self._began = self._spent()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_SAMPLE_S)
            now = time.monotonic()
            self._lag.append(now - before - _SAMPLE_S)
            actuator = self._system.actuator
            self._at.append(now)
            self._cores.append(self._axes.observe(actuator.replicas, actuator.grants).total)

    def report(self, start: float, seconds: float, replicas_cpu_s: float, complaints: tuple[str, ...]) -> Report:
        """Of a trace that began at `start` and was so long."""
        real, loop, deciding = (now - then for now, then in zip(self._spent(), self._began, strict=True))
        accounts = self._system.runner.dispatcher.accounts
        answered = accounts.outcomes[Outcome.ANSWERED]
        decided = [decision.decide_s for decision in self._controller.decisions.since()]
        added = self._recorder.added_s
        return Report(
            requests=accounts.arrived,
            outcomes={outcome.name.lower(): accounts.outcomes[outcome] for outcome in Outcome},
            accuracy=self._recorder.accuracy_sum / answered if answered else None,
            mean_cores=self._mean_cores(start, start + seconds),
            actions={name: count - self._steps[name] for name, count in self._count().items()},
            overheads=Overheads(
                front_end=loop / real,
                deciding=deciding / real,
                replicas=replicas_cpu_s / real,
                loop_lag_ms=self._two(self._lag),
                batch_ms=self._two(added),
                batch_part=sum(added) / max(1e-9, self._recorder.slept_s),
                decide_ms=self._two(decided),
            ),
            complaints=complaints,
        )

    def _count(self) -> dict[str, int]:
        actuator = self._system.actuator
        return {
            "plan": self._controller.decisions.total,
            "launch": actuator.launches,
            "resize": actuator.resizes,
            "hold": actuator.holds,
            "drain": actuator.drains,
            "lost": actuator.deaths,
        }

    def _two(self, seconds: Sequence[float]) -> tuple[float, float]:
        """Median and 99th percentile, in real milliseconds."""
        median, high = np.percentile(seconds or [0.0], [50, 99]).tolist()
        return median * self._real_ms, high * self._real_ms

    def _mean_cores(self, start: float, end: float) -> float:
        """Each sample holds until the next one."""
        edges = [start, *(at for at in self._at if start < at < end), end]
        areas = [(b - a) * self._cores[max(0, bisect_right(self._at, a) - 1)] for a, b in pairwise(edges)]
        return sum(areas) / (end - start)

    def _spent(self) -> tuple[float, float, float]:
        """Real seconds, and processor seconds of this thread and of the process that decides."""
        deciding = own_cpu_seconds(self._decider.pid) if self._decider.ready else 0.0
        return time.perf_counter(), time.thread_time(), deciding
