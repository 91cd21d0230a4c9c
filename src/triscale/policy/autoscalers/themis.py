"""Themis: surges are met by resizing what runs, and handed over to one-core replicas when they are over.

Source: Razavi et al., "A Tale of Two Scales: Reconciling Horizontal and Vertical Scaling for Inference Serving
Systems", arXiv 2407.14843, in the form of the authors' code, github.com/mehransi/Themis: revision 2024 is b01017f,
three days after the paper; revision 2025 is 8b3bfdd, a year later, with another state machine.

It may change the number of replicas of a stage and, in place, their cores, which are intra-op threads of one lane. It
may not use several lanes per replica, keep variants resident, or change accuracy: the most accurate variant runs. Its
latency model is one formula per stage, and its wait is the time in which a batch fills, none for a busy replica.

Kept, because they are the published system: no backlog enters a decision; all replicas of a stage have the same cores;
the vertical stage never shrinks; where the cores run out *every* stage gets extra replicas, though one may be short;
2024 compares the mean of two seconds with the peak of ten. Mended: it neither fails nor stops where its programs have
no answer (`programs.py`); it waits neither for full batches nor for replicas that start, and nothing is stopped with
work in it (the data plane and `policy/reconcile.py`); a plan never asks for more cores than the nodes have, where the
authors' asks for 37 of 32 in the first surge of their own video pipeline.

The data plane drops what is predicted to be late, at any stage. The authors' drops at the SLO's end in 2024 and not at
all in 2025; both let a backlog make everything behind it late, so this is the baseline's best setting. It has no door.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from msgspec import Meta

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import read_options
from triscale.policy.autoscalers.programs import ProgramOptions, Programs
from triscale.policy.autoscalers.uniform import Fleet
from triscale.policy.forecast import make_forecaster

__all__ = ["Themis", "ThemisOptions"]

_HORIZON_S = 10.0
"""How far ahead the published predictors look."""


class ThemisOptions(ProgramOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `themis`. `stabilisation` is 10 ticks of 1 s (the authors: 5 for video) / 20 of 0.5 s."""

    forecaster: Annotated[
        Literal["persistence", "window_maximum", "ewma", "holt"],
        Meta(description="a forecaster: persistence, window_maximum, ewma or holt"),
    ] = "window_maximum"
    """Stands for the published neural network, which is no better (docs/baselines.md)."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a decision is made from."""

    rate: int
    """Requests/s now."""
    coming: int
    """The most in the next 10 s."""
    running: Fleet
    """What the plan in force has; replicas that start count."""
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class _Move:
    """What a decision comes to."""

    fleet: Fleet
    feasible: bool
    reason: str


class Themis:
    """See the module. `options` are `ThemisOptions`."""

    name = "themis"
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self.options = options = read_options("themis", ThemisOptions, setting.options)
        self._programs = Programs("themis", setting, options)
        self._nodes = setting.nodes
        self.tick_s = self._programs.tick_s
        self._forecaster = make_forecaster(options.forecaster)
        self._ticks = options.stable_ticks(10)

    def first(self, demand: float) -> Plan:
        """The horizontal program's answer. (The authors start with one core per stage, in 2025 with this.)"""
        return self._programs.first(demand, self._nodes, "the expected demand, on single cores")

    def decide(self, snapshot: Snapshot) -> Plan:
        """One turn of the state machine."""
        if not snapshot.per_second:
            return snapshot.plan
        self._forecaster.update(snapshot.per_second)
        seen = _Seen(
            rate=self._programs.load(snapshot),
            coming=max(1, int(self._forecaster.forecast(_HORIZON_S))),
            running=self._programs.plans.running(snapshot.plan),
            snapshot=snapshot,
        )
        move = self._revision_2025(seen) if self.options.revised else self._revision_2024(seen)
        if move is None or move.fleet == seen.running:
            return snapshot.plan
        return self._programs.plan(move.fleet, seen.rate, feasible=move.feasible, reason=move.reason)

    def _revision_2024(self, seen: _Seen) -> _Move | None:
        """Vertical as long as anything grows; horizontal after enough ticks in which nothing did."""
        nodes = seen.snapshot.nodes
        now = self._programs.horizontal(seen.rate, nodes).fleet
        later = self._programs.horizontal(seen.coming, nodes).fleet
        up = self._programs.vertical(seen.rate, [mine.count for mine in seen.running])
        stable = (
            sum(up.extra) == 0
            and all(want.cores <= have.cores for want, have in zip(up.fleet, seen.running, strict=True))
            and all(mine.count >= then.count for mine, then in zip(now, later, strict=True))
        )
        if self._ticks.tick(stable=stable):
            return self._horizontal(seen, f"{seen.rate} requests/s and not rising: single cores")
        return None if stable else self._vertical(seen)

    def _revision_2025(self, seen: _Seen) -> _Move | None:
        """Horizontal unless the capacity is exceeded or about to be; scale-in alone waits."""
        capacity = min(self._programs.capacity(s, mine, seen.rate) for s, mine in enumerate(seen.running))
        exhausted = any(mine.cores >= self._programs.most_cores for mine in seen.running)
        rising = seen.coming > capacity or seen.rate >= capacity
        if rising and not exhausted:
            self._ticks.tick(stable=False)
            return self._vertical(seen)
        why = "the cores per replica are used up" if rising else f"{seen.rate} of {capacity:.0f} requests/s"
        move = self._horizontal(seen, f"{why}: single cores")
        # One more where cores go: the authors' guard against flapping.
        fleet = tuple(
            replace(mine, count=mine.count + 1) if have.cores > 1 else mine
            for mine, have in zip(move.fleet, seen.running, strict=True)
        )
        move = replace(move, fleet=self._programs.fitted(fleet, [1] * len(fleet), seen.snapshot.nodes, seen.rate))
        if any(mine.count > have.count for mine, have in zip(move.fleet, seen.running, strict=True)):
            self._ticks.tick(stable=False)
            return move
        fewer = any(
            mine.count < have.count or have.cores > 1 for mine, have in zip(move.fleet, seen.running, strict=True)
        )
        return move if self._ticks.tick(stable=True) or not fewer else None

    def _horizontal(self, seen: _Seen, reason: str) -> _Move:
        """One-core replicas; those that are there keep their cores until the missing ones have started."""
        nodes = seen.snapshot.nodes
        found = self._programs.horizontal(seen.rate, nodes)
        fleet = self._programs.fitted(found.fleet, [1] * len(found.fleet), nodes, seen.rate)
        return _Move(fleet, found.feasible, reason)

    def _vertical(self, seen: _Seen) -> _Move:
        """More cores for what runs, and extra replicas where the most cores are not enough; never fewer cores."""
        counts = [mine.count for mine in seen.running]
        found = self._programs.vertical(seen.rate, counts)
        wanted = tuple(
            replace(mine, count=mine.count + more, cores=max(mine.cores, have.cores))
            for mine, more, have in zip(found.fleet, found.extra, seen.running, strict=True)
        )
        fleet = self._programs.fitted(wanted, counts, seen.snapshot.nodes, seen.rate)
        reason = f"{seen.rate} requests/s now, {seen.coming} coming: more cores for the replicas there are"
        if any(found.extra):
            reason += ", and more replicas"
        if fleet != wanted:
            reason += "; cut down to the nodes' cores"
        return _Move(fleet, found.feasible, reason)
