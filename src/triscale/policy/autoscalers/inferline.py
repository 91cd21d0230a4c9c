"""InferLine as Loki's evaluation models it: servers in and out, always the most accurate variants.

The first of Loki's two steps alone (`servers.py`). Where all servers with the most accurate variants do not carry the
demand, they carry as much of it as they can, and the rest is late or dropped. It sees the whole pipeline: one root
demand, fan-outs, one SLO. Between plans nothing changes; it drops at every stage what would be late, and has no
faster variants to reroute to.

This is the modelling of Loki's authors (arXiv 2407.03583 and its simulator), not InferLine's own planner and tuner
(Crankshaw et al., SoCC 2020), which works with traffic envelopes. Mended as `loki.py` says.
"""

from __future__ import annotations

from msgspec import Struct

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, read_options
from triscale.policy.autoscalers.servers import Beta, Com, ServerPlanner
from triscale.policy.forecast import Ewma

__all__ = ["InferLine", "InferLineOptions"]


class InferLineOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `inferline`."""

    interval_s: Above0 = 10.0
    """Time between two plans: 10 s for traffic analysis and 1 s for social media in Loki's simulator."""
    com: Com = 1.6
    """Centre of mass of the smoothing of the last 20 seconds' demand: the newest second weighs 1 / (1 + com)."""
    beta: Beta = 1.2
    """Over-provisioning: every stage is planned for so many times its demand."""


class InferLine:
    """See the module. `options` are `InferLineOptions`."""

    name = "inferline"
    tick_s = 1.0
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self._nodes = setting.nodes
        self.options = read_options(self.name, InferLineOptions, setting.options)
        self._planner = ServerPlanner(self.name, setting, self.options.beta, only_best=True)
        self._demand = Ewma(self.options.com)
        self._planned_at = 0.0

    def first(self, demand: float) -> Plan:
        """As many servers as the expected demand needs."""
        return self._planner.plan(demand, self._nodes, None)

    def decide(self, snapshot: Snapshot) -> Plan:
        """As many servers as the smoothed demand needs, whenever a plan is due."""
        if not snapshot.per_second or snapshot.now < self._planned_at + self.options.interval_s - 0.5 * self.tick_s:
            return snapshot.plan
        self._planned_at = snapshot.now
        self._planner.learn(snapshot.fan_out)
        self._demand.update(snapshot.per_second)
        plan = self._planner.plan(self._demand.forecast(1.0), snapshot.nodes, snapshot.plan)
        return snapshot.plan if plan == snapshot.plan else plan
