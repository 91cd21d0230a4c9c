"""From any state to any plan: what `reconcile` promises while its steps take their time, in whatever order they end.

A small world carries the steps out: a launch, a resize, a change of variants and a drain are begun at once and end when
chance says so, and after each end it is asked again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.plan import Action, Drain, Hold, Launch, Plan, ReplicaGroup, Resize, StagePlan, VariantPlan
from triscale.core.snapshot import Phase, ReplicaView
from triscale.policy.reconcile import reconcile

CORES = 8
NODES = (Node(id=NodeId("n1"), cores=CORES), Node(id=NodeId("n2"), cores=CORES))
VARIANTS = ("u", "v", "w")
STAGES = ("a", "b")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Groups that name their nodes, none of which is over its cores."""
    left = {node.id: CORES for node in NODES}
    stages = {}
    for stage in STAGES:
        groups = []
        for _ in range(draw(st.integers(1, 3))):
            node = draw(st.sampled_from(NODES)).id
            lanes, threads, replicas = draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)))
            replicas = min(replicas, left[node] // (lanes * threads))
            left[node] -= lanes * threads * replicas
            variants = tuple(draw(st.sets(st.sampled_from(VARIANTS), min_size=1)))
            if replicas:
                groups.append(
                    ReplicaGroup(variants=variants, replicas=replicas, lanes=lanes, threads=threads, node=node)
                )
        stages[stage] = StagePlan(variants={VARIANTS[0]: VariantPlan(share=1.0)}, groups=tuple(groups))
    return Plan(stages=stages)


@dataclass
class World:
    """What runs. `tight`: no replica's memory holds new variants beside the old ones."""

    hold: bool
    tight: bool
    views: dict[ReplicaId, ReplicaView] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    swapped: set[ReplicaId] = field(default_factory=set)
    """They serve nothing until other variants are loaded."""

    def look(self, plan: Plan) -> tuple[Action, ...]:
        """Ask, and begin what is said."""
        able = self.views.keys() if self.hold else ()
        actions = reconcile(plan, list(self.views.values()), NODES, self.ids, able)
        for action in actions:
            match action:
                case Launch(spec):
                    self.views[spec.id] = view_of(spec, Phase.STARTING)
                case Drain(name):
                    self._drain(name)
                case Resize(name, lanes, threads):
                    view = self.views[name]
                    spec = replace(view.spec, lanes=lanes, threads=threads)
                    self.views[name] = replace(view, spec=spec, cores=max(view.cores, spec.cores))
                case Hold(name, variants, swap):
                    self._hold(name, variants, swap)
        return actions

    def _drain(self, name: ReplicaId) -> None:
        if self.views[name].phase is Phase.STARTING:
            del self.views[name]
        else:
            self.views[name] = replace(self.views[name], phase=Phase.DRAINING)

    def _hold(self, name: ReplicaId, variants: tuple[str, ...], swap: bool) -> None:
        view = self.views[name]
        assert view.phase is Phase.READY
        if swap:
            if not {*view.spec.variants} & {*variants}:
                self.swapped.add(name)
        elif self.tight:
            self.views[name] = replace(view, tight=True)
            return
        self.views[name] = replace(view, spec=replace(view.spec, variants=variants), loading=True)

    def open_ends(self) -> list[ReplicaId]:
        """Replicas with which something was begun."""
        return [
            name
            for name, view in self.views.items()
            if view.phase is not Phase.READY or view.loading or view.cores != view.spec.cores
        ]

    def end(self, name: ReplicaId) -> None:
        """It is over, whatever it was."""
        view = self.views[name]
        if view.phase is Phase.DRAINING:
            del self.views[name]
            return
        tight = view.tight and not view.loading
        self.views[name] = replace(view, phase=Phase.READY, loading=False, tight=tight, cores=view.spec.cores)
        self.swapped.discard(name)

    def serving(self, stage: str) -> int:
        """Replicas of a stage that take work."""
        return sum(
            view.spec.stage == stage and view.phase is Phase.READY and name not in self.swapped
            for name, view in self.views.items()
        )

    def check(self) -> None:
        """What must hold at any moment."""
        for node in NODES:
            assert sum(view.cores for view in self.views.values() if view.node == node.id) <= CORES
        for stage in STAGES:
            alive = [n for n, v in self.views.items() if v.spec.stage == stage and v.phase is Phase.READY]
            stopped = sum(name in self.swapped for name in alive)
            assert stopped <= len(alive) // 2, "the others serve"


def view_of(spec: ReplicaSpec, phase: Phase) -> ReplicaView:
    assert spec.node is not None
    return ReplicaView(spec=spec, node=spec.node, phase=phase, cores=spec.cores)


def settle(world: World, plan: Plan, rng: random.Random, most: int = 10_000) -> None:
    """Until nothing is to be done, or so many steps have ended."""
    for _ in range(most):
        actions = world.look(plan)
        world.check()
        ends = world.open_ends()
        if not ends and not actions:
            return
        if ends:
            world.end(rng.choice(ends))
    assert most < 10_000, "it never came to rest"


def shapes(world: World) -> list[tuple[str, NodeId, tuple[str, ...], int, int]]:
    specs = [(view.spec, view.node) for view in world.views.values()]
    return sorted((s.stage, node, tuple(sorted(s.variants)), s.lanes, s.threads) for s, node in specs)


def wanted(plan: Plan) -> list[tuple[str, NodeId, tuple[str, ...], int, int]]:
    return sorted(
        (name, group.node or NODES[0].id, tuple(sorted(group.variants)), group.lanes, group.threads)
        for name, stage in plan.stages.items()
        for group in stage.groups
        for _ in range(group.replicas)
    )


@pytest.mark.parametrize(("hold", "tight"), [(False, False), (True, False), (True, True)])
@settings(max_examples=60, deadline=None)
@given(made=st.lists(plans(), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_it_comes_to_any_plan_from_any_state_within_the_cores(
    hold: bool, tight: bool, made: list[Plan], seed: int
) -> None:
    rng = random.Random(seed)
    world = World(hold, tight)
    for plan in made[:-1]:
        settle(world, plan, rng, rng.randint(1, 12))  # the next one may come in the middle
    settle(world, made[-1], rng)
    assert shapes(world) == wanted(made[-1])


@settings(max_examples=100, deadline=None)
@given(first=plans(), seed=st.integers(0, 1000), data=st.data())
def test_a_change_of_all_variants_takes_no_capacity_and_no_launch(first: Plan, seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    world = World(hold=True, tight=False)
    settle(world, first, rng)
    before = {stage: world.serving(stage) for stage in STAGES}
    names = set(world.views)
    others = st.tuples(st.sampled_from(VARIANTS))
    stages = {
        name: replace(stage, groups=tuple(replace(group, variants=data.draw(others)) for group in stage.groups))
        for name, stage in first.stages.items()
    }
    second = Plan(stages=stages)
    while world.look(second) or world.open_ends():
        assert {stage: world.serving(stage) for stage in STAGES} == before
        assert set(world.views) == names
        for name in world.open_ends()[:1]:
            world.end(name)
    assert shapes(world) == wanted(second)
