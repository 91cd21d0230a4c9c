"""How arrivals scatter around a rate: renewal processes of mean gap 1, in operational time.

Rule: this file knows neither rates nor seconds. `curve.py` maps these moments onto a rate function, so each process
is written once and serves every shape of trace. Randomness is passed in.

The random ones are stationary: the first gap is drawn as if the process had been running for ever, so that the mean
number of moments in [a, b) is exactly b - a everywhere, not only in the long run. The even one is within 1 of it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from triscale.errors import ConfigError

__all__ = ["Even", "Gamma", "Poisson", "Process"]


class Poisson(Struct, frozen=True, tag_field="kind", tag="poisson"):
    """Independent users: exponential gaps, so bursts and lulls around the mean."""

    def epochs(self, rng: random.Random) -> Iterator[float]:
        """Moments with mean gap 1, ascending, without end."""
        at = 0.0
        while True:
            at += rng.expovariate(1.0)
            yield at


class Even(Struct, frozen=True, tag_field="kind", tag="even"):
    """A metronome: equal gaps, the first moment half a gap after the start."""

    def epochs(self, rng: random.Random) -> Iterator[float]:  # noqa: ARG002 - one signature for all
        """Moments with gap 1, ascending, without end."""
        # Counted, not summed, so that no rounding error builds up; half-gaps keep clear of the edges of a second.
        return (count + 0.5 for count in itertools.count())


class Gamma(Struct, frozen=True, tag_field="kind", tag="gamma"):
    """Gamma gaps of a chosen burstiness; `cv2` 1 is Poisson, above it come clumps, below it regularity."""

    cv2: float
    """Squared coefficient of variation of the gaps: their variance over their squared mean."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cv2) and self.cv2 > 0.0):
            raise ConfigError(
                f"cv2 is {self.cv2!r}, but the squared coefficient of variation of gamma gaps is a finite number "
                "above 0, such as 4; for equal gaps take the process even"
            )

    def epochs(self, rng: random.Random) -> Iterator[float]:
        """Moments with mean gap 1, ascending, without end."""
        shape, scale = 1.0 / self.cv2, self.cv2
        # What is left of the gap in which the clock starts: a uniform part of a length-biased gap (Cox, Renewal
        # Theory, 1962, ch. 5); a length-biased gamma gap has its shape raised by one.
        at = rng.random() * rng.gammavariate(shape + 1.0, scale)
        while True:
            yield at
            at += rng.gammavariate(shape, scale)


Process: TypeAlias = Poisson | Even | Gamma
