"""The simulator and the server drive the same dispatcher: same inputs, identical batches at identical times.

The server's side is `serve/runner.py` itself on an asyncio event loop whose clock is moved by hand, with replicas that
answer when the profile's table says. The simulator's side is a whole simulation. Nothing else is shared.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triscale.core.cluster import Node, NodeId, Replica
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.profile import Profile, inline_profile
from triscale.core.settings import Settings
from triscale.dispatch import batching
from triscale.dispatch import dispatcher as dispatcher_module
from triscale.dispatch.assemble import make_dispatcher
from triscale.dispatch.commands import Commands
from triscale.dispatch.work import Batch
from triscale.observe.recorder import Recorder
from triscale.replica.client import ReplicaClient
from triscale.serve import runner as runner_module
from triscale.serve.runner import Runner
from triscale.serve.service import Call
from triscale.sim.settings import SimSettings
from triscale.sim.world import World
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.clock import ManualClock
from triscale.testing.loop import manual_loop
from triscale.testing.simulations import Script, Times, with_groups
from triscale.wire.payload import pack

TICK = 1.0 / 1024.0


class Emulated:
    """A replica on the other end of a connection: answers when the table says so."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.observer: Runner

    def run(self, number: int, variant: str, items: Sequence[Any]) -> None:
        stage, took = self._scene.runs[number]
        emitted = [
            [None] * round(dict(stage_fan_out(self._scene.pipeline, stage, variant))[child])
            for child in self._scene.pipeline.children(stage)
        ]
        results: list[Any] = [(None if any(emitted) else pack({"x": "y"}), emitted)] * len(items)
        done = self._scene.runner.batch_done
        self._scene.batch_at(took, lambda: done(cast("ReplicaClient", self), number, took, results))


def stage_fan_out(what: Pipeline, stage: str, variant: str) -> list[tuple[str, float]]:
    fan_out = what.stages[stage].variant(variant).fan_out
    return [(child, fan_out.get(child, 1.0)) for child in what.children(stage)]


Line: TypeAlias = tuple[float, int, int, int, str, tuple[int, ...]]
"""(when, batch, stage, variant, replica, requests of its items)."""


def line(batch: Batch) -> Line:
    requests = tuple(item.request.id for item in batch.items)
    return round(batch.started, 9), batch.id, batch.stage, batch.variant, batch.lane.replica.id, requests


class Scene:
    """The same inputs for both drivers. All times are sums of binary fractions of a second, so that they add up exactly
    in both: what coincides in one coincides in the other.
    """

    def __init__(self, what: Pipeline, wanted: Plan, dispatch: Settings, times: Sequence[float]) -> None:
        self.pipeline = what
        self.times = times
        self.runs: dict[int, tuple[str, float]] = {}
        """Batch -> its stage, and how long it takes."""
        self.lines: list[Line] = []
        self.outcomes: dict[int, str] = {}
        self.runner: Runner
        self._instants: dict[float, tuple[list[Callable[[], object]], list[Callable[[], object]]]] = {}
        self._plan = wanted
        self._dispatch = dispatch
        self._profile = cast("Profile", inline_profile(what))
        self._table = {
            (name, index): variant.latency_ms
            for name, spec in what.stages.items()
            for index, variant in enumerate(spec.variants)
        }

    def simulated(self) -> tuple[list[Line], dict[int, str], list[Any]]:
        """Batches, outcomes and the replicas that ran."""
        world = World(
            Graph.of(self.pipeline),
            self._profile,
            Times(self.times, max(self.times) + 1.0),
            Script(self._plan, tick_s=1e6, dispatch=self._dispatch),
            [Node(id=NodeId("n"), cores=64.0)],
            SimSettings(service="fixed", window_s=1e6),
        )
        lines: list[Line] = []
        outcomes: dict[int, str] = {}
        step = world.dispatcher.step

        def watched(now: float) -> Commands:
            commands = step(now)
            lines.extend(line(batch) for batch in commands.runs)
            outcomes.update((r.id, f"{r.outcome!r} {r.reason}") for r in commands.ends)
            return commands

        world.dispatcher.step = watched  # type: ignore[method-assign]
        world.run()
        return lines, outcomes, list(world.engine.views())

    def served(self, replicas: Sequence[Any]) -> tuple[list[Line], dict[int, str]]:
        """The same by the server's runner on an asyncio loop."""
        clock = ManualClock()
        loop = manual_loop(clock)
        try:
            loop.run_until_complete(self._serve(clock, replicas))
        finally:
            loop.close()
        return self.lines, self.outcomes

    def batch_at(self, seconds: float, done: Callable[[], object]) -> None:
        """A batch is done so long from now."""
        self._at(asyncio.get_running_loop().time() + seconds)[0].append(done)

    def _at(self, when: float) -> tuple[list[Callable[[], object]], list[Callable[[], object]]]:
        """What happens at an instant: batches in the order of their starts, then requests.

        One timer for all of it: asyncio runs timers of the same instant in any order, and the simulator in this one.
        """
        if when not in self._instants:
            self._instants[when] = [], []
            asyncio.get_running_loop().call_at(when, self._happen, when)
        return self._instants[when]

    def _happen(self, when: float) -> None:
        batches, requests = self._instants.pop(when)
        for happens in (*batches, *requests):
            happens()

    async def _serve(self, clock: ManualClock, replicas: Sequence[Any]) -> None:
        graph = Graph.of(self.pipeline)
        dispatcher = make_dispatcher(graph, self._profile, self._plan, 0.0, self._dispatch)
        step = dispatcher.step

        def watched(now: float) -> Commands:
            commands = step(now)
            for batch in commands.runs:
                stage = graph.stages[batch.stage]
                took = TableSeconds(self._table[stage, batch.variant])(len(batch.items))
                self.runs[batch.id] = stage, took
                self.lines.append(line(batch))
            # The runner counts its calls from 1 on, the simulator its requests from 0 on.
            self.outcomes.update((r.id - 1, f"{r.outcome!r} {r.reason}") for r in commands.ends)
            return commands

        dispatcher.step = watched  # type: ignore[method-assign]
        self.runner = Runner(dispatcher, Recorder(graph), clock, lambda *_: None)
        if self._plan.shared_cores > 0.0:
            dispatcher.share_cores("n", self._plan.shared_cores)
        for view in replicas:
            client = cast("ReplicaClient", Emulated(self))
            self.runner.attach(Replica(spec=view.spec, node=view.node, address=""), client)
        self.runner.open()
        slo = self.pipeline.slo_s
        for at in self.times:
            call = Call([cast("Any", None)], at, at + slo, lambda _reply: None)
            self._at(at)[1].append(partial(self.runner.submit, "test", call))
        await asyncio.sleep(max(self.times) + 30.0)
        await self.runner.close(0.0)


class TableSeconds:
    """Seconds by batch size, as the profile's median has them: straight lines between the points."""

    def __init__(self, table: Any) -> None:
        self._sizes = sorted(table)
        self._seconds = [table[size] / 1000.0 for size in self._sizes]

    def __call__(self, size: int) -> float:
        return float(np.interp(size, self._sizes, self._seconds))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """One to three stages in a row or a fork, two variants here and there; from idle to twice too much."""
    stages: dict[str, Any] = {}
    names = [f"s{index}" for index in range(draw(st.integers(1, 3)))]
    fork = draw(st.booleans())
    for index, name in enumerate(names):
        parent = () if index == 0 else names[0] if fork else names[index - 1]
        children = [n for i, n in enumerate(names) if i > 0 and (names[0] if fork else names[i - 1]) == name]
        variants = []
        for v in range(draw(st.integers(1, 2))):
            one = draw(st.integers(2, 24)) // (v + 1) + 1
            full = one + 8 * draw(st.integers(0, 4))
            fan_out = {child: float(draw(st.integers(0, 3))) for child in children}
            table = {1: 1000.0 * TICK * one, 9: 1000.0 * TICK * full}
            variants.append(variant(f"v{v}", table, accuracy=1.0 - 0.1 * v, fan_out=fan_out))
        stages[name] = stage(*variants, after=parent)
    what = pipeline(
        1000.0 * TICK * draw(st.sampled_from([64, 128, 512])),
        partial=draw(st.sampled_from(["allow", "deny"])),
        **stages,
    )
    shares = {name: {v.name: 1.0 / len(spec.variants) for v in spec.variants} for name, spec in what.stages.items()}
    shared = draw(st.sampled_from([0.0, 2.0]))
    wanted = plan(
        what,
        shares,
        batch=draw(st.sampled_from([1, 4, 8])),
        linger_s=draw(st.sampled_from([0.0, 8 * TICK])),
        shared_cores=shared,
    )
    groups = {
        name: ReplicaGroup(
            variants=tuple(v.name for v in spec.variants),
            replicas=draw(st.integers(1, 2)),
            lanes=draw(st.integers(1, 3)),
        )
        for name, spec in what.stages.items()
    }
    dispatch = Settings(
        drop=draw(st.sampled_from(["none", "last_stage", "per_stage", "reroute"])),
        admission=draw(st.booleans()),
        margin=1.0 / 16.0,
        late_grace=1.0 / 8.0,
    )
    rng = random.Random(draw(st.integers(0, 2**32)))
    longest = draw(st.sampled_from([3, 12, 40]))
    gaps = [rng.randint(0, longest) for _ in range(draw(st.integers(1, 80)))]
    times = [TICK * total for total in np.cumsum(gaps).tolist()]
    return Scene(what, with_groups(what, wanted, **groups), dispatch, times)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_the_simulator_and_the_servers_event_loop_form_identical_batches_at_identical_times(scene: Scene) -> None:
    # The server leaves a timer alone that fires too early, or at most half a millisecond too late; a step up to a
    # microsecond early may already do what it was asked for. It is the one difference; here it always sets it anew.
    with pytest.MonkeyPatch.context() as patch:
        for module in (batching, dispatcher_module):
            patch.setattr(module, "AFTER", 2.0**-20)
        patch.setattr(runner_module, "_LATEST_TIMER_SLACK_S", -math.inf)
        lines, outcomes, replicas = scene.simulated()
        served_lines, served_outcomes = scene.served(replicas)
    shifted = [(*entry[:5], tuple(number - 1 for number in entry[5])) for entry in served_lines]
    assert shifted == lines
    assert served_outcomes == outcomes
