"""Phases: stretches of a run with one mean rate each, that results are reported by.

A phase is a constant trace (`trace.py`) with a name. Rule: this file never reads a clock or owns randomness; the rng is
passed in, so the same seed gives the same run to the load generator (`replay.py`) and to a simulation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.curve import rescaled
from triscale.traces.processes import Even, Gamma, Poisson, Process
from triscale.traces.shapes import Constant

__all__ = ["Even", "Gamma", "Phase", "Poisson", "Process", "arrivals", "check_phases", "expected_arrivals"]


class Phase(Struct, frozen=True):
    """A stretch of time with one mean arrival rate."""

    name: str
    rate_per_s: float
    """Mean requests per second; 0 is a pause."""
    seconds: float
    process: Process = Poisson()

    def __post_init__(self) -> None:
        problems = []
        if not self.name:
            problems.append("a phase needs a name, such as 'steady' or 'burst'")
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s >= 0.0):
            problems.append(
                f"phase {self.name!r}: rate_per_s is {self.rate_per_s!r}, but a rate is a finite number of requests "
                "per second, 0 (a pause) or more"
            )
        if not (math.isfinite(self.seconds) and self.seconds > 0.0):
            problems.append(
                f"phase {self.name!r}: seconds is {self.seconds!r}, but a phase lasts a finite time above 0"
            )
        if problems:
            raise ConfigError(*problems)


def check_phases(phases: Sequence[Phase]) -> None:
    """ConfigError when there is no phase, or when two share a name: results are reported by name."""
    if not phases:
        raise ConfigError("phases is empty: name at least one phase, with its rate and its length")
    names = [phase.name for phase in phases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"phases: the name {twice[0]!r} is used {names.count(twice[0])} times; results go by name")


def expected_arrivals(phases: Sequence[Phase]) -> float:
    """Mean number of requests in a run of these phases."""
    return sum(phase.rate_per_s * phase.seconds for phase in phases)


def arrivals(phases: Sequence[Phase], rng: random.Random) -> Iterator[tuple[float, int]]:
    """(seconds since the start of the run, index of the phase) of every request, in order of time."""
    start = 0.0
    for index, phase in enumerate(phases):
        pieces = Constant(phase.rate_per_s, phase.seconds).pieces()
        for offset in rescaled(pieces, phase.process.epochs(rng)):
            yield start + offset, index
        start += phase.seconds
