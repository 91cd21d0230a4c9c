"""What is noted at the end of each window; becomes `Result.series`."""

from __future__ import annotations

from typing import TypeVar

from triscale.core.request import Outcome
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.simulation_document import Series, StageSeries
from triscale.sim.cores import CoreLedger, Kind
from triscale.sim.tally import Tally
from triscale.sim.work_log import WorkLog

__all__ = ["History"]

_Number = TypeVar("_Number", int, float)


class History:
    """Columns of numbers per window: cores, work and planned capacity."""

    def __init__(self, dispatcher: Dispatcher, ledger: CoreLedger, work: WorkLog) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._work = work
        stages = range(len(dispatcher.graph.stages))
        self._busy: list[list[float]] = [[] for _ in stages]
        self._items: list[list[list[int]]] = [[[] for _ in names] for names in dispatcher.graph.variants]
        self._capacity: list[float] = []
        self._busy_before = [0.0 for _ in stages]
        self._items_before = [[0] * len(names) for names in dispatcher.graph.variants]

    def begin(self, now: float) -> None:
        """The warm-up is over."""
        self._busy_before = self._work.busy_core_s(now)
        self._items_before = [list(stage.items_run) for stage in self._dispatcher.accounts.stages]

    def close_window(self, now: float, capacity: float) -> None:
        """A window ends, with a plan of this capacity."""
        self._ledger.close_window(now)
        self._capacity.append(capacity)
        busy = self._work.busy_core_s(now)
        for s, stage in enumerate(self._dispatcher.accounts.stages):
            # Rounding may leave a hair below zero.
            self._busy[s].append(max(0.0, busy[s] - self._busy_before[s]))
            for column, items, before in zip(self._items[s], stage.items_run, self._items_before[s], strict=True):
                column.append(items - before)
        self.begin(now)

    def series(self, tally: Tally, start: float, window_s: float) -> Series:
        """With how the requests ended."""
        graph = self._dispatcher.graph
        owners = range(len(graph.stages) + 1)
        means = self._ledger.means

        def held(owner: int, kind: Kind) -> list[float]:
            return means[owner * len(Kind) + kind]

        totals = {kind: _sum([held(owner, kind) for owner in owners]) for kind in Kind}
        return Series(
            window_s=window_s,
            start_s=start,
            arrivals=_sum(tally.windows),
            answered=tally.windows[Outcome.ANSWERED],
            late=tally.windows[Outcome.LATE],
            dropped=tally.windows[Outcome.DROPPED],
            shed=tally.windows[Outcome.SHED],
            failed=tally.windows[Outcome.FAILED],
            accuracy_sum=tally.accuracy_sum,
            p99_ms=tally.p99_ms,
            cores=_sum(list(totals.values())),
            cores_start=totals[Kind.START],
            cores_up=totals[Kind.UP],
            cores_out=totals[Kind.OUT],
            busy_core_s=_sum(self._busy),
            capacity=self._capacity,
            stages={
                name: StageSeries(
                    cores_start=held(s, Kind.START),
                    cores_up=held(s, Kind.UP),
                    cores_out=held(s, Kind.OUT),
                    busy_core_s=self._busy[s],
                    items=dict(zip(graph.variants[s], self._items[s], strict=True)),
                )
                for s, name in enumerate(graph.stages)
            },
        )


def _sum(columns: list[list[_Number]]) -> list[_Number]:
    """Row by row."""
    return [sum(row) for row in zip(*columns, strict=True)]
