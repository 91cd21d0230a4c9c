"""What can be done to a trace: scaled, sliced, stretched, moved onto a range.

Each change knows two things: what it makes of a rate function, and (where it can) what it makes of recorded moments.
Changes are values, applied in the order in which they were made.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.curve import Piece, cut

__all__ = ["Change", "MomentChange", "Pieces", "Ranged", "Scaled", "Sliced", "Stretched", "changed"]

Pieces: TypeAlias = Callable[[], Iterable[Piece]]
"""A rate function from its start, as often as it is called."""


class Scaled(Struct, frozen=True, tag_field="change", tag="scaled"):
    """The rate times a factor."""

    factor: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0.0):
            raise ConfigError(f"scale is {self.factor!r}, but the rate is scaled by a finite number above 0, such as 2")

    def __str__(self) -> str:
        return f"rates times {self.factor:g}"

    def seconds(self, seconds: float) -> float:
        """Length, from the length before."""
        return seconds

    def rates(self, pieces: Pieces) -> Iterator[Piece]:
        """The rate function, from the one before."""
        factor = self.factor
        return (Piece(start, end, first * factor, last * factor) for start, end, first, last in pieces())

    def moments(self, times: Iterator[float], seconds: float, rng: random.Random) -> Iterator[float]:
        """Recorded moments made more or fewer; `seconds` is the length before."""
        return _thinned_or_copied(times, self.factor, seconds, rng)


class Sliced(Struct, frozen=True, tag_field="change", tag="sliced"):
    """The part from `start` to `end`, seconds; it begins at 0 again."""

    start: float = 0.0
    end: float | None = None
    """By default the end of the trace."""

    def __str__(self) -> str:
        return f"seconds {self.start:g} to {'the end' if self.end is None else f'{self.end:g}'}"

    def seconds(self, seconds: float) -> float:
        """Length, from the length before; ConfigError when the slice is not inside it."""
        end = seconds if self.end is None else self.end
        if not 0.0 <= self.start < end <= seconds:
            raise ConfigError(
                f"the slice from {self.start:g} s to {end:g} s is not inside the trace, which lasts {seconds:g} s; "
                f"a slice begins before it ends, as in 0:{seconds / 2:g}"
            )
        return end - self.start

    def rates(self, pieces: Pieces) -> Iterator[Piece]:
        """The rate function, from the one before."""
        return cut(pieces(), self.start, math.inf if self.end is None else self.end)

    def moments(self, times: Iterator[float], seconds: float, rng: random.Random) -> Iterator[float]:  # noqa: ARG002 - one signature for all
        """The recorded moments inside; `seconds` is the length before."""
        start, end = self.start, seconds if self.end is None else self.end
        latest = math.nextafter(end - start, 0.0)
        inside = itertools.takewhile(lambda at: at < end, times)
        return (min(at - start, latest) for at in inside if at >= start)


class Stretched(Struct, frozen=True, tag_field="change", tag="stretched"):
    """Time times a factor; the rates stay, so the number of requests grows with the time."""

    factor: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0.0):
            raise ConfigError(
                f"stretch is {self.factor!r}, but time is stretched by a finite number above 0, such as 2"
            )

    def __str__(self) -> str:
        return f"time times {self.factor:g}"

    def seconds(self, seconds: float) -> float:
        """Length, from the length before."""
        return seconds * self.factor

    def rates(self, pieces: Pieces) -> Iterator[Piece]:
        """The rate function, from the one before."""
        factor = self.factor
        return (Piece(start * factor, end * factor, first, last) for start, end, first, last in pieces())

    def moments(self, times: Iterator[float], seconds: float, rng: random.Random) -> Iterator[float]:
        """The recorded moments pulled apart, and made so many that the rates stay; `seconds` is the length before."""
        length = seconds * self.factor
        latest = math.nextafter(length, 0.0)
        return _thinned_or_copied((min(at * self.factor, latest) for at in times), self.factor, length, rng)


class Ranged(Struct, frozen=True, tag_field="change", tag="ranged"):
    """The rates moved onto [low, high], their shape preserved: Loki's min-max scaling (arXiv 2407.03583)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high < math.inf:
            raise ConfigError(
                f"the range {self.low:g}:{self.high:g} is not one of rates: it is LOW:HIGH in requests/s, "
                "0 or more, LOW below HIGH, as in 50:425"
            )

    def __str__(self) -> str:
        return f"rates from {self.low:g} to {self.high:g}"

    def seconds(self, seconds: float) -> float:
        """Length, from the length before."""
        return seconds

    def rates(self, pieces: Pieces) -> Iterator[Piece]:
        """The rate function, from the one before; ConfigError when that is flat."""
        least = min(min(piece.first, piece.last) for piece in pieces())
        most = max(max(piece.first, piece.last) for piece in pieces())
        if least == most:
            raise ConfigError(
                f"the rate is {least:g} requests/s all the time: there is no shape to move onto the range "
                f"{self.low:g}:{self.high:g}; scale it by a factor instead"
            )

        def moved(rate: float) -> float:
            # Two weights, so that both ends of the range are met exactly.
            part = (rate - least) / (most - least)
            return self.low * (1.0 - part) + self.high * part

        return (Piece(start, end, moved(first), moved(last)) for start, end, first, last in pieces())


MomentChange: TypeAlias = Scaled | Sliced | Stretched
"""Those that recorded moments can undergo as well."""
Change: TypeAlias = MomentChange | Ranged


def changed(pieces: Pieces, changes: Iterable[Change]) -> Pieces:
    """The rate function after all changes."""
    return functools.reduce(lambda before, change: functools.partial(change.rates, before), changes, pieces)


def _thinned_or_copied(times: Iterator[float], factor: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """Each moment `factor` times on average; copies spread over the gap to the next moment, so that none coincide."""
    whole, part = int(factor), factor % 1.0
    for at, following in itertools.pairwise(itertools.chain(times, [seconds])):
        copies = whole + (rng.random() < part)
        if copies:
            yield at
        latest = max(at, math.nextafter(following, at))
        yield from sorted(min(rng.uniform(at, following), latest) for _ in range(copies - 1))
