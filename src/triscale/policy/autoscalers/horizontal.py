"""FA2: more and fewer one-core replicas, and nothing else.

Source: Razavi et al., "FA2: Fast, Accurate Autoscaling for Serving Deep Learning Inference with SLA Guarantees", RTAS
2022, as the authors of Themis have it as their baseline (github.com/mehransi/Themis): the horizontal program on the
present rate, at every tick; what it adds is added at once, what it takes away only after `stabilisation` ticks in
which nothing grew.

It may change the number of replicas and their batch size. It may not resize a replica, so every surge waits for a
cold start, nor choose a variant: the most accurate one runs. The latency and wait models are Themis's. Reactive: no
forecast. Kept and mended, and the data plane's setting: as in `themis.py`.
"""

from __future__ import annotations

from dataclasses import replace

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import read_options
from triscale.policy.autoscalers.programs import ProgramOptions, Programs

__all__ = ["Horizontal"]


class Horizontal:
    """See the module. `options` are `ProgramOptions`; `stabilisation` is 10 ticks of 1 s / 20 of 0.5 s."""

    name = "horizontal"
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self.options = options = read_options(self.name, ProgramOptions, setting.options)
        self._programs = Programs(self.name, setting, options)
        self._nodes = setting.nodes
        self.tick_s = self._programs.tick_s
        self._ticks = options.stable_ticks(10)

    def first(self, demand: float) -> Plan:
        """The program's answer."""
        return self._programs.first(demand, self._nodes, "the expected demand")

    def decide(self, snapshot: Snapshot) -> Plan:
        """The program's answer, without what it would take away too early."""
        if not snapshot.per_second:
            return snapshot.plan
        rate = self._programs.load(snapshot)
        running = self._programs.plans.running(snapshot.plan)
        found = self._programs.horizontal(rate, snapshot.nodes)
        one_each = [1] * len(running)
        wanted = self._programs.fitted(found.fleet, one_each, snapshot.nodes, rate)
        grows = any(mine.count > have.count for mine, have in zip(wanted, running, strict=True))
        if not self._ticks.tick(stable=not grows):
            kept = tuple(
                replace(mine, count=max(mine.count, have.count)) for mine, have in zip(wanted, running, strict=True)
            )
            wanted = self._programs.fitted(kept, one_each, snapshot.nodes, rate)
        if wanted == running:
            return snapshot.plan
        return self._programs.plan(wanted, rate, feasible=found.feasible, reason=f"{rate} requests/s on single cores")
