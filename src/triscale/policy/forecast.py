"""Forecasts of the demand from the arrivals of past seconds, and how to judge them.

A forecaster is told the counts of all whole seconds that are known (`Snapshot.per_second`) and asked for the *peak*:
the most requests of any one second among the next ones. It remembers nothing else, so an autoscaler that was restarted
forecasts as before. Compare like with like: next to a mean, the peak of any noisy load looks as if it rose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from triscale.errors import ConfigError

__all__ = [
    "FORECASTERS",
    "Ewma",
    "ForecastError",
    "Forecaster",
    "Holt",
    "Padded",
    "Persistence",
    "WindowMaximum",
    "forecast_error",
    "make_forecaster",
]


class Forecaster(Protocol):
    """Says how high demand will go."""

    def update(self, counts: Sequence[float]) -> None:
        """From now on, these are the arrivals of the last whole seconds, oldest first; all that is known."""

    def forecast(self, horizon_s: float) -> float:
        """The most requests/s of any second in the next `horizon_s` seconds; 0 before anything is known."""


class _FromCounts:
    """Keeps the counts for those that forecast from them."""

    def __init__(self) -> None:
        self._counts: Sequence[float] = ()

    def update(self, counts: Sequence[float]) -> None:
        """See `Forecaster`."""
        self._counts = counts


class Persistence(_FromCounts):
    """The last second again."""

    def forecast(self, horizon_s: float) -> float:  # noqa: ARG002 - the same at any distance
        """See `Forecaster`."""
        return float(self._counts[-1]) if self._counts else 0.0


class WindowMaximum(_FromCounts):
    """The most of the last `window_s` seconds again. With the horizon as its window this is persistence of the very
    statistic that is forecast, and as good as the papers' neural network (see docs/baselines.md).
    """

    def __init__(self, window_s: float = 10.0) -> None:
        super().__init__()
        if not window_s >= 1.0:
            raise ConfigError(f"window_s is {window_s!r}, but a forecaster needs a window of at least 1 second")
        self._seconds = round(window_s)

    def forecast(self, horizon_s: float) -> float:  # noqa: ARG002 - the same at any distance
        """See `Forecaster`."""
        return float(max(self._counts[-self._seconds :], default=0.0))


class Ewma(_FromCounts):
    """The exponentially weighted mean of the last `samples` seconds, with alpha = 1 / (1 + com).

    Loki's estimate of demand: sum((1 - alpha)^j d_j) / sum((1 - alpha)^j) over 20 one-second samples, com = 1.6 in its
    experiments and 2.1 by default (its simulator's code; arXiv 2407.03583).
    """

    def __init__(self, com: float = 1.6, samples: int = 20) -> None:
        super().__init__()
        if not com >= 0.0 or samples < 1:
            raise ConfigError(f"com is {com!r} and samples {samples!r}, but com is 0 or more and samples 1 or more")
        self._keep = com / (1.0 + com)
        self._samples = samples

    def forecast(self, horizon_s: float) -> float:  # noqa: ARG002 - the same at any distance
        """See `Forecaster`."""
        total = weights = 0.0
        weight = 1.0
        for count in reversed(self._counts[-self._samples :]):
            total += weight * count
            weights += weight
            weight *= self._keep
        return total / weights if weights else 0.0


class Holt(_FromCounts):
    """A level and a trend, each smoothed, and the trend damped (`damping` = 1: Holt's own method, not damped).

    Level l and trend b after a count y: l' = level y + (1 - level)(l + damping b), b' = trend (l' - l) +
    (1 - trend) damping b; h seconds on: l + (damping + ... + damping^h) b (Hyndman and Athanasopoulos, Forecasting:
    Principles and Practice, 3rd ed., section 8.2).
    """

    def __init__(self, level: float = 0.5, trend: float = 0.1, damping: float = 0.9) -> None:
        super().__init__()
        if not (0.0 < level <= 1.0 and 0.0 <= trend <= 1.0 and 0.0 < damping <= 1.0):
            raise ConfigError(
                f"level is {level!r}, trend {trend!r} and damping {damping!r}, but level and damping lie above 0 and "
                "up to 1, and trend in [0, 1]"
            )
        self._level, self._trend, self._damping = level, trend, damping

    def forecast(self, horizon_s: float) -> float:
        """See `Forecaster`."""
        if not self._counts:
            return 0.0
        level, slope = float(self._counts[0]), 0.0
        for count in self._counts[1:]:
            expected = level + self._damping * slope
            new = self._level * count + (1.0 - self._level) * expected
            slope = self._trend * (new - level) + (1.0 - self._trend) * self._damping * slope
            level = new
        # The peak of a falling line is its first second, of a rising one its last.
        seconds = max(1, math.ceil(horizon_s)) if slope > 0.0 else 1
        reach = sum(self._damping**i for i in range(1, seconds + 1))
        return max(0.0, level + reach * slope)


class Padded:
    """Another forecaster's mean with `sigmas` standard deviations of a Poisson count above it.

    Means become peaks by it: the largest of ten Poisson counts lies about 1.5 standard deviations above their mean.
    """

    def __init__(self, inner: Forecaster, sigmas: float = 1.5) -> None:
        self._inner = inner
        self._sigmas = sigmas

    def update(self, counts: Sequence[float]) -> None:
        """See `Forecaster`."""
        self._inner.update(counts)

    def forecast(self, horizon_s: float) -> float:
        """See `Forecaster`."""
        mean = self._inner.forecast(horizon_s)
        return mean + self._sigmas * math.sqrt(mean)


FORECASTERS: Mapping[str, Callable[..., Forecaster]] = MappingProxyType(
    {"persistence": Persistence, "window_maximum": WindowMaximum, "ewma": Ewma, "holt": Holt}
)
"""By the names that options use."""


def make_forecaster(name: str, **parameters: float) -> Forecaster:
    """The forecaster of that name. ConfigError for an unknown name or a parameter out of its range."""
    if name not in FORECASTERS:
        raise ConfigError(f"forecaster: there is no {name!r}; choose of {', '.join(FORECASTERS)}")
    return FORECASTERS[name](**parameters)


@dataclass(frozen=True, slots=True)
class ForecastError:
    """How far off a forecaster was."""

    mape: float
    """Mean of |forecast - actual| / actual, over the steps at which something arrived."""
    underpredicted: float
    """Part of the steps at which more arrived than was forecast."""
    steps: int


def forecast_error(
    forecaster: Forecaster, counts: Sequence[float], horizon: int = 10, *, history: int = 120
) -> ForecastError:
    """Forecast the peak of the next `horizon` seconds at each second of a trace, from at most `history` past ones.

    The first second is only history. ValueError when the trace is too short for one step.
    """
    steps = range(1, len(counts) - horizon + 1)
    if not steps:
        raise ValueError(f"{len(counts)} seconds are too few to judge forecasts of {horizon} seconds")
    errors: list[float] = []
    under = 0
    for now in steps:
        forecaster.update(counts[max(0, now - history) : now])
        expected, actual = forecaster.forecast(horizon), max(counts[now : now + horizon])
        under += actual > expected
        if actual > 0.0:
            errors.append(abs(expected - actual) / actual)
    return ForecastError(sum(errors) / len(errors) if errors else 0.0, under / len(steps), len(steps))
