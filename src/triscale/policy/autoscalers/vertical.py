"""Sponge on a pipeline: a fixed number of replicas whose cores grow and shrink in place.

Source: Razavi et al., "Sponge: Inference Serving with Dynamic SLOs Using In-Place Vertical Scaling", EuroMLSys 2024, as
the authors of Themis have it as their baseline (github.com/mehransi/Themis): the vertical program at every tick, whose
extra replicas are ignored. Their `vomax` has as many replicas as carry the peak with the most cores: `replicas: peak`.

It may change the cores of a replica (intra-op threads of one lane) and its batch size. It may not start a replica, so
it ends where the most cores of one end, nor choose a variant: the most accurate one runs. The latency and wait models
are Themis's. Reactive: no forecast. Kept and mended, and the data plane's setting: as in `themis.py`; Sponge's own
queue is ordered by deadline, as ours is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import Meta

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import read_options
from triscale.policy.autoscalers.programs import ProgramOptions, Programs

__all__ = ["Vertical", "VerticalOptions"]


class VerticalOptions(ProgramOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `vertical`. `stabilisation` is none / 20 ticks of 0.5 s."""

    replicas: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["peak"], Meta(description="a whole number, at least 1, or `peak`")
    ] = 1
    """Of each stage; `peak`: as many as carry `peak_rate` with the most cores."""
    peak_rate: Annotated[Annotated[float, Meta(gt=0.0)] | None, Meta(description="a number of requests/s above 0")] = (
        None
    )
    """What the load will rise to. (The authors take it from the trace.)"""


class Vertical:
    """See the module. `options` are `VerticalOptions`."""

    name = "vertical"
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self.options = options = read_options("vertical", VerticalOptions, setting.options)
        if options.replicas == "peak" and options.peak_rate is None:
            raise ConfigError(
                "policy.options.replicas: is `peak`, but how high that is is not said; state `peak_rate` in requests/s"
            )
        self._programs = Programs("vertical", setting, options)
        self._nodes = setting.nodes
        self.tick_s = self._programs.tick_s
        self._ticks = options.stable_ticks(0)
        stages = len(setting.graph.stages)
        if options.peak_rate is not None and options.replicas == "peak":
            self._counts = self._programs.fewest_at_most_cores(max(1, int(options.peak_rate)), setting.nodes)
        else:
            self._counts = (int(options.replicas),) * stages

    def first(self, demand: float) -> Plan:
        """The program's answer for the fixed replicas."""
        rate = max(1, int(demand))
        found = self._programs.vertical(rate, self._counts)
        fleet = self._programs.fitted(found.fleet, self._counts, self._nodes, rate)
        return self._programs.plan(fleet, rate, feasible=not any(found.extra), reason="the expected demand")

    def decide(self, snapshot: Snapshot) -> Plan:
        """The program's answer, without what it would take away too early."""
        if not snapshot.per_second:
            return snapshot.plan
        rate = self._programs.load(snapshot)
        running = self._programs.plans.running(snapshot.plan)
        found = self._programs.vertical(rate, self._counts)
        wanted = found.fleet
        grows = any(mine.cores > have.cores for mine, have in zip(wanted, running, strict=True))
        if not self._ticks.tick(stable=not grows):
            wanted = tuple(
                replace(mine, cores=max(mine.cores, have.cores)) for mine, have in zip(wanted, running, strict=True)
            )
        fleet = self._programs.fitted(wanted, self._counts, snapshot.nodes, rate)
        if fleet == running:
            return snapshot.plan
        reason = f"{rate} requests/s on the replicas there are"
        return self._programs.plan(fleet, rate, feasible=found.feasible and not any(found.extra), reason=reason)
