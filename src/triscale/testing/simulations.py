"""Short ways to write simulations in tests: an autoscaler that follows a script, traces, plans with replicas."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot

__all__ = ["PoissonTrace", "Script", "Times", "with_groups"]


class Script:
    """An autoscaler that begins with a plan and takes others over at the ticks at or after given times."""

    def __init__(
        self,
        first: Plan,
        changes: Mapping[float, Plan] | None = None,
        *,
        tick_s: float = 0.1,
        dispatch: Settings | None = None,
    ) -> None:
        self.name = "script"
        self.tick_s = tick_s
        self.dispatch = dispatch or Settings(admission=False)
        self.seen: list[Snapshot] = []
        """Every snapshot that it was shown."""
        self.demand = -1.0
        """What the first plan was asked for."""
        self.watch: Callable[[Snapshot], None] = self.seen.append
        self._first = first
        self._changes = sorted((changes or {}).items(), key=lambda change: change[0])

    def first(self, demand: float) -> Plan:
        """The script's."""
        self.demand = demand
        return self._first

    def decide(self, snapshot: Snapshot) -> Plan:
        """The next plan of the script once it is due."""
        self.watch(snapshot)
        if self._changes and snapshot.now >= self._changes[0][0] - 1e-9:
            return self._changes.pop(0)[1]
        return snapshot.plan


class Times:
    """A trace with requests at these times."""

    def __init__(self, times: Sequence[float], seconds: float) -> None:
        self.seconds = seconds
        self._times = times

    def arrivals(self, rng: random.Random) -> Iterator[float]:  # noqa: ARG002 - nothing is random here
        """The times, as they are."""
        return iter(self._times)


class PoissonTrace:
    """A trace with `rate` requests/s on average, independent of each other."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.seconds = seconds
        self._rate = rate

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """Exponential gaps."""
        at = rng.expovariate(self._rate)
        while at < self.seconds:
            yield at
            at += rng.expovariate(self._rate)


def with_groups(pipeline: Pipeline, plan: Plan, **groups: ReplicaGroup | Sequence[ReplicaGroup]) -> Plan:
    """The plan with these groups of replicas per stage; a stage not named has one replica of one lane, all variants."""
    stages = {}
    for name, stage in plan.stages.items():
        alone = ReplicaGroup(variants=tuple(variant.name for variant in pipeline.stages[name].variants))
        mine = groups.get(name, alone)
        stages[name] = replace(stage, groups=(mine,) if isinstance(mine, ReplicaGroup) else tuple(mine))
    return replace(plan, stages=stages)
