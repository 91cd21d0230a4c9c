"""Ongoing requests per replica: how Ray Serve and Kubernetes scale each stage by itself.

Both want ceil(ongoing / target) replicas of a stage, ongoing being the items that wait or run there, and differ in what
they do about noise. The defaults are theirs:

- `ray` (docs.ray.io, AutoscalingConfig): target 2; ongoing is the mean of the last 30 s, reported every 10 s; a change
  is made when one in its direction was wanted for 30 s (up) or 600 s (down); factors of 1.
- `kubernetes` (HorizontalPodAutoscaler v2): decided every 15 s on the value of that moment; nothing happens within 10 %
  of the target; up at once, by at most 4 replicas or 100 % in 15 s; down to the highest wish of the last 300 s. It
  has no default target: Ray's.

It may change the number of replicas of each stage. It knows no SLO, latency model, forecast, fan-out or batch: replicas
have one lane of `threads` cores, the most accurate variant runs, and `batch` is fixed, as users of both must choose
it. Unless stated, it is the largest whose latency takes at most half of the stage's part of the SLO, the parts being in
proportion to a single item's latency. Every option can be tightened: with the defaults both are slower than any surge
worth the name, so a comparison should give `tick_s`, `look_back_s` and the delays that suit the trace best.

Each stage's minimum and maximum of replicas are the pipeline file's, and the nodes' cores are the limit: replicas that
would stay pending are not planned. Neither system drops what is late. The data plane does, at any stage, because a
backlog would otherwise make everything behind it late: the baseline's best setting. It has no door.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from triscale.core.cluster import Node
from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot, StageView
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import Above0, Interval, Seconds, Whole, read_options
from triscale.policy.autoscalers.uniform import Fleet, UniformPlans
from triscale.policy.optimise.themis import Instances
from triscale.policy.stabilise import Delay, GrowthLimit, SlidingMaximum

__all__ = ["Hpa", "HpaOptions"]

_FIRST_UTILISATION = 0.8
"""The replicas before the first request are so many that the expected demand keeps them busy for this part."""

_SAME_S = 1e-6
_SAME = 1e-9


class HpaOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy.options` of `hpa`. None: the style's own value, `ray` / `kubernetes`."""

    style: Annotated[Literal["ray", "kubernetes"], Meta(description="`ray` or `kubernetes`")] = "ray"
    target: Above0 = 2.0
    """Ongoing items per replica that it aims at."""
    tick_s: Interval = None
    """How often to decide: 1 / 15 s."""
    metrics_interval_s: Seconds = None
    """How old the count of ongoing items may be: 10 / 0 s."""
    look_back_s: Seconds = None
    """The count is the mean of so long: 30 / 0 s."""
    upscale_delay_s: Seconds = None
    """30 / 0 s."""
    downscale_delay_s: Seconds = None
    """600 / 300 s."""
    upscaling_factor: Above0 = 1.0
    """Part of the way up that is gone at once."""
    downscaling_factor: Above0 = 1.0
    """Likewise down."""
    tolerance: Annotated[
        Annotated[float, Meta(ge=0.0, lt=1.0)] | None, Meta(description="a part of the target, from 0 to less than 1")
    ] = None
    """How far off the target nothing is done: 0 / 0.1."""
    threads: Annotated[int, Meta(ge=1, description="a whole number of cores, at least 1")] = 1
    """Cores of each replica."""
    batch: Whole = None
    """Batch size of every stage, where its variant takes it."""


class Hpa:
    """See the module. `options` are `HpaOptions`."""

    name = "hpa"
    dispatch = Settings(drop="per_stage", admission=False)

    def __init__(self, setting: Setting) -> None:
        self.options = options = read_options("hpa", HpaOptions, setting.options)
        widest = max((int(node.cores) for node in setting.nodes), default=0)
        if options.threads > widest:
            raise ConfigError(
                f"policy.options.threads: is {options.threads}, but a replica does not span nodes, and none has more "
                f"than {widest} cores; lower it"
            )
        self.tick_s = options.tick_s or (1.0 if options.style == "ray" else 15.0)
        self._plans = UniformPlans("hpa", setting)
        self._nodes = setting.nodes
        self._batches = _batches(self._plans, options)
        rule = _Ray if options.style == "ray" else _Kubernetes
        self._rules = tuple(rule(options) for _ in setting.graph.stages)

    def first(self, demand: float) -> Plan:
        """As many replicas of each stage as the expected demand keeps 80 % busy."""
        each = [self._capacity(s, Instances(1, self.options.threads, b)) for s, b in enumerate(self._batches)]
        counts = [max(1, math.ceil(demand / (_FIRST_UTILISATION * one))) for one in each]
        return self._plan(self._fleet(counts, [1] * len(counts), self._nodes), demand, "the expected demand, at 80 %")

    def decide(self, snapshot: Snapshot) -> Plan:
        """Each stage by itself."""
        running = self._plans.running(snapshot.plan)
        views = [snapshot.stages.get(name, StageView()) for name in self._plans.graph.stages]
        ongoing = [view.queued + view.running for view in views]
        counts = [
            rule.replicas(snapshot.now, mine.count, items)
            for rule, mine, items in zip(self._rules, running, ongoing, strict=True)
        ]
        if counts == [mine.count for mine in running]:
            return snapshot.plan
        fleet = self._fleet(counts, [mine.count for mine in running], snapshot.nodes)
        if fleet == running:
            return snapshot.plan
        each = ", ".join(f"{items} at {name}" for name, items in zip(self._plans.graph.stages, ongoing, strict=True))
        return self._plan(fleet, snapshot.rate(1.0), f"ongoing items: {each}; the target is {self.options.target:g}")

    def _fleet(self, counts: Sequence[int], kept: Sequence[int], nodes: Sequence[Node]) -> Fleet:
        """So many replicas, as far as there is room beside those that are kept."""
        wanted = tuple(
            Instances(count, self.options.threads, batch) for count, batch in zip(counts, self._batches, strict=True)
        )
        return self._plans.fitted(wanted, kept, nodes, self._capacity)

    def _capacity(self, stage: int, mine: Instances) -> float:
        seconds = max(1e-9, self._plans.latency_s(stage, mine.batch, mine.cores))
        return mine.count * mine.batch / seconds / self._plans.items[stage]

    def _plan(self, fleet: Fleet, demand: float, reason: str) -> Plan:
        capacity = min(self._capacity(s, mine) for s, mine in enumerate(fleet))
        return self._plans.plan(fleet, demand, capacity=capacity, feasible=True, reason=reason)


class _Ongoing:
    """The items of one stage as the autoscaler hears of them: a mean over a while, some time ago."""

    def __init__(self, look_back_s: float, interval_s: float) -> None:
        self._look_back_s = look_back_s
        self._interval_s = interval_s
        self._samples: deque[tuple[float, int]] = deque()
        self._reported = (-math.inf, 0.0)

    def hear(self, now: float, items: int) -> float:
        """Note what is there now; returns what is known of it."""
        samples = self._samples
        samples.append((now, items))
        while samples[0][0] < now - self._look_back_s - _SAME_S:
            samples.popleft()
        if now - self._reported[0] >= self._interval_s - _SAME_S:
            self._reported = (now, sum(count for _, count in samples) / len(samples))
        return self._reported[1]


class _Rule:
    """From the ongoing items of one stage to its replicas."""

    def __init__(self, options: HpaOptions, look_back_s: float, interval_s: float, tolerance: float) -> None:
        self._options = options
        self._ongoing = _Ongoing(
            _either(options.look_back_s, look_back_s), _either(options.metrics_interval_s, interval_s)
        )
        self._tolerance = _either(options.tolerance, tolerance)

    def _wanted(self, now: float, current: int, items: int) -> int:
        """What the target asks for; at least one."""
        options = self._options
        ratio = self._ongoing.hear(now, items) / (options.target * current)
        if abs(ratio - 1.0) <= self._tolerance + _SAME:
            return current
        change = current * (ratio - 1.0)
        factor = options.upscaling_factor if change > 0.0 else options.downscaling_factor
        return max(1, math.ceil(current + factor * change - _SAME))


class _Ray(_Rule):
    """Ray Serve's: what has been wanted long enough is done."""

    def __init__(self, options: HpaOptions) -> None:
        super().__init__(options, look_back_s=30.0, interval_s=10.0, tolerance=0.0)
        self._delay = Delay(_either(options.upscale_delay_s, 30.0), _either(options.downscale_delay_s, 600.0))

    def replicas(self, now: float, current: int, items: int) -> int:
        """How many there should be."""
        return self._delay.decide(now, current, self._wanted(now, current, items))


class _Kubernetes(_Rule):
    """Kubernetes's: up to the lowest and down to the highest wish of a window, and up no faster than a limit."""

    def __init__(self, options: HpaOptions) -> None:
        super().__init__(options, look_back_s=0.0, interval_s=0.0, tolerance=0.1)
        self._highest = SlidingMaximum(_either(options.downscale_delay_s, 300.0))
        self._up_s = _either(options.upscale_delay_s, 0.0)
        self._lowest = SlidingMaximum(self._up_s)
        self._growth = GrowthLimit()
        self._started = False

    def replicas(self, now: float, current: int, items: int) -> int:
        """How many there should be."""
        if not self._started:
            # What there is at the start counts as the first wish, as there.
            self._started = True
            self._highest.add(now, current)
            if self._up_s > 0.0:
                self._lowest.add(now, -current)
        wanted = self._wanted(now, current, items)
        highest, lowest = int(self._highest.add(now, wanted)), -int(self._lowest.add(now, -wanted))
        return self._growth.limit(now, current, min(max(current, lowest), highest))


def _either(stated: float | None, own: float) -> float:
    return own if stated is None else stated


def _batches(plans: UniformPlans, options: HpaOptions) -> tuple[int, ...]:
    """The fixed batch size of each stage."""
    stages = range(len(plans.variants))
    if options.batch is not None:
        return tuple(min(options.batch, plans.most_batch(s)) for s in stages)
    single = [plans.latency_s(s, 1, options.threads) for s in stages]
    path_s = plans.slowest_path_s(single)
    found: list[int] = []
    for s in stages:
        limit_s = 0.5 * plans.graph.pipeline.slo_s * single[s] / path_s if path_s > 0.0 else 0.0
        batch = 1
        while 2 * batch <= plans.most_batch(s) and plans.latency_s(s, 2 * batch, options.threads) <= limit_s:
            batch *= 2
        found.append(batch)
    return tuple(found)
