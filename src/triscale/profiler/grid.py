"""Which cells (batch, threads, lanes) of a variant are measured, in which order, and which are not worth their time.

Pure: what is left follows from what was measured so far. First one lane with ever larger batches, then the same with
company, then the next count of threads. Left out are

- batches that would take longer than the objective of the whole pipeline: no plan could use them;
- threads that do not help: a model may be too small to divide, or waits rather than computes. It shows in its smallest
  and largest batch, which are tried first. Where neither gets `GAIN` times faster, no more threads are tried, and what
  the trial measured is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from triscale.core.profile import LatencyPoint

__all__ = ["GAIN", "Cell", "Grid", "Wanted", "doublings"]

GAIN = 1.1
"""Times faster that more threads must make a batch."""
_LARGEST = 64
"""Largest batch that is measured unless asked for: beyond it the latency model goes on in a straight line."""
_CROWD = 4
"""Company is measured with the smallest batch and with the largest up to this: lanes slow each other by what they share
(memory, the interpreter), which hardly depends on the batch."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid."""

    batch: int
    threads: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, the same for all variants; None: what suits the variant and the machine."""

    batches: tuple[int, ...] | None = None
    threads: tuple[int, ...] | None = None
    lanes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one variant. All counts ascend."""

    batches: tuple[int, ...]
    threads: tuple[int, ...]
    lanes: tuple[int, ...]
    """Beginning with 1: whatever runs in company was first measured alone."""
    cores: int
    """Cells of more lanes x threads are left out."""
    limit_s: float
    """Batches whose median is longer are left out."""

    @classmethod
    def of(cls, wanted: Wanted, max_batch: int, cores: int, limit_s: float) -> Grid:
        """The grid for a variant that takes batches up to `max_batch`. ValueError when no threads fit the cores."""
        batches = wanted.batches or doublings(min(max_batch, _LARGEST))
        threads = _ascending(t for t in wanted.threads or doublings(cores) if t <= cores)
        if not threads:
            raise ValueError(f"no lane of {min(wanted.threads or (1,))} threads fits {cores} cores")
        return cls(
            batches=_ascending(min(batch, max_batch) for batch in batches),
            threads=threads,
            lanes=_ascending((1, *(wanted.lanes or doublings(cores)))),
            cores=cores,
            limit_s=limit_s,
        )

    def remaining(self, points: Sequence[LatencyPoint]) -> list[Cell]:
        """What is still to be measured, in order. It shrinks with what `points` show to be of no use."""
        cells: list[Cell] = []
        for index, threads in enumerate(self.threads):
            if index and not self._may_gain(points, index):
                break
            alone = _alone(points, threads)
            batches = [batch for batch in self.batches if batch in alone or self._fits(alone, batch)]
            if index:
                probes = self._probes(points, index)
                batches = [*probes, *(batch for batch in batches if batch not in probes)]
            usable = sorted(batch for batch in batches if alone.get(batch, 0.0) <= self.limit_s)
            # The smallest is measured in company whatever it takes: it tells what others suffer from it.
            crowd = _ascending((self.batches[0], *[batch for batch in usable if batch <= _CROWD][-1:]))
            cells += [Cell(batch, threads, 1) for batch in batches]
            cells += [Cell(b, threads, n) for n in self.lanes[1:] if n * threads <= self.cores for b in crowd]
        measured = {Cell(point.batch, point.threads, point.lanes) for point in points}
        return [cell for cell in cells if cell not in measured]

    def most_lanes(self, threads: int) -> int:
        """Lanes of so many threads that are to run at once."""
        return max(lanes for lanes in self.lanes if lanes == 1 or lanes * threads <= self.cores)

    def kept(self, points: Sequence[LatencyPoint]) -> tuple[LatencyPoint, ...]:
        """The points of all threads but those that did not help, in the order of the grid."""
        helpful = set(self.threads[:1])
        for index in range(1, len(self.threads)):
            if not self._may_gain(points, index):
                break
            helpful.add(self.threads[index])
        useful = [point for point in points if point.threads in helpful]
        return tuple(sorted(useful, key=lambda point: (point.threads, point.lanes, point.batch)))

    def _may_gain(self, points: Sequence[LatencyPoint], index: int) -> bool:
        """Whether these threads are faster than the next fewer, or it is not known yet."""
        fewer, more = _alone(points, self.threads[index - 1]), _alone(points, self.threads[index])
        probes = self._probes(points, index)
        if any(batch not in more or batch not in fewer for batch in probes):
            return True
        return any(fewer[batch] >= GAIN * more[batch] for batch in probes)

    def _probes(self, points: Sequence[LatencyPoint], index: int) -> tuple[int, ...]:
        """The smallest batch, and the largest that was measured with the next fewer threads."""
        fewer = _alone(points, self.threads[index - 1])
        return _ascending((self.batches[0], max(fewer, default=self.batches[0])))

    def _fits(self, alone: Mapping[int, float], batch: int) -> bool:
        """Whether the smaller batches, and a straight line through the last two, leave it below the limit."""
        below = sorted(smaller for smaller in alone if smaller < batch)
        if not below:
            return True
        last = below[-1]
        slope = (alone[last] - alone[below[-2]]) / (last - below[-2]) if len(below) > 1 else 0.0
        return alone[last] + max(0.0, slope) * (batch - last) <= self.limit_s


def doublings(limit: int) -> tuple[int, ...]:
    """1, 2, 4 and so on below `limit`, and `limit` itself."""
    return _ascending((*(1 << i for i in range(limit.bit_length())), limit))


def _ascending(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))


def _alone(points: Sequence[LatencyPoint], threads: int) -> dict[int, float]:
    """Batch -> median seconds of one lane."""
    return {point.batch: point.p50_s for point in points if point.threads == threads and point.lanes == 1}
