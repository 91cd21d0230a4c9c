"""What the dispatcher promises in any world: random pipelines, plans, loads, service times, failures and resizes.

`World` checks most promises after every step (see its docstring); here are the random worlds, what must hold of every
batch that is formed, and what must be left at the end: nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triscale.core.pipeline import Pipeline, Stage, Variant
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.dispatch.commands import Commands
from triscale.dispatch.work import Batch
from triscale.testing.world import World, WorldError

NODES = ("n0", "n1")
MAX_THREADS = 2


@dataclass(frozen=True)
class Scenario:
    """Everything that shapes a world; what happens in it follows from `seed`."""

    pipeline: Pipeline
    plans: tuple[Plan, ...]
    settings: Settings
    shared_cores: dict[str, int]
    events: int
    seed: int
    load: float
    """Arrivals per SLO."""
    wrong: float
    """Real service times lie within this factor of the predicted ones, either way."""
    faults: frozenset[str] = field(default_factory=frozenset)
    steady: bool = False
    """Predictions are renewed at every step, so that nothing but events and wakeups changes decisions."""


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    count = draw(st.integers(1, 5))
    stages: dict[str, Stage] = {}
    for index in range(count):
        parents = draw(st.sets(st.integers(0, index - 1), min_size=1, max_size=2)) if index else set()
        variants = []
        for v in range(draw(st.integers(1, 3))):
            one = draw(st.integers(2, 30))
            batch = draw(st.integers(1, 8))
            full = one * draw(st.sampled_from([1.0, 1.5, 2.5, float(batch)]))
            variants.append(
                Variant(
                    name=f"v{v}",
                    runtime="emulated",
                    accuracy=round(0.95 - 0.1 * v, 2),
                    max_batch=batch,
                    latency_ms={1: float(one)} if batch == 1 else {1: float(one), batch: full},
                )
            )
        stages[f"s{index}"] = Stage(
            variants=tuple(variants),
            after=tuple(f"s{parent}" for parent in sorted(parents)),
            join="all" if index and draw(st.integers(0, 2)) == 0 else "each",
        )
    return Pipeline(
        name="random",
        slo_ms=float(draw(st.integers(30, 400))),
        stages=stages,
        partial=draw(st.sampled_from(["allow", "deny"])),
        retries=draw(st.integers(0, 2)),
    )


@st.composite
def plans(draw: st.DrawFn, pipeline: Pipeline) -> Plan:
    stages = {}
    for name, stage in pipeline.stages.items():
        weights = [draw(st.sampled_from([0, 0, 1, 2, 3])) for _ in stage.variants]
        total = sum(weights) or 1
        names = [variant.name for variant in stage.variants]
        by_parent: dict[str, dict[str, float]] = {}
        if draw(st.booleans()) and stage.parents:
            for parent in ("v0", "v2"):
                by_parent[parent] = {draw(st.sampled_from(names)): 1.0}
        stages[name] = StagePlan(
            variants={
                own: VariantPlan(share=weight / total, batch=draw(st.integers(1, 8)))
                for own, weight in zip(names, weights, strict=True)
            },
            by_parent=by_parent,
            linger_s=draw(st.sampled_from([0.0, 0.0, 0.01])),
        )
    served = draw(st.sampled_from([1.0, 1.0, 0.5]))
    return Plan(stages=stages, served_fraction=served, capacity=draw(st.sampled_from([0.0, 50.0])), demand=100.0)


@st.composite
def scenarios(draw: st.DrawFn, *, steady: bool | None = None) -> Scenario:
    pipeline = draw(pipelines())
    renewed = draw(st.booleans()) if steady is None else steady
    return Scenario(
        pipeline=pipeline,
        plans=tuple(draw(plans(pipeline)) for _ in range(draw(st.integers(1, 2)))),
        settings=Settings(
            drop=draw(st.sampled_from(["none", "last_stage", "per_stage", "reroute", "reroute", "reroute"])),
            admission=draw(st.booleans()),
            margin=draw(st.sampled_from([0.0, 0.05])),
            late_grace=draw(st.sampled_from([0.0, 0.1, 0.5])),
            max_requests=draw(st.sampled_from([4, 100_000])),
            hang_factor=3.0,
            hang_floor_s=0.25,
            refresh_s=0.0 if renewed else 0.25,
        ),
        shared_cores={node: draw(st.integers(MAX_THREADS, 4)) for node in NODES if draw(st.booleans())},
        events=draw(st.integers(1, 60)),
        seed=draw(st.integers(0, 2**32)),
        load=draw(st.sampled_from([1.0, 10.0, 50.0])),
        wrong=draw(st.sampled_from([1.0, 1.5, 4.0])),
        faults=frozenset(draw(st.sets(st.sampled_from(["fail", "reject", "hang", "lose", "resize", "cancel", "cut"])))),
        steady=renewed,
    )


class Busy(World):
    """A world in which no lane may be idle while the plan gives it something to do, and it would do it at once."""

    def step(self) -> Commands:
        commands = super().step()
        told = self.dispatcher.settings.drop
        for stage in self.dispatcher.stages:
            # Rescue may leave an item to a lane that is still busy; lingering and reserved cores are idle on purpose.
            if told == "reroute" or stage.linger_s or not stage.queue or self.dispatcher._fleet.cores:
                continue
            routes = stage.routes[stage.queue.at(0).row]
            idle = [group for group in stage.groups if group.available() and routes.pick(group.variants) >= 0]
            if idle:
                raise WorldError(f"t={self.now!r}: stage {stage.index} has {len(stage.queue)} items and idle lanes")
        return commands


class Play:
    """A scenario being played: its random events, and what must hold of every batch."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = rng = random.Random(scenario.seed)
        self.world = world = Busy(
            scenario.pipeline, scenario.plans[0], settings=scenario.settings, rng=rng, probe=scenario.steady
        )
        self.serial = 0
        self.calm = False
        self.specs: dict[str, tuple[str, Sequence[str], int, int, str]] = {}
        self.gone: set[str] = set()
        world.service_s = self.takes
        world.outcome_of = lambda _: "broken" if self.happens("fail", 0.1) else None
        world.rejects = lambda _: "unreadable" if self.happens("reject", 0.05) else None
        # Where probes look for lost wakeups, queues stay short: far behind the head, items may have to wait for it.
        counts = (0, 1, 1, 2) if scenario.steady else (0, 1, 1, 2, 5)
        world.emits = lambda item, _: [rng.choice(counts) for _ in world.graph.children[item.stage]]
        world.killed = self.replaced
        for node, cores in scenario.shared_cores.items():
            world.share_cores(node, cores)
        for stage, spec in scenario.pipeline.stages.items():
            names = [variant.name for variant in spec.variants]
            for _ in range(rng.randint(1, 2)):
                self.launch(stage, rng.sample(names, rng.randint(1, len(names))))

    def happens(self, fault: str, probability: float) -> bool:
        return not self.calm and fault in self.scenario.faults and self.rng.random() < probability

    def launch(self, stage: str, variants: Sequence[str]) -> None:
        name = f"{stage}-{self.serial}"
        self.serial += 1
        lanes, threads, node = self.rng.randint(1, 3), self.rng.randint(1, MAX_THREADS), self.rng.choice(NODES)
        self.specs[name] = (stage, variants, lanes, threads, node)
        self.world.replica(name, stage, *variants, lanes=lanes, threads=threads, node=node)

    def replaced(self, replica: str) -> None:
        """A replica is gone; another like it is ready some time later."""
        self.gone.add(replica)
        stage, variants, *_ = self.specs[replica]
        self.world.at(self.world.now + 0.3 * self.rng.random(), lambda: self.launch(stage, variants))

    def takes(self, batch: Batch) -> float:
        self.must_be_allowed(batch)
        if self.happens("hang", 0.03):
            return math.inf
        return batch.expected * math.pow(self.scenario.wrong, self.rng.uniform(-1.0, 1.0))

    def must_be_allowed(self, batch: Batch) -> None:
        world = self.world
        stage = world.dispatcher.stages[batch.stage]
        name = world.graph.stages[batch.stage]
        variant = world.pipeline.stages[name].variants[batch.variant]
        size = len(batch.items)
        if size > min(stage.batch[batch.variant], variant.max_batch):
            raise WorldError(f"{batch!r} is over its size")
        if size > 1 and any(item.solo for item in batch.items):
            raise WorldError(f"{batch!r} has company for an item that is to be run alone")
        if batch.variant not in batch.lane.replica.variants:
            raise WorldError(f"{batch!r} is on a replica without its variant")
        # A request may be given up at another stage in the very step that starts one of its items here.
        if any(item.request.outcome is not None and item.request.ended < world.now for item in batch.items):
            raise WorldError(f"{batch!r} holds items of requests that have ended")
        if world.dispatcher.settings.drop in ("per_stage", "reroute"):
            rest = world.dispatcher.outlook.options[batch.stage][0][0]
            earliest = min(item.request.deadline for item in batch.items)
            if batch.expected + rest > earliest - world.now + 1e-9:
                raise WorldError(f"{batch!r} was hopeless when it was formed")

    def live(self) -> list[str]:
        return [name for name in self.specs if name not in self.gone]

    def something(self) -> None:
        """One random event."""
        world, rng = self.world, self.rng
        kind = rng.random()
        replicas = self.live()
        if kind < 0.08 and "lose" in self.scenario.faults and replicas:
            name = rng.choice(replicas)
            world.lose(name)
            self.replaced(name)
        elif kind < 0.2 and "resize" in self.scenario.faults and replicas:
            self.changes(rng.choice(replicas))
        elif kind < 0.25 and "cancel" in self.scenario.faults and world.requests:
            world.cancel(rng.choice(world.requests))
        elif kind < 0.28 and "cut" in self.scenario.faults and self.scenario.shared_cores:
            world.share_cores(rng.choice(sorted(self.scenario.shared_cores)), rng.randint(MAX_THREADS, 5))
        elif kind < 0.32:
            world.dispatcher.follow(rng.choice(self.scenario.plans), world.now)
        else:
            world.arrive(rng.choice((1, 1, 1, 3)), within_s=world.pipeline.slo_s * rng.choice((1.0, 1.0, 0.6, 0.1)))

    def changes(self, name: str) -> None:
        stage, variants, *_ = self.specs[name]
        if self.rng.random() < 0.3:
            self.world.drain(name)
            self.gone.add(name)
            self.launch(stage, variants)
        else:
            self.world.resize(name, self.rng.randint(0, 4), self.rng.randint(1, MAX_THREADS))

    def run(self) -> World:
        world = self.world
        at = 0.0
        for _ in range(self.scenario.events):
            at += self.rng.expovariate(self.scenario.load) * world.pipeline.slo_s
            if self.rng.random() < 0.3:
                at = round(at, 2)  # several things at one instant
            world.at(at, self.something)
        world.at(at + 0.5, self.calms_down)
        world.run()
        return world

    def calms_down(self) -> None:
        """No more faults, and every stage can run everything: what is left must end."""
        self.calm = True
        for stage, spec in self.scenario.pipeline.stages.items():
            self.launch(stage, [variant.name for variant in spec.variants])


def leftovers(world: World) -> dict[str, object]:
    """Everything that a dispatcher still holds; all of it must be empty when nothing is live."""
    dispatcher = world.dispatcher
    flow, fleet = dispatcher._flow, dispatcher._fleet
    held: dict[str, object] = {
        "requests": flow.live,
        "expiries": flow._expiries,
        "batches": fleet.running,
        "hangs": fleet._hangs,
        "wakeup": dispatcher.next_wakeup(),
        "cores": [cores for cores in fleet.cores.values() if cores.free != cores.total],
    }
    for stage in dispatcher.stages:
        name = f"stage {stage.index}"
        held[f"{name} items"] = [*stage.queue._items, *stage.queue._keys]
        held[f"{name} counts"] = stage.live or stage.running
        held[f"{name} lanes"] = [lane for group in stage.groups for lane in group.idle if lane.batch is not None]
        held[f"{name} idle"] = stage.idle - sum(len(group.idle) for group in stage.groups)
        held[f"{name} busy"] = stage.lanes - stage.idle
    dispatcher.next_wakeup()  # which forgets what is over
    return {what: value for what, value in held.items() if value}


def play(scenario: Scenario) -> World:
    world = Play(scenario).run()
    unended = [request for request in world.requests if request.outcome is None]
    assert not unended, f"{unended} never ended"
    assert world.ended == {request.id for request in world.requests}
    assert leftovers(world) == {}
    accounts = world.dispatcher.accounts
    assert accounts.live == 0
    assert accounts.arrived == sum(accounts.outcomes) == len(world.requests)
    return world


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@relaxed
@given(scenarios())
def test_every_request_ends_once_and_nothing_is_left(scenario: Scenario) -> None:
    world = play(scenario)
    if scenario.settings.drop == "none":
        assert not world.dispatcher.accounts.outcomes[Outcome.DROPPED], "nothing is dropped when dropping is off"


@settings(relaxed, max_examples=50)
@given(scenarios(steady=True))
def test_no_wakeup_is_lost(scenario: Scenario) -> None:
    """Steps in between, which the world makes at random times, find nothing to do."""
    play(scenario)


@settings(relaxed, max_examples=50)
@given(scenarios())
def test_equal_inputs_give_equal_outputs(scenario: Scenario) -> None:
    assert play(scenario).log == play(scenario).log


@settings(relaxed, max_examples=50)
@given(scenarios(), st.floats(0.0, 1.0))
def test_a_stop_ends_everything_at_once(scenario: Scenario, part: float) -> None:
    player = Play(scenario)
    world = player.world
    for _ in range(max(1, round(scenario.events * part))):
        world.arrive()
    world.run(until=world.pipeline.slo_s * part)
    world.dispatcher.abort(Reason.SHUTDOWN, world.now)
    world.step()
    assert all(request.outcome is not None for request in world.requests)
    assert world.dispatcher.accounts.live == 0
