"""Lanes into replicas, replicas onto nodes: a lane does not span nodes, a replica holds its weights once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triscale.policy.optimise.decision import Decision
from triscale.policy.optimise.problem import Problem

__all__ = ["Placement", "fits", "place"]

Placement = Mapping[tuple[int, int], tuple[tuple[int, int], ...]]
"""(stage, variant) -> (node index, lanes) of each replica."""


@dataclass(slots=True)
class _Room:
    """What is free on a node."""

    index: int
    cores: int
    gpus: int
    memory: float
    """Bytes; inf where the node does not say."""


def fits(problem: Problem, decision: Decision) -> bool:
    """Whether all lanes can be placed."""
    if decision.cores > problem.cores:
        return False
    return (_only_cores(problem) and len(problem.nodes) == 1) or place(problem, decision) is not None


def _only_cores(problem: Problem) -> bool:
    """Whether nothing but cores is limited."""
    limited = problem.settings.replicas or problem.settings.replica_cores is not None or problem.nodes[0].memory_bytes
    return not limited and not any(choice.gpus for choices in problem.choices for choice in choices)


def place(problem: Problem, decision: Decision) -> Placement | None:
    """Where each replica goes: the widest lanes first, each variant on as few nodes as it can; None if not all fit.

    Exact for cores when thread counts divide each other; for memory it is a good guess (first fit, decreasing).
    """
    rooms = [
        _Room(i, int(node.cores), node.gpus, float(node.memory_bytes) if node.memory_bytes else float("inf"))
        for i, node in enumerate(problem.nodes)
    ]
    placed: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for key in _hardest_first(problem, decision):
        choice, pool = problem.choices[key[0]][key[1]], decision.pools[key]
        found = _put(
            rooms, pool.lanes, pool.point.threads, choice.gpus, choice.memory_bytes, _most_lanes(problem, decision, key)
        )
        if found is None:
            return None
        placed[key] = found
    return _within_bounds(problem, rooms, placed)


def _hardest_first(problem: Problem, decision: Decision) -> list[tuple[int, int]]:
    def hardness(key: tuple[int, int]) -> tuple[int, int, int, int, tuple[int, int]]:
        choice, pool = problem.choices[key[0]][key[1]], decision.pools[key]
        return (-choice.gpus, -pool.point.threads, -choice.memory_bytes, -pool.lanes, key)

    return sorted((key for key, pool in decision.pools.items() if pool.lanes > 0), key=hardness)


def _most_lanes(problem: Problem, decision: Decision, key: tuple[int, int]) -> int:
    """Most lanes of one replica."""
    threads = decision.pools[key].point.threads
    limit = problem.settings.replica_cores
    return max(1, limit // threads) if limit is not None else max(1, problem.cores)


def _put(
    rooms: list[_Room], lanes: int, threads: int, gpus: int, memory: int, most: int
) -> list[tuple[int, int]] | None:
    """Place lanes of one kind and take their room; None (and nothing usable left) where they do not fit."""
    replicas: list[tuple[int, int]] = []
    left = lanes
    while left > 0:
        room = max(
            rooms, key=lambda r: (min(left, _holds(r, threads, gpus, memory, most)), -r.cores, -r.index), default=None
        )
        here = min(left, _holds(room, threads, gpus, memory, most)) if room is not None else 0
        if room is None or here == 0:
            return None
        room.cores -= here * threads
        room.gpus -= here * gpus
        room.memory -= memory
        replicas.append((room.index, here))
        left -= here
    return replicas


def _holds(room: _Room, threads: int, gpus: int, memory: int, most: int) -> int:
    """Lanes that one more replica of the kind could have on the node."""
    if memory > room.memory:
        return 0
    lanes = min(room.cores // threads, most)
    return min(lanes, room.gpus // gpus) if gpus else lanes


def _within_bounds(
    problem: Problem, rooms: list[_Room], placed: dict[tuple[int, int], list[tuple[int, int]]]
) -> Placement | None:
    """Split replicas until each stage has as many as it must; None where it must not have as many as it needs."""
    for stage, name in enumerate(problem.graph.stages):
        bounds = problem.settings.bounds(name)
        mine = [key for key in placed if key[0] == stage]
        count = sum(len(placed[key]) for key in mine)
        while count < bounds.least and mine:
            key = max(mine, key=lambda k: max(lanes for _, lanes in placed[k]))
            node, lanes = max(placed[key], key=lambda replica: replica[1])
            memory = problem.choices[key[0]][key[1]].memory_bytes
            if lanes < 2 or memory > rooms[node].memory:
                return None
            rooms[node].memory -= memory
            placed[key].remove((node, lanes))
            placed[key] += [(node, lanes - lanes // 2), (node, lanes // 2)]
            count += 1
        if bounds.most is not None and count > bounds.most:
            return None
    return {key: tuple(replicas) for key, replicas in placed.items()}
