"""What is measured of a running pipeline, besides the dispatcher's own accounts: distributions of times and sizes.

Per request one observation, per batch a few, per tick of the control loop one: nothing here is done per item.
"""

from __future__ import annotations

from collections.abc import Iterable

from triscale.core.graph import Graph
from triscale.core.request import Outcome
from triscale.dispatch.work import Batch, Request
from triscale.observe.histogram import LATENCY_BOUNDS_S, Histogram
from triscale.observe.quantiles import Durations

__all__ = ["ControlRecorder", "Recorder", "StageRecorder"]

_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_COLD_START_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_CONTROL_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class StageRecorder:
    """Distributions of one stage."""

    __slots__ = ("batch_items", "busy_core_s", "by_size", "queue_s", "recent_queue", "recent_service", "service_s")

    def __init__(self, variants: int) -> None:
        self.queue_s = Histogram(LATENCY_BOUNDS_S)
        """Wait of the oldest item of each batch, from entering the queue to being handed to a lane."""
        self.service_s = [Histogram(LATENCY_BOUNDS_S) for _ in range(variants)]
        """Per variant: from handing a batch to a lane to having its results."""
        self.batch_items = Histogram(_BATCH_BOUNDS)
        self.by_size: dict[int, list[float]] = {}
        """Items in a batch -> [batches, seconds of service]."""
        self.busy_core_s = 0.0
        """Core-seconds of the batches that ended: service time times the threads that they were started with."""
        self.recent_queue = Durations()
        """What `queue_s` counts, and..."""
        self.recent_service = Durations()
        """...what `service_s` counts over all variants, since the history last took it."""


class Recorder:
    """Distributions of a pipeline."""

    __slots__ = ("accuracy_sum", "ended_s", "last_ended", "latency_s", "recent_latency", "replica_exits", "stages")

    def __init__(self, graph: Graph) -> None:
        self.latency_s = Histogram(LATENCY_BOUNDS_S)
        """Of answered and late requests, from the first byte at the door to the answer."""
        self.recent_latency = Durations()
        """The same, since the history last took it."""
        self.accuracy_sum = 0.0
        """Sum of the expected accuracies of the requests answered in time."""
        self.stages = [StageRecorder(len(variants)) for variants in graph.variants]
        self.replica_exits = 0
        """Replicas that died without being asked to."""
        self.ended_s = [0.0] * len(Outcome)
        """Per outcome: seconds that its requests spent in the system."""
        self.last_ended: float | None = None
        """Monotonic seconds of the latest end of a request."""

    def batch_started(self, batch: Batch) -> None:
        """A batch was handed to a lane."""
        stage = self.stages[batch.stage]
        items = batch.items
        stage.batch_items.observe(len(items))
        waited = batch.started - items[0].since
        stage.queue_s.observe(waited)
        stage.recent_queue.observe(waited)

    def batch_ended(self, batch: Batch, now: float) -> None:
        """Its lane is free again."""
        stage = self.stages[batch.stage]
        took = now - batch.started
        stage.service_s[batch.variant].observe(took)
        stage.recent_service.observe(took)
        stage.busy_core_s += took * batch.group.threads
        sums = stage.by_size.setdefault(len(batch.items), [0, 0.0])
        sums[0] += 1
        sums[1] += took

    def request_ended(self, request: Request) -> None:
        """A request has its outcome."""
        outcome = request.outcome
        assert outcome is not None
        took = request.ended - request.arrived
        self.ended_s[outcome] += took
        self.last_ended = request.ended
        if outcome is Outcome.ANSWERED or outcome is Outcome.LATE:
            self.latency_s.observe(took)
            self.recent_latency.observe(took)
            if outcome is Outcome.ANSWERED:
                self.accuracy_sum += request.accuracy


class ControlRecorder:
    """How long the control plane's own steps take."""

    __slots__ = ("cold_start_s", "decide_s", "resize_s")

    def __init__(self, stages: Iterable[str] = ()) -> None:
        self.cold_start_s = {stage: Histogram(_COLD_START_BOUNDS_S) for stage in stages}
        """Per stage: from a launch to the first batch that the replica could take."""
        self.resize_s = {stage: Histogram(_CONTROL_BOUNDS_S) for stage in stages}
        """Per stage: from asking for other lanes or threads to having them."""
        self.decide_s = Histogram(_CONTROL_BOUNDS_S)
        """Of each tick: from looking to having a plan, the way to the process that decides and back included."""

    def launched(self, stage: str, seconds: float) -> None:
        """A replica became ready."""
        self.cold_start_s.setdefault(stage, Histogram(_COLD_START_BOUNDS_S)).observe(seconds)

    def resized(self, stage: str, seconds: float) -> None:
        """A replica was resized."""
        self.resize_s.setdefault(stage, Histogram(_CONTROL_BOUNDS_S)).observe(seconds)
