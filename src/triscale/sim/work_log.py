"""Which batches run, and for how many core-seconds lanes were busy."""

from __future__ import annotations

from collections import defaultdict

from triscale.core.cluster import ReplicaId
from triscale.dispatch.work import Batch

__all__ = ["WorkLog"]


class WorkLog:
    """Batches in flight. Each costs two additions, whatever the number of windows that it spans.

    `beside` counts the busy lanes that slow each other down: of a replica, or where lanes share cores, of a node.
    """

    __slots__ = ("_offset", "_threads", "beside", "running", "shared")

    def __init__(self, stages: int, *, shared: bool) -> None:
        self.running: dict[int, Batch] = {}
        """By number."""
        self.shared = shared
        """Whether lanes share the cores of their node."""
        self.beside: defaultdict[str, int] = defaultdict(int)
        # The integral of busy cores up to t is offset + threads * t: a batch changes both when it starts and ends.
        self._offset = [0.0] * stages
        self._threads = [0] * stages

    def start(self, batch: Batch, now: float) -> int:
        """A batch begins; returns how many busy lanes slow each other down there, its own included."""
        self.running[batch.id] = batch
        threads = batch.group.threads
        s = batch.stage
        self._offset[s] -= threads * now
        self._threads[s] += threads
        replica = batch.lane.replica
        where = replica.node if self.shared else replica.id
        self.beside[where] += 1
        return self.beside[where]

    def finish(self, batch: Batch, now: float) -> bool:
        """It ends; False when it was interrupted before."""
        if self.running.pop(batch.id, None) is None:
            return False
        threads = batch.group.threads
        s = batch.stage
        self._offset[s] += threads * now
        self._threads[s] -= threads
        replica = batch.lane.replica
        self.beside[replica.node if self.shared else replica.id] -= 1
        return True

    def interrupted(self, replica: ReplicaId, now: float) -> None:
        """A replica dies with what it runs."""
        for batch in [batch for batch in self.running.values() if batch.lane.replica.id == replica]:
            self.finish(batch, now)
        self.beside.pop(replica, None)

    def busy_core_s(self, now: float) -> list[float]:
        """Per stage: core-seconds until now."""
        return [offset + threads * now for offset, threads in zip(self._offset, self._threads, strict=True)]
