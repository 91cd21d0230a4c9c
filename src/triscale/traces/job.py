"""What to replay against which server: the one input of a load generator process, as JSON."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase, arrivals, check_phases, expected_arrivals
from triscale.traces.endpoint import Trust, endpoint_of
from triscale.traces.payload import Payload
from triscale.traces.trace import AnyTrace

__all__ = ["MAX_REQUESTS", "Job"]

MAX_REQUESTS = 20_000_000
"""Most requests of one run: each is remembered to its end, in about 35 bytes (`records.py`)."""
_LONGEST_DEADLINE_MS = 3_600_000.0
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"content-length", "transfer-encoding", "inference-header-content-length"})
"""Headers that say how the body is to be read."""


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of the load generator: phases or a trace, and samples of a source or a payload."""

    url: str
    """`http://host:port` of a server of the Open Inference Protocol v2."""
    model: str
    """The pipeline, as the protocol's model name."""
    slo_ms: float
    phases: tuple[Phase, ...] = ()
    trace: AnyTrace | None = None
    """Instead of phases: the load as one stretch, which results call `trace`."""
    source: str = ""
    """`package.module:function`; called with (count, seed), yields `triscale.Sample`s."""
    score: str = ""
    """`package.module:function`; called with (truth, outputs), returns a score in [0, 1]. Empty: not scored."""
    payload: Payload | None = None
    """Instead of a source: bodies recorded or made up."""
    samples: int = 64
    """How many samples are prepared before the clock starts; the requests go round them in order."""
    seed: int = 0
    import_roots: tuple[str, ...] = ()
    """Folders that `source` and `score` are imported from, ahead of what is installed."""
    batched: bool = False
    """The pipeline has a `max_batch_size`: tensors get a leading batch dimension of one row."""
    encoding: Literal["auto", "binary", "json"] = "auto"
    """How tensors are written; `auto`: in binary where the server takes that. Recorded bodies go as they are."""
    deadline_ms: float | None = None
    """Each request tells the server what is left of this time, counted from the moment at which it was to be sent."""
    connections: int = 512
    """Most connections open at the same time."""
    timeout_ms: float = 30_000.0
    """How long the client waits for an answer, from the moment at which it was to be sent."""
    keep_answers: int = 1000
    """Most answers kept per phase, a random choice of them, for scoring after the run."""
    show: int = 4
    """Answers shown in the result, with what was sent."""
    headers: dict[str, str] = {}
    """Sent with every request, such as `Authorization`."""
    trust: Trust = Trust()
    """Of certificates, for https."""
    record: str = ""
    """File that gets a row for every request, CSV or JSON lines by its name; such requests carry an `x-request-id`."""

    def __post_init__(self) -> None:
        problems = list(self._choices())
        if self.phases or self.trace is None:
            check_phases(self.phases)
        endpoint_of(self.url)
        problems += self._broken_rules()
        if problems:
            raise ConfigError(*problems)

    @property
    def parts(self) -> tuple[Phase, ...]:
        """What results are reported by: the phases, or the whole trace as one of its mean rate."""
        if self.trace is None:
            return self.phases
        seconds = self.trace.seconds
        return (Phase("trace", self.trace.expected() / seconds, seconds),)

    @property
    def expected(self) -> float:
        """Mean number of requests."""
        return expected_arrivals(self.phases) if self.trace is None else self.trace.expected()

    def arrivals(self) -> Iterator[tuple[float, int]]:
        """(seconds since the start of the run, index in `parts`) of every request, in order of time; a stream."""
        rng = random.Random(self.seed)  # noqa: S311 - a seeded experiment, no secret
        if self.trace is None:
            return arrivals(self.phases, rng)
        return ((at, 0) for at in self.trace.arrivals(rng))

    def _choices(self) -> Iterator[str]:
        if self.phases and self.trace is not None:
            yield "phases and trace are both given, but a run has one load; leave one out"
        if bool(self.source) == (self.payload is not None):
            yield "a run has either a source of samples or a payload to send; give one of them"
        if self.score and not self.source:
            yield "score needs a source, whose samples know the truth; leave it out, or name the source"

    def _broken_rules(self) -> Iterator[str]:
        if not self.model:
            yield "model is empty: name the pipeline (the protocol's model) to send requests to"
        for name, milliseconds in (("slo_ms", self.slo_ms), ("timeout_ms", self.timeout_ms)):
            if not (math.isfinite(milliseconds) and milliseconds > 0.0):
                yield f"{name} is {milliseconds!r}, but it is a finite number of milliseconds above 0"
        if self.deadline_ms is not None and not 0.0 < self.deadline_ms <= _LONGEST_DEADLINE_MS:
            yield f"deadline_ms is {self.deadline_ms!r}, but it is a number of milliseconds above 0, an hour at most"
        for name, count, least in (
            ("samples", self.samples, 1),
            ("connections", self.connections, 1),
            ("keep_answers", self.keep_answers, 0),
            ("show", self.show, 0),
        ):
            if count < least:
                yield f"{name} is {count}, but it is {least} or more"
        if self.expected > MAX_REQUESTS:
            load = "phases make" if self.trace is None else "trace makes"
            yield (
                f"{load} about {self.expected:,.0f} requests, but one run remembers at most {MAX_REQUESTS:,}; "
                "make it shorter or its rates lower, or share it among several runs"
            )
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or any(mark in value for mark in "\r\n\0") or not _is_latin(value):
                yield f"headers: {name!r} is not a header of one line"
            elif name.lower() in _OURS:
                yield f"headers: {name!r} is set by the load generator itself; leave it out"


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
