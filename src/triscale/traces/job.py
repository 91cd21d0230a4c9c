"""What to replay against which server: the one input of a load generator process, as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase, check_phases, expected_arrivals
from triscale.traces.http_client import endpoint_of

__all__ = ["MAX_REQUESTS", "Job"]

MAX_REQUESTS = 5_000_000
"""Most requests of one run: each is remembered, in about 40 bytes."""


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of the load generator."""

    url: str
    """`http://host:port` of a server of the Open Inference Protocol v2."""
    model: str
    """The pipeline, as the protocol's model name."""
    phases: tuple[Phase, ...]
    slo_ms: float
    source: str
    """`package.module:function`; called with (count, seed), yields `triscale.Sample`s."""
    score: str = ""
    """`package.module:function`; called with (truth, outputs), returns a score in [0, 1]. Empty: not scored."""
    samples: int = 64
    """How many samples are prepared before the clock starts; the requests go round them in order."""
    seed: int = 0
    import_roots: tuple[str, ...] = ()
    """Folders that `source` and `score` are imported from, ahead of what is installed."""
    batched: bool = False
    """The pipeline has a `max_batch_size`: tensors get a leading batch dimension of one row."""
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

    def __post_init__(self) -> None:
        check_phases(self.phases)
        endpoint_of(self.url)
        problems = list(self._broken_rules())
        if problems:
            raise ConfigError(*problems)

    def _broken_rules(self) -> Iterator[str]:
        if not self.model:
            yield "model is empty: name the pipeline (the protocol's model) to send requests to"
        for name, milliseconds in (("slo_ms", self.slo_ms), ("timeout_ms", self.timeout_ms)):
            if not (math.isfinite(milliseconds) and milliseconds > 0.0):
                yield f"{name} is {milliseconds!r}, but it is a finite number of milliseconds above 0"
        for name, count, least in (
            ("samples", self.samples, 1),
            ("connections", self.connections, 1),
            ("keep_answers", self.keep_answers, 0),
            ("show", self.show, 0),
        ):
            if count < least:
                yield f"{name} is {count}, but it is {least} or more"
        expected = expected_arrivals(self.phases)
        if expected > MAX_REQUESTS:
            yield (
                f"phases make about {expected:,.0f} requests, but one run remembers at most {MAX_REQUESTS:,}; "
                "shorten the phases or lower their rates"
            )
        for name, value in self.headers.items():
            if any(mark in name + value for mark in "\r\n") or not name.isascii():
                yield f"headers: {name!r} is not a header of one line"
