"""How far the variants' latencies have moved from their profile, as the dispatcher's models have observed it.

A planner that believed the profile of all but the variants in use would be drawn to those that nobody corrects: on a
machine that has become three times slower, every idle variant looks three times too fast. So what was not observed is
taken to have moved as what was: as the rest of its stage, or else as the rest of the pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from triscale.core.graph import Graph
from triscale.policy.latency import ServiceTimes

__all__ = ["SteadyDrift", "measured_drift"]


def measured_drift(graph: Graph, models: Sequence[Sequence[object]]) -> Mapping[tuple[str, str], float]:
    """(stage, variant) -> how many times slower than profiled it runs now; `Problem.of` takes it as `drift`.

    `models` are the dispatcher's (`dispatcher.stages[s].models[v]`). Those that have no profile (`LearnedTimes`) have
    no drift and are left out. Empty until the first batch was observed.

    A model's drift begins at 1 and takes up a part GAIN of each surprise. So after n batches it has taken up the part
    c = 1 - (1 - GAIN)^n of what there was to learn, and borrows the rest, 1 - c, from the models around it: from their
    geometric mean, each weighted by its own c.
    """
    known = [
        (stage, variant, model)
        for stage, names in enumerate(graph.variants)
        for variant, model in zip(names, models[stage], strict=True)
        if isinstance(model, ServiceTimes)
    ]
    if not any(model.observed for _, _, model in known):
        return {}
    drift: dict[tuple[str, str], float] = {}
    for stage, variant, model in known:
        around = _mean(other for where, _, other in known if where == stage and other is not model)
        if around is None:
            around = _mean(other for _, _, other in known if other is not model) or 0.0
        level = math.log(model.drift) + (1.0 - _learned(model)) * around
        # Own and borrowed parts together stay within what one model may believe.
        drift[graph.stages[stage], variant] = math.exp(max(-model.LIMIT, min(model.LIMIT, level)))
    return drift


def _learned(model: ServiceTimes) -> float:
    """The part of what there was to learn that it has taken up."""
    return float(1.0 - (1.0 - model.GAIN) ** model.observed)


def _mean(models: Iterable[ServiceTimes]) -> float | None:
    """The logarithm of the drift of several together; None when none of them has observed anything."""
    weight = total = 0.0
    for model in models:
        learned = _learned(model)
        weight += learned
        total += learned * math.log(model.drift)
    return total / weight if weight > 0.0 else None


class SteadyDrift:
    """Drift as plans should see it: averaged over so many seconds.

    The dispatcher's models follow every batch, so that deadlines are judged by the moment. A plan that did the same
    would be made anew at each hiccup of the machine.
    """

    __slots__ = ("_at", "_levels", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._levels: dict[tuple[str, str], float] | None = None
        """Logarithms, so that twice as slow and twice as fast cancel out."""
        self._at = 0.0

    def update(self, drift: Mapping[tuple[str, str], float], now: float) -> Mapping[tuple[str, str], float]:
        """What it was until `now` and is now; the first is taken as it is. What is left out has a drift of 1."""
        if self._levels is None:
            self._levels = {key: math.log(factor) for key, factor in drift.items()}
        else:
            weight = -math.expm1(-max(0.0, now - self._at) / self.seconds)
            for key in {*self._levels, *drift}:
                level = self._levels.get(key, 0.0)
                self._levels[key] = level + weight * (math.log(drift.get(key, 1.0)) - level)
        self._at = now
        return {key: math.exp(level) for key, level in self._levels.items()}
