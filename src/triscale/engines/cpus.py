"""Which processors each local replica runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["assign"]

K = TypeVar("K")


def assign(cpus: Sequence[int], cores: Mapping[K, int], held: Mapping[K, Sequence[int]]) -> dict[K, tuple[int, ...]]:
    """The processors of every replica, given how many `cores` each wants and what each has `held` so far.

    While there are enough, each gets its own, and keeps as many as it can. Otherwise all share all: the kernel
    spreads their lanes better than any fixed split would.
    """
    if sum(cores.values()) > len(cpus):
        return {key: tuple(cpus) for key in cores}
    free = set(cpus)
    kept: dict[K, list[int]] = {}
    for key, count in cores.items():
        kept[key] = [cpu for cpu in held.get(key, ()) if cpu in free][:count]
        free.difference_update(kept[key])
    spare = sorted(free)
    for key, count in cores.items():
        missing = count - len(kept[key])
        kept[key] += spare[:missing]
        del spare[:missing]
    return {key: tuple(sorted(own)) for key, own in kept.items()}
