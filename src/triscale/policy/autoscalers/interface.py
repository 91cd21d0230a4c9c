"""What an autoscaler is: something that looks at a snapshot and says what should run.

Every autoscaler, triscale's own and the baselines, is one class in one file of this package, is driven by the
simulator and by the controller alike, and acts on the same data plane. It may keep state between calls (a counter, a
window of its own), but reads no clock and draws no random numbers: the same snapshots give the same plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import Profile
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot

__all__ = ["Autoscaler", "Provident", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where an autoscaler is to work: everything that does not change while it does."""

    graph: Graph
    profile: Profile
    nodes: Sequence[Node]
    min_accuracy: float = 0.0
    cold_start_s: float = 0.0
    """What a launch is expected to take, until it has been measured."""
    resize_s: float = 0.0
    """What a resize is expected to take, likewise."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """`policy.options` of the pipeline file, or the command line's; each autoscaler documents its own."""
    future: Callable[[float], float] | None = None
    """Seconds on the driver's clock -> requests/s that will arrive then. Only the oracle may look."""


class Autoscaler(Protocol):
    """Decides what should run. Implementations are made by `registry.make_autoscaler`."""

    name: str
    tick_s: float
    """How often it wants to be asked."""
    dispatch: Settings
    """The data plane's settings that its published system works with; triscale's own are the defaults."""

    def first(self, demand: float) -> Plan:
        """What should run before the first request, if about `demand` requests/s are expected."""
        ...

    def decide(self, snapshot: Snapshot) -> Plan:
        """What should run from now on; `snapshot.plan` itself for no change. Never raises for a world it dislikes."""
        ...


@runtime_checkable
class Provident(Protocol):
    """An autoscaler that can do some of the work of later decisions while nothing happens.

    Only the controller asks for it: in a simulation deciding takes no time.
    """

    def prepare(self) -> bool:
        """A little of it, tens of milliseconds; False when nothing is left to be done ahead."""
        ...
