"""Shapes of load over time: parameters that unfold into a rate function.

A shape is fixed: what is random about its rate is drawn from the shape's own seed, so that every run of it, and the
oracle, see the same rate. Which requests come under that rate is the process's business (`processes.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct, field

from triscale.errors import ConfigError
from triscale.traces.curve import Piece

__all__ = ["Constant", "Diurnal", "Levels", "Mmpp", "Ramp", "Shape", "Spike", "Staircase", "check", "levels"]

_KNOTS = 512
"""Straight lines per period of a sinusoid: off by at most 2e-5 of its height."""
_MOST_STEPS = 10_000
_LEAST_DWELL_S = 0.001


class Shape(Protocol):
    """A rate function by its parameters."""

    @property
    def seconds(self) -> float:
        """Length, above 0."""

    def pieces(self) -> Iterator[Piece]:
        """The rate: pieces without a gap from 0 to `seconds`, the same ones at every call."""


def check(
    rates: Iterable[tuple[str, float]] = (), lengths: Iterable[tuple[str, float]] = (), others: Iterable[str] = ()
) -> None:
    """ConfigError with every broken rule: rates are 0 or more, lengths above 0; `others` are broken rules already."""
    problems = [
        f"{name} is {rate!r}, but a rate is a finite number of requests/s, 0 or more"
        for name, rate in rates
        if not (math.isfinite(rate) and rate >= 0.0)
    ]
    problems += [
        f"{name} is {length!r}, but it is a finite number of seconds above 0"
        for name, length in lengths
        if not (math.isfinite(length) and length > 0.0)
    ]
    problems += others
    if problems:
        raise ConfigError(*problems)


def levels(rates: Iterable[float], each: float) -> Iterator[Piece]:
    """One constant piece of `each` seconds per rate."""
    for index, rate in enumerate(rates):
        yield Piece(index * each, (index + 1) * each, rate, rate)


class Constant(Struct, frozen=True, tag_field="kind", tag="constant"):
    """One rate all the time."""

    rate: float
    seconds: float = 60.0

    def __post_init__(self) -> None:
        check([("rate", self.rate)], [("seconds", self.seconds)])

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        yield Piece(0.0, self.seconds, self.rate, self.rate)


class Ramp(Struct, frozen=True, tag_field="kind", tag="ramp"):
    """A straight line, up or down."""

    from_rate: float = field(name="from")
    to_rate: float = field(name="to")
    seconds: float = 60.0

    def __post_init__(self) -> None:
        check([("from", self.from_rate), ("to", self.to_rate)], [("seconds", self.seconds)])

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        yield Piece(0.0, self.seconds, self.from_rate, self.to_rate)


class Levels(Struct, frozen=True, tag_field="kind", tag="levels"):
    """One constant rate after the other: steps by hand, or recorded counts."""

    rates: tuple[float, ...]
    each: float = 1.0
    """Seconds of each rate."""

    def __post_init__(self) -> None:
        none = ["rates is empty, but a trace has at least one rate"] if not self.rates else []
        check([(f"rates[{i}]", rate) for i, rate in enumerate(self.rates)], [("each", self.each)], none)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.rates) * self.each

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        return levels(self.rates, self.each)


class Staircase(Struct, frozen=True, tag_field="kind", tag="staircase"):
    """Equal steps from one rate to another, up or down, both included."""

    from_rate: float = field(name="from")
    to_rate: float = field(name="to")
    step: float
    """Height of a step, requests/s; the last one may be lower."""
    each: float = 10.0
    """Seconds on each step."""

    def __post_init__(self) -> None:
        amiss = []
        if not (math.isfinite(self.step) and self.step > 0.0):
            amiss.append(
                f"step is {self.step!r}, but the height of a step is a finite number of requests/s above 0; "
                "to go down, let from be above to"
            )
        elif abs(self.to_rate - self.from_rate) > self.step * _MOST_STEPS:
            amiss.append(f"step is {self.step!r}, which makes more than {_MOST_STEPS:,} steps; take a higher one")
        check([("from", self.from_rate), ("to", self.to_rate)], [("each", self.each)], amiss)

    @property
    def rates(self) -> list[float]:
        """The rate of each step."""
        height = abs(self.to_rate - self.from_rate)
        direction = math.copysign(self.step, self.to_rate - self.from_rate)
        count = math.ceil(height / self.step - 1e-9)
        return [*(self.from_rate + index * direction for index in range(count)), self.to_rate]

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.rates) * self.each

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        return levels(self.rates, self.each)


class Spike(Struct, frozen=True, tag_field="kind", tag="spike"):
    """A base rate with one sudden peak."""

    base: float
    peak: float
    start: float = 10.0
    """When the peak begins."""
    length: float = 5.0
    """How long it lasts."""
    seconds: float = 60.0

    def __post_init__(self) -> None:
        late = []
        if not (self.start >= 0.0 and self.start + self.length <= self.seconds):
            late.append(
                f"the peak is from {self.start:g} s to {self.start + self.length:g} s, but it lies within the "
                f"{self.seconds:g} s of the trace; change start, length or seconds"
            )
        check([("base", self.base), ("peak", self.peak)], [("length", self.length), ("seconds", self.seconds)], late)

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        end = self.start + self.length
        for start, stop, rate in (
            (0.0, self.start, self.base),
            (self.start, end, self.peak),
            (end, self.seconds, self.base),
        ):
            if start < stop:
                yield Piece(start, stop, rate, rate)


class Diurnal(Struct, frozen=True, tag_field="kind", tag="diurnal"):
    """Days: a sinusoid that begins at its low, half a period before its high."""

    low: float
    high: float
    seconds: float = 600.0
    period: float | None = None
    """Seconds of a day; by default the whole trace is one day."""

    def __post_init__(self) -> None:
        period = () if self.period is None else (("period", self.period),)
        upside_down = [f"low is {self.low:g} and high is {self.high:g}, but low is at most high"]
        check(
            [("low", self.low), ("high", self.high)],
            [("seconds", self.seconds), *period],
            upside_down if self.low > self.high else (),
        )

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        period = self.period or self.seconds
        knots = math.ceil(self.seconds / period * _KNOTS)
        start, first = 0.0, self.low
        for index in range(1, knots + 1):
            end = min(index * period / _KNOTS, self.seconds) if index < knots else self.seconds
            last = self.low + (self.high - self.low) * (1.0 - math.cos(2.0 * math.pi * end / period)) / 2.0
            if start < end:
                yield Piece(start, end, first, last)
            start, first = end, last


class Mmpp(Struct, frozen=True, tag_field="kind", tag="mmpp"):
    """Bursts: the rate stays in a state for an exponential time, then moves to any other with equal chance.

    With Poisson arrivals this is a Markov-modulated Poisson process (Fischer and Meier-Hellstern, "The MMPP cookbook",
    Performance Evaluation 18, 1993), begun in its stationary distribution: a state's share of the time is its dwell
    time over the sum of all.
    """

    rates: tuple[float, ...]
    """Of each state, requests/s."""
    dwell: tuple[float, ...]
    """Mean seconds in each state."""
    seconds: float = 300.0
    seed: int = 0
    """Of the path through the states: another seed is another rate over time."""

    def __post_init__(self) -> None:
        amiss = []
        if len(self.rates) < 2 or len(self.rates) != len(self.dwell):
            amiss.append(
                f"there are {len(self.rates)} rates and {len(self.dwell)} dwell times, but each of two or more states "
                "has one of both, as in rates=50/200,dwell=10/2"
            )
        amiss += [
            f"dwell[{i}] is {dwell!r}, but a state lasts at least {_LEAST_DWELL_S:g} s on average"
            for i, dwell in enumerate(self.dwell)
            if 0.0 < dwell < _LEAST_DWELL_S
        ]
        check(
            [(f"rates[{i}]", rate) for i, rate in enumerate(self.rates)],
            [("seconds", self.seconds), *((f"dwell[{i}]", dwell) for i, dwell in enumerate(self.dwell))],
            amiss,
        )

    def pieces(self) -> Iterator[Piece]:
        """See `Shape`."""
        rng = random.Random(self.seed)  # noqa: S311 - a seeded experiment, no secret
        state = rng.choices(range(len(self.rates)), self.dwell)[0]
        start = 0.0
        while start < self.seconds:
            end = min(start + rng.expovariate(1.0 / self.dwell[state]), self.seconds)
            if start < end:
                yield Piece(start, end, self.rates[state], self.rates[state])
            start, state = end, _another(state, len(self.rates), rng)


def _another(state: int, states: int, rng: random.Random) -> int:
    """Any state but this one."""
    drawn = rng.randrange(states - 1)
    return drawn if drawn < state else drawn + 1
