"""Which variants each replica of a stage holds, where a node's memory does not hold all of them.

Memory is divided among the stages once; within its part, a stage's variants change with what the plans would use.
"""

from __future__ import annotations

from collections.abc import Mapping

from triscale.core.plan import Plan, VariantPlan
from triscale.policy.autoscalers.interface import Setting

__all__ = ["Residency", "is_worth", "resident_variants"]

_GAIN = 0.001
"""A plan with other variants must be more accurate by so much, or carry so much more of the demand, to be worth loading
them."""


class Residency:
    """Stage -> its resident variants, most accurate first, and what its replicas may hold."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.variants = resident_variants(setting)
        self.scarce = any(len(self.variants[name]) < len(all_) for name, all_ in _stages(setting))
        """Memory does not hold all variants."""
        self.rooms = self._rooms() if self.scarce else dict.fromkeys(self.variants, 0)
        """Stage -> bytes that each of its replicas may hold; 0 = any amount."""

    def for_plan(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """Of each stage's variants its fastest one and, as far as its part of the memory allows, those that the plan
        uses, those with the largest shares first; then its most accurate one, those that are resident, the smallest.
        """
        return {name: self._fitting(name, plan.stages[name].variants) for name in self.variants}

    def _fitting(self, stage: str, planned: Mapping[str, VariantPlan]) -> tuple[str, ...]:
        ranked = _by_accuracy(self._setting, stage)
        fastest = _fastest(self._setting, stage)

        def order(variant: str) -> tuple[bool, float, bool, bool, int, str]:
            share = planned[variant].share if variant in planned else 0.0
            resident = variant in self.variants[stage]
            size = _size(self._setting, stage, variant)
            return variant != fastest, -share, variant != ranked[0], not resident, size, variant

        chosen, left = set(), self.rooms[stage]
        for variant in sorted(ranked, key=order):
            if _size(self._setting, stage, variant) <= left:
                chosen.add(variant)
                left -= _size(self._setting, stage, variant)
        return tuple(variant for variant in ranked if variant in chosen)

    def _rooms(self) -> dict[str, int]:
        """What the stage's resident variants take, and an equal part of what is left of the smallest node."""
        takes = {name: sum(_size(self._setting, name, v) for v in variants) for name, variants in self.variants.items()}
        left = max(0, _room(self._setting) - sum(takes.values()))
        return {name: taken + left // len(takes) for name, taken in takes.items()}


def resident_variants(setting: Setting) -> dict[str, tuple[str, ...]]:
    """All variants of every stage where the smallest node's memory holds them; else as many as it does.

    Each stage keeps its most accurate and its fastest variant; of the others the largest go first.
    """
    room = _room(setting)
    chosen = {name: set(variants) for name, variants in _stages(setting)}
    kept = {(name, _by_accuracy(setting, name)[0]) for name in chosen} | {
        (name, _fastest(setting, name)) for name in chosen
    }
    spare = sorted(
        ((name, v) for name, variants in chosen.items() for v in variants if (name, v) not in kept),
        key=lambda pair: (-_size(setting, *pair), pair),
    )
    held = sum(_size(setting, name, v) for name, variants in chosen.items() for v in variants)
    for name, variant in spare:
        if not room or held <= room:
            break
        chosen[name].discard(variant)
        held -= _size(setting, name, variant)
    return {name: tuple(v for v in _by_accuracy(setting, name) if v in variants) for name, variants in chosen.items()}


def is_worth(better: Plan, than: Plan) -> bool:
    """Whether other variants are worth loading for a plan: it carries more, or as much at a higher accuracy."""
    if better.served_fraction >= than.served_fraction + _GAIN:
        return True
    return better.served_fraction >= than.served_fraction and better.accuracy >= than.accuracy + _GAIN


def _stages(setting: Setting) -> list[tuple[str, tuple[str, ...]]]:
    return list(zip(setting.graph.stages, setting.graph.variants, strict=True))


def _by_accuracy(setting: Setting, stage: str) -> list[str]:
    s = setting.graph.stage(stage)
    accuracy: Mapping[str, float] = dict(zip(setting.graph.variants[s], setting.graph.accuracy[s], strict=True))
    return sorted(accuracy, key=lambda v: (-accuracy[v], v))


def _fastest(setting: Setting, stage: str) -> str:
    names = setting.graph.variants[setting.graph.stage(stage)]
    return min(names, key=lambda v: min(point.p95_s for point in setting.profile.stages[stage][v].latency))


def _size(setting: Setting, stage: str, variant: str) -> int:
    return setting.profile.stages[stage][variant].memory_bytes


def _room(setting: Setting) -> int:
    """Of the smallest node that states its memory; 0 where none does."""
    return min((node.memory_bytes for node in setting.nodes if node.memory_bytes), default=0)
