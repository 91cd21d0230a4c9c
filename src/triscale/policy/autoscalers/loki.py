"""Loki: servers in and out, and accuracy where servers run out (Ahmad et al., HPDC 2024, arXiv 2407.03583).

Every `interval_s` the resource manager smooths the demand and solves its two steps (`servers.py`): fewest servers with
the most accurate variants, else the highest accuracy with all servers. Every second the load balancer splits the load
over what is ready, the most accurate first (`balancer.py`), and at every batch the data plane drops what would be late
or reroutes it to a faster variant with capacity to spare. A server is one core and one variant: there are no resident
variants to switch between and nothing is resized, so every change of plan is a launch.

Kept as published: half the SLO for waiting whatever the load, median latencies, servers that are counted on all the
time, no admission, no hysteresis, everything that a plan changes changed at once. Mended against the authors' simulator
(github.com/UMass-LIDS/Loki at e6bb80c): any pipeline instead of one that is built in, every branch in the plan,
fan-outs measured instead of constants, no floor under the demand, over-provisioning that reaches the root too, a
best-effort plan instead of an exception where demand is too high, load balancing that is refreshed, that fills the
most accurate tier first rather than last and keeps head-room, and rerouting that saves late items instead of diverting
those on time. Where paper and simulator differ, the defaults are what served it best (docs/baselines.md).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.balancer import LoadBalancer
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, read_options
from triscale.policy.autoscalers.servers import Beta, Com, ServerPlanner
from triscale.policy.forecast import Ewma

__all__ = ["Loki", "LokiOptions"]


class LokiOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `loki`."""

    interval_s: Above0 = 10.0
    """Time between two plans: 10 s in the paper, 1 s in the authors' simulator. With model loads of a second, planning
    every second has twice the violations."""
    com: Com = 1.6
    """Centre of mass of the smoothing of the last 20 seconds' demand: the newest second weighs 1 / (1 + com)."""
    beta: Beta = 1.2
    """Over-provisioning: every stage is planned for so many times its demand. In the simulator 1, 1.05 or 1.2, behind
    the root only; what is planned to the brim is late whenever the smoothed demand is a little too low."""
    headroom: Annotated[float, Meta(gt=0.0, le=1.0, description="a number above 0 and up to 1")] = 0.8
    """Part of a tier that fills before a less accurate one is used; published is 1."""
    change: Annotated[float, Meta(ge=0.0, description="a number from 0 on, 0.2 for a fifth")] = 0.2
    """Relative change of the demand that brings the next plan forward; 0 = none does. By default when `beta` is used
    up."""


class Loki:
    """See the module. `options` are `LokiOptions`."""

    name = "loki"
    tick_s = 1.0
    dispatch = Settings(drop="reroute", admission=False)

    def __init__(self, setting: Setting) -> None:
        self._nodes = setting.nodes
        self.options = read_options(self.name, LokiOptions, setting.options)
        self._planner = ServerPlanner(self.name, setting, self.options.beta)
        self._balancer = LoadBalancer(self.options.headroom)
        self._demand = Ewma(self.options.com)
        self._plan: Plan | None = None
        """The last one that was solved; what runs has other shares."""
        self._planned_at = 0.0
        self._planned_for = 0.0

    def first(self, demand: float) -> Plan:
        """The two steps for the expected demand."""
        self._plan = self._planner.plan(demand, self._nodes, None)
        self._planned_for = demand
        return self._plan

    def decide(self, snapshot: Snapshot) -> Plan:
        """A new plan when one is due; and in any case the shares that fit the moment."""
        if not snapshot.per_second:
            return snapshot.plan
        self._demand.update(snapshot.per_second)
        demand = self._demand.forecast(1.0)
        if self._plan is None or self._due(snapshot.now, demand):
            self._planner.learn(snapshot.fan_out)
            self._plan = self._planner.plan(demand, snapshot.nodes, self._plan)
            self._planned_at, self._planned_for = snapshot.now, demand
        return self._balancer.balanced(self._plan, demand, snapshot, self._planner.problem)

    def _due(self, now: float, demand: float) -> bool:
        # Half a tick early rather than a whole one late.
        if now >= self._planned_at + self.options.interval_s - 0.5 * self.tick_s:
            return True
        change = self.options.change
        return change > 0.0 and abs(demand - self._planned_for) > change * self._planned_for
