"""What the most accurate variants carry on all cores: the mark that a load is measured against.

Two figures, because a pool of cores has two limits. Up to `within_slo_per_s` random arrivals meet the SLO, waits
included: the planner keeps the most accurate variants for that many. `capacity_per_s` is what their work leaves room
for at all, with every core at work: whatever comes beyond it must be turned away, or run on faster variants.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from triscale.core.plan import Plan
from triscale.policy.autoscalers.pooled import PooledPlanner

__all__ = ["Ceiling", "ceiling_of"]

_PRECISION = 1.01
"""Where the search stops: the planner's own demands are 2 % apart."""


class Ceiling(Struct, frozen=True, kw_only=True):
    """See the module. Requests per second at the root."""

    variants: Mapping[str, str]
    """Stage -> the most accurate variant with which the SLO can be met."""
    accuracy: float
    within_slo_per_s: float
    capacity_per_s: float


def ceiling_of(planner: PooledPlanner, cores: int) -> Ceiling | None:
    """The ceiling on so many cores; None where no variants meet the SLO, however few requests come."""
    low, plan = 0.0, planner.plan(0.0, cores)
    if not _at_the_top(plan) or plan.capacity <= 0.0:
        return None
    high = 2.0 * _on_all(plan, cores)
    if _at_the_top(top := planner.plan(high, cores)):
        low, plan = high, top  # fuller batches carry more than the first plan's small ones promised
        while _at_the_top(top := planner.plan(high := 2.0 * high, cores)):
            low, plan = high, top
    while high > _PRECISION * low and high > 1e-3:
        middle = (low + high) / 2.0
        tried = planner.plan(middle, cores)
        if _at_the_top(tried):
            low, plan = middle, tried
        else:
            high = middle
    path = max(plan.paths, key=lambda path: path.share)
    return Ceiling(
        variants=path.variants,
        accuracy=plan.accuracy,
        within_slo_per_s=low,
        capacity_per_s=max(low, _on_all(plan, cores)),
    )


def _at_the_top(plan: Plan) -> bool:
    return plan.feasible and plan.mode == "hardware"


def _on_all(plan: Plan, cores: int) -> float:
    """What the plan's variants carry if all cores are theirs."""
    return plan.capacity * cores / plan.cores if plan.cores > 0.0 else 0.0
