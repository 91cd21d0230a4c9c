"""The last ten minutes, second by second: what the status, the dashboard and `triscale top` draw.

Counters are read once a second and kept as differences, so serving pays nothing for it and memory is bounded: some
six hundred samples, each a few counts per stage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from triscale.core.request import Outcome, Reason
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.stage import StageState
from triscale.observe.axes import Axes
from triscale.observe.causes import CauseKey
from triscale.observe.quantiles import quantile_s
from triscale.observe.recorder import Recorder

__all__ = ["History", "HistoryDocument", "Sample", "StageSample", "StageSeries", "cause_name"]

_Key = TypeVar("_Key")

KEPT = 600
"""Samples: ten minutes of seconds."""


class StageSample(Struct, frozen=True, kw_only=True):
    """One stage in one sample."""

    queued: int
    """Items waiting at its end."""
    busy_core_s: float
    """Core-seconds in which its lanes ran batches in it, those that run on at its end included."""
    completed: int
    items: tuple[int, ...]
    """Per variant: items handed to lanes."""
    given_up: Mapping[Reason, int]
    queue: Mapping[int, int]
    """Waits of batches (`observe.quantiles`)..."""
    service: Mapping[int, int]
    """...and their times on a lane."""


class Sample(Struct, frozen=True, kw_only=True):
    """What happened in one second, and what was at its end."""

    number: int
    """Counts up from 1."""
    wall_s: float
    """Its end, as Unix time."""
    seconds: float
    """Its length: longer where the machine was too busy to look in time."""
    arrived: int
    outcomes: tuple[int, ...]
    """Requests that ended, per `Outcome`, whenever they arrived."""
    causes: Mapping[CauseKey, int]
    """Of those that were not answered in time."""
    accuracy_sum: float
    """Of those that were; divide by their number."""
    latency: Mapping[int, int]
    """Of the answers (`observe.quantiles`)."""
    live: int
    demand: float
    """Of the plan in force, requests/s."""
    capacity: float
    """Of the plan in force; 0 = not known."""
    plan_accuracy: float
    """Of the plan in force."""
    axes: Axes
    stages: tuple[StageSample, ...]


class StageSeries(Struct, frozen=True, kw_only=True):
    """One stage over time: one number per sample."""

    queued: Sequence[int]
    busy_cores: Sequence[float]
    items_per_s: Sequence[float]
    """Completed."""


class HistoryDocument(Struct, frozen=True, kw_only=True):
    """Samples as columns, the form that plots want. All columns are of one length, oldest first."""

    started_s: float
    """When the server started, as Unix time: another one means that numbers began anew."""
    last: int
    """Number of the latest sample: ask for those since it next time."""
    at_s: Sequence[float]
    """When each sample ended, as Unix time."""
    arrivals_per_s: Sequence[float]
    demand_per_s: Sequence[float]
    """That the plan in force was made for."""
    capacity_per_s: Sequence[float | None]
    """That it can carry; None where it does not say."""
    answered_per_s: Sequence[float]
    """In time; like those that follow by when requests ended."""
    late_per_s: Sequence[float]
    dropped_per_s: Sequence[float]
    shed_per_s: Sequence[float]
    failed_per_s: Sequence[float]
    cancelled_per_s: Sequence[float]
    causes_per_s: Mapping[str, Sequence[float]]
    """`outcome/reason` -> requests that ended so; only what happened in these samples."""
    p50_ms: Sequence[float | None]
    """Of the answers, late ones included; None without any."""
    p99_ms: Sequence[float | None]
    accuracy: Sequence[float | None]
    """Mean expected accuracy of the requests answered in time."""
    plan_accuracy: Sequence[float]
    """Expected of the plan in force."""
    cores_start: Sequence[float]
    """Held: by what was there at the start..."""
    cores_up: Sequence[float]
    """...grown in place..."""
    cores_out: Sequence[float]
    """...and come with replicas launched later."""
    busy_cores: Sequence[float]
    """At work, on average."""
    queued: Sequence[int]
    """Items waiting, over all stages."""
    live: Sequence[int]
    """Requests in the system."""
    stages: Mapping[str, StageSeries]


class History:
    """Takes a sample when told, and keeps the last ten minutes of them. `axes` says which cores are held now."""

    def __init__(
        self, dispatcher: Dispatcher, recorder: Recorder, axes: Callable[[], Axes], now: float, started_s: float
    ) -> None:
        self.started_s = started_s
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._axes = axes
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._number = 0
        self._at = now
        self._before = _Counts(dispatcher, recorder, now)

    @property
    def last(self) -> int:
        """Number of the latest sample; 0 before the first."""
        return self._number

    def sample(self, now: float, wall_s: float) -> Sample:
        """Close the second that ends now."""
        seconds = max(now - self._at, 1e-9)
        counts, before = _Counts(self._dispatcher, self._recorder, now), self._before
        self._at, self._before = now, counts
        self._number += 1
        plan = self._dispatcher.plan
        sample = Sample(
            number=self._number,
            wall_s=wall_s,
            seconds=seconds,
            arrived=counts.arrived - before.arrived,
            outcomes=_less(counts.outcomes, before.outcomes),
            causes=_more(counts.causes, before.causes),
            accuracy_sum=counts.accuracy_sum - before.accuracy_sum,
            latency=self._recorder.recent_latency.take(),
            live=self._dispatcher.accounts.live,
            demand=plan.demand,
            capacity=plan.capacity,
            plan_accuracy=plan.accuracy,
            axes=self._axes(),
            stages=tuple(self._stage(s, counts, before) for s in range(len(counts.stages))),
        )
        self._samples.append(sample)
        return sample

    def _stage(self, s: int, counts: _Counts, before: _Counts) -> StageSample:
        now, then, record = counts.stages[s], before.stages[s], self._recorder.stages[s]
        return StageSample(
            queued=len(self._dispatcher.stages[s].queue),
            # What a lost replica had run of its batch was counted, and is not counted again.
            busy_core_s=max(0.0, now.busy_core_s - then.busy_core_s),
            completed=now.completed - then.completed,
            items=_less(now.items, then.items),
            given_up=_more(now.given_up, then.given_up),
            queue=record.recent_queue.take(),
            service=record.recent_service.take(),
        )

    def recent(self, count: int = KEPT) -> Sequence[Sample]:
        """The last so many samples, oldest first."""
        return list(self._samples)[-count:]

    def since(self, number: int = 0) -> HistoryDocument:
        """The samples after `number`, as columns."""
        samples = [sample for sample in self._samples if sample.number > number]
        names = self._dispatcher.graph.stages
        outcomes = {outcome: [_rate(sample.outcomes[outcome], sample) for sample in samples] for outcome in Outcome}
        return HistoryDocument(
            started_s=self.started_s,
            last=self._number,
            at_s=[round(sample.wall_s, 3) for sample in samples],
            arrivals_per_s=[_rate(sample.arrived, sample) for sample in samples],
            demand_per_s=[round(sample.demand, 3) for sample in samples],
            capacity_per_s=[round(sample.capacity, 3) or None for sample in samples],
            answered_per_s=outcomes[Outcome.ANSWERED],
            late_per_s=outcomes[Outcome.LATE],
            dropped_per_s=outcomes[Outcome.DROPPED],
            shed_per_s=outcomes[Outcome.SHED],
            failed_per_s=outcomes[Outcome.FAILED],
            cancelled_per_s=outcomes[Outcome.CANCELLED],
            causes_per_s=_causes(samples),
            p50_ms=[_ms(quantile_s(sample.latency, 0.5)) for sample in samples],
            p99_ms=[_ms(quantile_s(sample.latency, 0.99)) for sample in samples],
            accuracy=[_mean_accuracy(sample) for sample in samples],
            plan_accuracy=[round(sample.plan_accuracy, 5) for sample in samples],
            cores_start=[sample.axes.start for sample in samples],
            cores_up=[sample.axes.up for sample in samples],
            cores_out=[sample.axes.out for sample in samples],
            busy_cores=[_rate(sum(stage.busy_core_s for stage in sample.stages), sample) for sample in samples],
            queued=[sum(stage.queued for stage in sample.stages) for sample in samples],
            live=[sample.live for sample in samples],
            stages={
                name: StageSeries(
                    queued=[sample.stages[s].queued for sample in samples],
                    busy_cores=[_rate(sample.stages[s].busy_core_s, sample) for sample in samples],
                    items_per_s=[_rate(sample.stages[s].completed, sample) for sample in samples],
                )
                for s, name in enumerate(names)
            },
        )


def cause_name(outcome: Outcome, reason: Reason) -> str:
    """`outcome/reason`; a late answer has no reason but that."""
    return f"{outcome.label}/{reason}" if reason else outcome.label


class _StageCounts:
    """A stage's counters at one moment."""

    __slots__ = ("busy_core_s", "completed", "given_up", "items")

    def __init__(self, dispatcher: Dispatcher, recorder: Recorder, now: float, s: int) -> None:
        accounts = dispatcher.accounts.stages[s]
        # A batch counts while it runs and not when it ends: a long one would put the work of seconds into one of them.
        self.busy_core_s = recorder.stages[s].busy_core_s + _begun_core_s(dispatcher.stages[s], now)
        self.completed = accounts.completed
        self.items = tuple(accounts.items_run)
        self.given_up = dict(accounts.given_up)


class _Counts:
    """All counters at one moment."""

    __slots__ = ("accuracy_sum", "arrived", "causes", "outcomes", "stages")

    def __init__(self, dispatcher: Dispatcher, recorder: Recorder, now: float) -> None:
        accounts = dispatcher.accounts
        self.arrived = accounts.arrived
        self.outcomes = tuple(accounts.outcomes)
        self.causes = dict(accounts.causes)
        self.accuracy_sum = recorder.accuracy_sum
        self.stages = [_StageCounts(dispatcher, recorder, now, s) for s in range(len(accounts.stages))]


def _begun_core_s(stage: StageState, now: float) -> float:
    """Core-seconds until now of the batches that run."""
    lanes = (lane for replica in stage.replicas.values() for lane in replica.lanes)
    return sum((now - lane.batch.started) * lane.batch.group.threads for lane in lanes if lane.batch is not None)


def _less(now: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(a - b for a, b in zip(now, before, strict=True))


def _more(now: Mapping[_Key, int], before: Mapping[_Key, int]) -> Mapping[_Key, int]:
    """What has grown, and by how much."""
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


def _rate(count: float, sample: Sample) -> float:
    return round(count / sample.seconds, 2)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0, 2)


def _mean_accuracy(sample: Sample) -> float | None:
    answered = sample.outcomes[Outcome.ANSWERED]
    return round(sample.accuracy_sum / answered, 5) if answered else None


def _causes(samples: Sequence[Sample]) -> Mapping[str, Sequence[float]]:
    totals: list[dict[str, int]] = []
    for sample in samples:
        by_name: dict[str, int] = {}
        for (outcome, _, reason), count in sample.causes.items():
            name = cause_name(outcome, reason)
            by_name[name] = by_name.get(name, 0) + count
        totals.append(by_name)
    names = sorted({name for by_name in totals for name in by_name})
    return {
        name: [_rate(by_name.get(name, 0), sample) for by_name, sample in zip(totals, samples, strict=True)]
        for name in names
    }
