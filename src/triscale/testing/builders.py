"""Short ways to write small pipelines and plans in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan, StagePlan, VariantPlan

__all__ = ["TableTimes", "pipeline", "plan", "stage", "variant"]


def variant(
    name: str,
    ms: float | Mapping[int, float],
    *,
    accuracy: float = 1.0,
    fan_out: Mapping[str, float] | None = None,
    max_batch: int = 8,
) -> Variant:
    """A variant that takes `ms` for any batch, or `ms[batch]` with straight lines in between."""
    table = dict(ms) if isinstance(ms, Mapping) else {1: float(ms)}
    return Variant(
        name=name,
        runtime="emulated",
        accuracy=accuracy,
        fan_out=dict(fan_out or {}),
        latency_ms=table,
        max_batch=max_batch,
    )


def stage(*variants: Variant, after: str | tuple[str, ...] = (), join: Literal["each", "all"] = "each") -> Stage:
    """A stage with these variants."""
    return Stage(variants=variants, after=after, join=join)


def pipeline(
    slo_ms: float = 1000.0,
    /,
    *,
    partial: Literal["allow", "deny"] = "deny",
    retries: int = 2,
    **stages: Stage,
) -> Pipeline:
    """A pipeline of the stages given by name."""
    return Pipeline(name="test", slo_ms=slo_ms, stages=stages, partial=partial, retries=retries)


def plan(
    pipeline: Pipeline,
    shares: Mapping[str, Mapping[str, float]] | None = None,
    *,
    batch: int | Mapping[str, int] = 1,
    by_parent: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    linger_s: float = 0.0,
    **fields: Any,
) -> Plan:
    """A plan with these shares and batches; a stage that is not named gives all to its first variant."""
    stages = {}
    for name, spec in pipeline.stages.items():
        mine = (shares or {}).get(name) or {spec.variants[0].name: 1.0}
        size = batch if isinstance(batch, int) else batch.get(name, 1)
        stages[name] = StagePlan(
            variants={own: VariantPlan(share=share, batch=size) for own, share in mine.items()},
            by_parent=(by_parent or {}).get(name, {}),
            linger_s=linger_s,
        )
    return Plan(stages=stages, **fields)


class TableTimes:
    """A `dispatch.stage.ServiceModel` that knows a table and never learns; it records what it was taught."""

    def __init__(self, latency_ms: Mapping[int, float], factor: float = 1.0) -> None:
        points = sorted((batch, ms / 1000.0 * factor) for batch, ms in latency_ms.items())
        self._points: Sequence[tuple[int, float]] = points
        self.observed: list[tuple[int, float]] = []

    def predict(self, batch: int) -> float:
        """Seconds for so many items."""
        points = self._points
        if batch <= points[0][0]:
            return points[0][1]
        for (b1, s1), (b2, s2) in pairwise(points):
            if batch <= b2:
                return s1 + (s2 - s1) * (batch - b1) / (b2 - b1)
        return points[-1][1]

    def typical(self, batch: int) -> float:
        """The same: the table has no spread."""
        return self.predict(batch)

    def expect(self, threads: int, lanes: int) -> None:
        """The table holds for any."""

    def observe(self, batch: int, seconds: float) -> None:
        """Remember the observation, for tests to look at."""
        self.observed.append((batch, seconds))
