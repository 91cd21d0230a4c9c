"""Which processors each local replica runs on.

Every replica gets as many as it has cores, and no processor serves two more replicas than another does. So while
there are enough, nobody shares; and where replicas share a node's cores, each has as many processors as lanes of it
may ever run, so that whichever lanes run, in all no more than the cores granted, each finds a processor of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["assign"]

K = TypeVar("K")


def assign(cpus: Sequence[int], cores: Mapping[K, int], held: Mapping[K, Sequence[int]]) -> dict[K, tuple[int, ...]]:
    """The processors of every replica, given how many `cores` each has and which processors it has `held` so far.

    A replica keeps as many as it can; one of more cores than there are processors gets all.
    """
    own = {key: list(dict.fromkeys(cpu for cpu in held.get(key, ()) if cpu in cpus)) for key in cores}
    load = {cpu: sum(cpu in mine for mine in own.values()) for cpu in sorted(cpus)}
    for key, mine in own.items():
        count = min(cores[key], len(load))
        while len(mine) > count:
            load[_give_back(mine, load)] -= 1
        while len(mine) < count:
            mine.append(min((cpu for cpu in load if cpu not in mine), key=load.__getitem__))
            load[mine[-1]] += 1
    while load:
        most, least = max(load, key=load.__getitem__), min(load, key=load.__getitem__)
        if load[most] - load[least] < 2:
            break
        # There is one that has the former but not the latter. The last to come is the first to move.
        mover = next(mine for mine in reversed(own.values()) if most in mine and least not in mine)
        mover[mover.index(most)] = least
        load[most] -= 1
        load[least] += 1
    return {key: tuple(sorted(mine)) for key, mine in own.items()}


def _give_back(mine: list[int], load: Mapping[int, int]) -> int:
    """Take the processor off a replica's that most others use, too; of equal ones the last."""
    given = max(mine, key=lambda cpu: (load[cpu], cpu))
    mine.remove(given)
    return given
