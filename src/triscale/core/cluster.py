"""Machines and what runs on them: the nouns that engines and plans share."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NewType

import msgspec

__all__ = ["Address", "Capabilities", "Node", "NodeId", "Replica", "ReplicaId", "ReplicaSpec", "Resized", "Resizing"]

NodeId = NewType("NodeId", str)
ReplicaId = NewType("ReplicaId", str)

Address = str
"""Where a replica listens: `unix:PATH`, `unix:@NAME` (abstract socket, no file) or `tcp:HOST:PORT`."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, or the part of one that triscale may use."""

    id: NodeId
    cores: float
    """Allocatable cores."""
    memory_bytes: int = 0
    """Allocatable memory; 0 = unknown."""
    gpus: int = 0
    labels: Mapping[str, str] = {}
    ready: bool = True


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to start one replica: a process holding variants of one stage on one node."""

    id: ReplicaId
    stage: str
    variants: tuple[str, ...]
    """Resident variants of the stage, at least one."""
    lanes: int = 1
    """Concurrent executors; cores = lanes * threads."""
    threads: int = 1
    """Intra-op threads of each lane."""
    node: NodeId | None = None
    """Where it must run; None = the engine chooses."""
    cpus: tuple[int, ...] = ()
    """Processors to pin to; empty = the engine chooses."""
    memory_bytes: int = 0
    """What its process may hold; a variant that does not fit is not loaded. 0 = any amount."""

    @property
    def cores(self) -> int:
        """Cores in use when every lane is busy."""
        return self.lanes * self.threads


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that really runs, and could take work from the moment that it was first seen."""

    spec: ReplicaSpec
    node: NodeId
    address: Address
    pid: int = 0
    ready_after_s: float = 0.0
    """Measured cold start: from launch to the first batch it could take."""
    draining: bool = False
    """It was told to end, and only finishes what it has."""


class Resizing(enum.StrEnum):
    """Which way a resize request went."""

    APPLIED = "applied"
    DEFERRED = "deferred"
    """Not now; the engine keeps trying."""
    INFEASIBLE = "infeasible"
    """Never on this node: make another plan."""


class Resized(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a resize: what the replica actually has now."""

    status: Resizing
    lanes: int
    threads: int
    seconds: float = 0.0
    """How long it took to take effect."""
    reason: str = ""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do, so that plans ask for nothing else."""

    in_place: bool
    """Can change the cores of a live replica."""
    fractional: bool
    """Can grant less than a whole core."""
    hard_limit: bool
    """Keeps a replica from using more than it was granted (a quota), rather than only steering it (affinity)."""
    min_step: float
    """Smallest change of cores."""
    placement: bool
    """Can be told which node a replica goes to."""
    hold: bool = False
    """Can change the resident variants of a live replica."""
