"""The load of a run as one value: how many requests come when, and at what rate.

A trace is drawn once per run from the run's rng, as a stream: a day at 1000 requests/s needs no more memory than a
second. Its rate function is fixed and known beforehand, which is what an oracle needs. Traces are frozen and travel as
JSON.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Protocol, Self, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from triscale.traces.changes import Change, MomentChange, Ranged, Scaled, Sliced, Stretched, changed
from triscale.traces.curve import Piece, RateFunction, rescaled
from triscale.traces.processes import Poisson, Process
from triscale.traces.published import AzureDay, ThemisSlice
from triscale.traces.readers.timestamps import read_timestamps
from triscale.traces.shapes import Constant, Diurnal, Levels, Mmpp, Ramp, Spike, Staircase

__all__ = ["AnyShape", "AnyTrace", "Paced", "Recorded", "Trace"]

AnyShape: TypeAlias = Constant | Ramp | Levels | Staircase | Spike | Diurnal | Mmpp | ThemisSlice | AzureDay


class Trace(Protocol):
    """What the simulator, the load generator and the oracle need of a load."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    @property
    def seconds(self) -> float:
        """Length."""

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """Seconds since the start, in [0, `seconds`), ascending; equal for equal states of `rng`."""

    def rate(self, at: float) -> float:
        """Mean requests/s at a time; 0 outside the trace."""


class _Changeable(Struct, frozen=True, kw_only=True, dict=True, tag_field="trace"):
    """What both kinds of trace share (`dict` lets them remember their rate function)."""

    name: str
    shape: AnyShape
    """The rate before the changes."""
    changes: tuple[Change, ...] = ()
    """Applied in this order."""

    def __post_init__(self) -> None:
        # Both raise ConfigError for a change that this trace cannot undergo.
        assert self.seconds > 0.0
        self._pieces()

    @property
    def label(self) -> str:
        """Name and changes, for people."""
        return ", ".join([self.name, *map(str, self.changes)])

    @property
    def seconds(self) -> float:
        """Length."""
        return functools.reduce(lambda seconds, change: change.seconds(seconds), self.changes, self.shape.seconds)

    def rate(self, at: float) -> float:
        """Mean requests/s at a time; 0 outside the trace."""
        return self.rate_function.at(at)

    def expected(self, start: float = 0.0, end: float | None = None) -> float:
        """Mean number of requests in [start, end); by default in the whole trace."""
        return self.rate_function.expected(start, self.seconds if end is None else end)

    @functools.cached_property
    def rate_function(self) -> RateFunction:
        """The rate after all changes."""
        return RateFunction(self._pieces())

    def scaled(self, rate_factor: float) -> Self:
        """The same with all rates times a factor."""
        return self._with(Scaled(rate_factor))

    def sliced(self, start: float = 0.0, end: float | None = None) -> Self:
        """The part from `start` to `end`, seconds; by default to the trace's end."""
        return self._with(Sliced(start, end))

    def stretched(self, time_factor: float) -> Self:
        """The same rates over `time_factor` times the time."""
        return self._with(Stretched(time_factor))

    def _with(self, change: Change) -> Self:
        return replace(self, changes=(*self.changes, change))

    def _pieces(self) -> Iterator[Piece]:
        return iter(changed(self.shape.pieces, self.changes)())


class Paced(_Changeable, frozen=True, kw_only=True, tag="paced"):
    """Arrivals that a process scatters around a rate."""

    process: Process = Poisson()

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """See `Trace`."""
        return rescaled(self._pieces(), self.process.epochs(rng))

    def to_range(self, low: float, high: float) -> Paced:
        """The same with the rates moved onto [low, high], their shape preserved."""
        return self._with(Ranged(low, high))


class Recorded(_Changeable, frozen=True, kw_only=True, tag="recorded"):
    """Arrivals at the very moments that a file of timestamps gives; the rng matters only once they are scaled.

    The file is read anew by every run and never held; its rate is what was counted in each second of it.
    """

    shape: Levels
    """Arrivals in each second of the file."""
    changes: tuple[MomentChange, ...] = ()
    path: str
    column: str = ""
    """Of the file, by name or number; empty where it has only one."""

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """See `Trace`. ConfigError when the file has changed for the worse since the trace was made."""
        seconds = self.shape.seconds
        times = read_timestamps(self.path, self.column, seconds)
        for change in self.changes:
            times = change.moments(times, seconds, rng)
            seconds = change.seconds(seconds)
        return times

    def to_range(self, low: float, high: float) -> Paced:
        """As Loki did it: the rate in each second moved onto [low, high], and Poisson arrivals inside."""
        return Paced(name=self.name, shape=self.shape, changes=(*self.changes, Ranged(low, high)))


AnyTrace: TypeAlias = Paced | Recorded
"""A trace that travels as JSON."""
