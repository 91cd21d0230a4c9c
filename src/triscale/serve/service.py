"""What the front doors ask of the server's inside: submit a call, be told how it ended.

A door (HTTP, later gRPC) parses bytes into a `Call` and renders a `Reply`; it knows no stages. The inside
(`serve/runner.py`) knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome, Reason
from triscale.wire.payload import Payload

__all__ = ["Call", "Reply", "Service"]


class Call:
    """One request at the door: its rows, its deadline, and whom to tell how it ended."""

    __slots__ = ("arrived", "deadline", "on_done", "request_id", "rows", "traceparent", "tracestate")

    def __init__(
        self,
        rows: Sequence[Payload],
        arrived: float,
        deadline: float,
        on_done: Callable[[Reply], None],
        request_id: str = "",
        traceparent: str = "",
        tracestate: str = "",
    ) -> None:
        self.rows = rows
        """One payload for each row; one row unless the pipeline has a `max_batch_size`."""
        self.arrived = arrived
        """Monotonic seconds at which the door began to read it."""
        self.deadline = deadline
        """Monotonic seconds: the minimum of the SLO and every limit the client gave."""
        self.on_done = on_done
        """Called exactly once, on the event loop, unless the call was cancelled."""
        self.request_id = request_id
        self.traceparent = traceparent
        """W3C Trace Context: the client's; then, where requests are traced, that of the request's own span."""
        self.tracestate = tracestate


class Reply:
    """How a call ended."""

    __slots__ = (
        "accuracy",
        "finished",
        "message",
        "outcome",
        "outputs",
        "partial",
        "reason",
        "retry_after_s",
        "stage",
        "traceparent",
        "variants",
    )

    def __init__(
        self,
        outcome: Outcome,
        finished: float,
        outputs: Sequence[Sequence[Payload]] = (),
        reason: Reason = Reason.NONE,
        stage: str = "",
        message: str = "",
        retry_after_s: float = 0.0,
        partial: int = 0,
        accuracy: float = 0.0,
        variants: Mapping[str, str] | None = None,
        traceparent: str = "",
    ) -> None:
        self.outcome = outcome
        self.finished = finished
        """Monotonic seconds."""
        self.outputs = outputs
        """Per row: the outputs that its items made for the client, in the order in which they were emitted."""
        self.reason = reason
        self.stage = stage
        """Where it was dropped or failed; empty when at the door."""
        self.message = message
        """For people: what happened, and what to do about it."""
        self.retry_after_s = retry_after_s
        self.partial = partial
        """Items that were given up while the rest was answered (`partial: allow`)."""
        self.accuracy = accuracy
        """Expected end-to-end accuracy of the variants that answered."""
        self.variants = variants or {}
        """Stage -> the variant that answered, or several separated by commas."""
        self.traceparent = traceparent
        """Of the request's span, for the client; empty where requests are not traced."""


class Service(Protocol):
    """The server's inside, as a door sees it. All methods are called on the event loop's thread."""

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The served pipelines by name: the protocol's models."""
        ...

    def ready(self, name: str = "") -> bool:
        """Whether the named pipeline (or every one) can take requests now."""
        ...

    def submit(self, name: str, call: Call) -> int:
        """Start a call; returns a handle. Never raises for overload: the reply says so.

        `on_done` may be called before `submit` returns. NotFound when there is no such pipeline, NotReady when
        the server is starting or draining.
        """
        ...

    def cancel(self, handle: int) -> None:
        """The client is gone: forget the call; `on_done` will not be called. Unknown handles are ignored."""
        ...

    def statistics(self, name: str) -> Mapping[str, object]:
        """Totals for the statistics route: a `serve.statistics.Statistics`. NotFound for unknown names."""
        ...
