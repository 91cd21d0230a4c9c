"""What happened to one sampled request: which batches its items were in, how long they waited, what was given up.

`Tracer` is what the runner tells while requests are served. It is told of batches and requests, never of single items,
and of nothing at all where tracing is off. `RequestTrace` is what it remembers of a request until that ends, and
`visits` puts it in order, stage by stage; `tracing.py` makes spans of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from triscale.core.graph import Graph
from triscale.dispatch.results import ItemResult, Rejection
from triscale.dispatch.work import Batch, Request

__all__ = ["BatchNote", "Origin", "RequestTrace", "Run", "Tracer", "Visit", "Wait", "visits"]


class Origin(NamedTuple):
    """Where a request comes from."""

    arrived: float
    """Monotonic seconds of its first byte."""
    traceparent: str
    """The client's header, or empty; so are the others."""
    tracestate: str
    request_id: str


class Tracer(Protocol):
    """Follows requests. Everything is called on the event loop's thread, with times on its clock."""

    def request_arrived(self, request: Request, origin: Origin, now: float) -> str:
        """A request was submitted, and may have ended already, refused.

        Returns the `traceparent` to answer with; empty when there is none.
        """
        ...

    def batch_started(self, batch: Batch) -> None:
        """A batch was handed to a lane."""
        ...

    def batch_ended(self, batch: Batch, now: float, results: Sequence[ItemResult] = (), error: str = "") -> None:
        """Its results are there; or it failed, and why. Tell before the dispatcher is told."""
        ...

    def request_ended(self, request: Request, variants: Mapping[str, str]) -> None:
        """A request has its outcome; `variants` are those that ran, by stage."""
        ...

    def close(self, grace_s: float) -> None:
        """Hand over what is left; waits for at most so long."""
        ...


class BatchNote:
    """A batch with a sampled request in it."""

    __slots__ = ("ended", "error", "expected", "number", "replica", "size", "spans", "stage", "started", "variant")

    def __init__(self, batch: Batch) -> None:
        self.number = batch.id
        self.stage = batch.stage
        self.variant = batch.variant
        self.replica = batch.lane.replica.id
        self.size = len(batch.items)
        self.started = batch.started
        self.expected = batch.expected
        self.ended: float | None = None
        """None while it runs."""
        self.error = ""
        self.spans: list[object] = []
        """The tracer's handles of the sampled requests in it."""


class Run:
    """One request's items in one batch."""

    __slots__ = ("batch", "items", "since")

    def __init__(self, batch: BatchNote, since: float) -> None:
        self.batch = batch
        self.since = since
        """When the first of them began to wait."""
        self.items = 1


class RequestTrace:
    """What is remembered of a sampled request while it is live."""

    __slots__ = ("entered", "runs", "span")

    def __init__(self, span: object) -> None:
        self.span = span
        """The tracer's own."""
        self.runs: list[Run] = []
        """In the order in which they started."""
        self.entered: dict[int, float] = {}
        """Stage -> when the first item entered it, as far as no batch says so."""

    def item_started(self, note: BatchNote, since: float) -> None:
        """One of its items, waiting since then, is in this batch."""
        run = self.runs[-1] if self.runs else None
        if run is not None and run.batch is note:
            run.items += 1
            run.since = min(run.since, since)
        else:
            self.runs.append(Run(note, since))
            note.spans.append(self.span)

    def item_done(self, result: ItemResult, children: Sequence[int], now: float) -> None:
        """A batch brought this result of one of its items."""
        if isinstance(result, Rejection):
            return
        for child, payloads in zip(children, result[1], strict=False):
            if payloads:
                self.entered.setdefault(child, now)


@dataclass(frozen=True, slots=True)
class Wait:
    """Items that waited and were not run: dropped, or still there when their request ended."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Visit:
    """One stage's part in a request."""

    stage: int
    began: float
    ended: float
    runs: Sequence[Run]
    waits: Sequence[Wait]


def visits(trace: RequestTrace, request: Request, graph: Graph) -> Iterator[Visit]:
    """The stages that a request, which has ended, was at."""
    for stage in range(len(graph.stages)):
        runs = [run for run in trace.runs if run.batch.stage == stage]
        waits = [Wait(drop.since, drop.at) for drop in request.dropped_items or () if drop.stage == stage]
        left = request.live[stage] - sum(run.items for run in runs if run.batch.ended is None)
        if left > 0 and not runs and stage in trace.entered:
            # Where some were run already, nothing says since when the others have waited.
            waits.append(Wait(trace.entered[stage], request.ended))
        ends = [run.batch.ended if run.batch.ended is not None else request.ended for run in runs]
        ends += [wait.until for wait in waits]
        if left > 0:
            ends.append(request.ended)
        begins = [*(run.since for run in runs), *(wait.since for wait in waits)]
        if stage in trace.entered:
            begins.append(trace.entered[stage])
        if begins and ends:
            yield Visit(stage, min(begins), max(ends), runs, waits)
