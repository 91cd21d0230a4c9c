"""What is measured of a running pipeline, besides the dispatcher's own accounts: distributions of times and sizes.

Per request one observation, per batch a few: nothing here is done per item.
"""

from __future__ import annotations

from triscale.core.graph import Graph
from triscale.core.request import Outcome
from triscale.dispatch.work import Batch, Request
from triscale.observe.histogram import LATENCY_BOUNDS_S, Histogram

__all__ = ["Recorder", "StageRecorder"]

_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class StageRecorder:
    """Distributions of one stage."""

    __slots__ = ("batch_items", "busy_core_s", "by_size", "queue_s", "service_s")

    def __init__(self, variants: int) -> None:
        self.queue_s = Histogram(LATENCY_BOUNDS_S)
        """Wait of the oldest item of each batch, from entering the queue to being handed to a lane."""
        self.service_s = [Histogram(LATENCY_BOUNDS_S) for _ in range(variants)]
        """Per variant: from handing a batch to a lane to having its results."""
        self.batch_items = Histogram(_BATCH_BOUNDS)
        self.by_size: dict[int, list[float]] = {}
        """Items in a batch -> [batches, seconds of service]."""
        self.busy_core_s = 0.0
        """Core-seconds that lanes were busy: service time times threads."""


class Recorder:
    """Distributions of a pipeline."""

    __slots__ = ("accuracy_sum", "ended_s", "last_ended", "latency_s", "replica_exits", "stages")

    def __init__(self, graph: Graph) -> None:
        self.latency_s = Histogram(LATENCY_BOUNDS_S)
        """Of answered and late requests, from the first byte at the door to the answer."""
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
        stage.queue_s.observe(batch.started - items[0].since)

    def batch_ended(self, batch: Batch, now: float) -> None:
        """Its lane is free again."""
        stage = self.stages[batch.stage]
        took = now - batch.started
        stage.service_s[batch.variant].observe(took)
        stage.busy_core_s += took * batch.lane.replica.threads
        sums = stage.by_size.setdefault(len(batch.items), [0, 0.0])
        sums[0] += 1
        sums[1] += took

    def request_ended(self, request: Request) -> None:
        """A request has its outcome."""
        outcome = request.outcome
        assert outcome is not None
        self.ended_s[outcome] += request.ended - request.arrived
        self.last_ended = request.ended
        if outcome is Outcome.ANSWERED or outcome is Outcome.LATE:
            self.latency_s.observe(request.ended - request.arrived)
            if outcome is Outcome.ANSWERED:
                self.accuracy_sum += request.accuracy
