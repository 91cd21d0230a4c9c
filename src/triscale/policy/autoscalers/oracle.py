"""The bound: triscale with the rate of the arrivals known instead of estimated, and every decision true at once.

It plans for the highest rate between an SLO ago (those requests are still being served) and its next tick, with the
same planner, cores pooled and all variants resident, the same look at what arrives beyond its noise and the same care
for backlogs. So it neither lags nor holds on to anything: between it and triscale lies what not knowing costs. Only a
simulation can tell it the future, and there it is run without cold starts and resize times. What it does not know is
the noise of the arrivals around their rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from msgspec import Struct

from triscale.core.cluster import Node
from triscale.core.plan import Plan
from triscale.core.snapshot import RECENT_S, Snapshot
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, read_options
from triscale.policy.autoscalers.static import needed, on_nodes
from triscale.policy.autoscalers.triscale import Triscale

__all__ = ["Oracle", "OracleOptions"]

_LOOK_S = 0.05
"""The future is looked at so finely."""
_WINDOWS_S = (0.2, 0.5, 1.0)
"""In which more than the known rate may arrive."""


class OracleOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `oracle`."""

    tick_s: Above0 = 0.1


class Oracle(Triscale):
    """See the module. `options` are `OracleOptions`. ConfigError without a future to look into."""

    name = "oracle"

    def __init__(self, setting: Setting) -> None:
        if setting.future is None:
            raise ConfigError(
                "policy: oracle needs to know how many requests will arrive, which only a simulation does; "
                "use triscale here"
            )
        tick_s = read_options(self.name, OracleOptions, setting.options).tick_s
        super().__init__(dataclasses.replace(setting, options={}))
        self.tick_s = tick_s
        self._future = setting.future
        self._slo_s = setting.graph.pipeline.slo_s

    def first(self, demand: float) -> Plan:
        """For the expected demand."""
        plan = self._on(self._setting.nodes, demand)
        if plan is None:
            raise ConfigError("nodes: there is not a whole core on any node that is ready; add cores")
        return plan

    def decide(self, snapshot: Snapshot) -> Plan:
        """For the known rate, and for what arrives and waits beyond it."""
        self._planner.learn(snapshot.drift, snapshot.fan_out)
        plan = self._on(snapshot.nodes, self._demand(snapshot))
        return snapshot.plan if plan is None or plan == snapshot.plan else plan

    def _demand(self, snapshot: Snapshot) -> float:
        span = self._slo_s + self.tick_s
        steps = math.ceil(span / _LOOK_S)
        start = snapshot.now - self._slo_s
        rate = demand = max(self._future(start + span * i / steps) for i in range(steps + 1))
        for seconds in _WINDOWS_S:
            windows = round(seconds / RECENT_S)
            if len(snapshot.recent) >= windows:
                arrived = sum(snapshot.recent[-windows:]) / seconds
                # A count of Poisson arrivals has its mean as its variance.
                demand = max(demand, arrived - self.options.sigmas * math.sqrt(rate / seconds))
        return demand + self._backlog(snapshot)

    def _on(self, nodes: Sequence[Node], demand: float) -> Plan | None:
        """The plan for a demand on as few cores as carry it; None where there is not one."""
        total = sum(int(node.cores) for node in nodes if node.ready)
        if total < 1:
            return None
        plan = self._planner.plan(demand, total)
        return on_nodes(self._planner, plan, nodes, needed(plan, total))
