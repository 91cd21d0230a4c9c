"""triscale's own autoscaler: what acts now covers a deficit now, what takes long is begun, and nothing flaps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import inline_profile
from triscale.core.snapshot import Phase, ReplicaView, Snapshot, StageView
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.triscale import Triscale
from triscale.policy.plan_rules import broken_rules
from triscale.testing.builders import pipeline, stage, variant

PIPELINE = pipeline(
    400.0,
    detect=stage(
        variant("large", {1: 40.0, 4: 130.0}, accuracy=1.0, fan_out={"read": 2.0}, max_batch=4),
        variant("small", {1: 10.0, 4: 33.0}, accuracy=0.9, fan_out={"read": 2.0}, max_batch=4),
    ),
    read=stage(
        variant("wide", {1: 20.0, 4: 60.0}, accuracy=1.0, max_batch=4),
        variant("narrow", {1: 5.0, 4: 15.0}, accuracy=0.8, max_batch=4),
        after="detect",
    ),
)
GRAPH = Graph.of(PIPELINE)


def nodes(*cores: int) -> list[Node]:
    return [Node(id=NodeId(f"n{i}"), cores=each) for i, each in enumerate(cores)]


def autoscaler(machines: Sequence[Node], cold_start_s: float = 6.0, resize_s: float = 0.01, **options: Any) -> Triscale:
    profile = inline_profile(PIPELINE)
    assert profile is not None
    return Triscale(
        Setting(
            graph=GRAPH,
            profile=profile,
            nodes=machines,
            cold_start_s=cold_start_s,
            resize_s=resize_s,
            options=options,
        )
    )


def views(plan: Plan, starting: Sequence[str] = ()) -> list[ReplicaView]:
    """The plan's replicas as they would run; those on `starting` nodes are not ready yet."""
    found = []
    for name, planned in plan.stages.items():
        for number, group in enumerate(planned.groups):
            assert group.node is not None
            spec = ReplicaSpec(
                id=ReplicaId(f"{name}-{number}"),
                stage=name,
                variants=group.variants,
                lanes=group.lanes,
                node=group.node,
            )
            phase = Phase.STARTING if group.node in starting else Phase.READY
            found.append(ReplicaView(spec=spec, node=group.node, phase=phase, cores=spec.cores))
    return found


def seen(
    now: float,
    plan: Plan,
    rate: float,
    machines: Sequence[Node],
    *,
    burst: float | None = None,
    starting: Sequence[str] = (),
    queued: Mapping[str, int] | None = None,
    drift: Mapping[tuple[str, str], float] | None = None,
    cold_start_s: float = 6.0,
    resize_s: float = 0.01,
) -> Snapshot:
    """`rate` requests/s all along, and `burst` in the last half second."""
    recent = [round(rate / 10.0)] * 20
    if burst is not None:
        recent[-5:] = [round(burst / 10.0)] * 5
    return Snapshot(
        now=now,
        plan=plan,
        nodes=machines,
        replicas=views(plan, starting),
        per_second=(round(rate),) * int(now),
        recent=recent,
        stages={name: StageView(queued=(queued or {}).get(name, 0)) for name in GRAPH.stages},
        drift=drift or {},
        cold_start_s=cold_start_s,
        resize_s=resize_s,
    )


def shares(plan: Plan) -> dict[str, dict[str, float]]:
    return {
        name: {v: each.share for v, each in s.variants.items() if each.share > 0.0} for name, s in plan.stages.items()
    }


def in_use(plan: Plan) -> set[str]:
    return {node for node, cores in plan.node_cores.items() if cores}


BEST = {"detect": {"large": 1.0}, "read": {"wide": 1.0}}


def test_what_the_cores_carry_runs_on_the_most_accurate_variants_with_the_fewest_cores() -> None:
    machines = nodes(16)
    plan = autoscaler(machines).first(50.0)
    assert shares(plan) == BEST
    # 50 requests/s need at least 50 * (0.0325 + 2 * 0.015) core-seconds per second.
    assert 4 <= plan.cores <= 7


def test_a_surge_is_answered_by_more_cores_at_the_next_tick() -> None:
    machines = nodes(16)
    it = autoscaler(machines)
    calm = it.first(50.0)
    surge = it.decide(seen(20.0, calm, 50.0, machines, burst=150.0))
    assert surge.cores > 1.5 * calm.cores
    assert shares(surge) == BEST
    assert [group.lanes for group in surge.stages["read"].groups] == [int(surge.cores)]


def test_the_noise_of_a_short_window_is_no_surge() -> None:
    machines = nodes(16)
    it = autoscaler(machines)
    calm = it.first(50.0)
    assert it.decide(seen(20.0, calm, 50.0, machines, burst=60.0)).cores <= calm.cores


def test_queues_that_have_built_up_count_as_demand() -> None:
    machines = nodes(16)
    it = autoscaler(machines)
    calm = it.first(50.0)
    assert it.decide(seen(20.0, calm, 50.0, machines, queued={"read": 200})).cores > calm.cores


def test_beyond_the_cores_in_use_accuracy_gives_way_while_a_node_is_launched_and_comes_back_when_it_is_ready() -> None:
    machines = nodes(4, 16)
    it = autoscaler(machines)
    calm = it.first(30.0)
    assert in_use(calm) == {"n0"}
    surge = it.decide(seen(20.0, calm, 120.0, machines))
    assert in_use(surge) == {"n0", "n1"}, "a node is launched"
    assert surge.accuracy < 1.0, "and faster variants carry the load meanwhile"
    still = it.decide(seen(21.0, surge, 120.0, machines, starting=["n1"]))
    assert still.accuracy < 1.0
    ready = it.decide(seen(27.0, still, 120.0, machines))
    assert shares(ready) == BEST


def test_beyond_the_cluster_accuracy_gives_way_and_beyond_the_fastest_variants_the_rest_is_shed() -> None:
    machines = nodes(4)
    it = autoscaler(machines)
    surge = it.decide(seen(20.0, it.first(30.0), 120.0, machines))
    assert surge.mode == "accuracy"
    assert (surge.served_fraction, surge.cores) == (1.0, 4.0)
    flood = it.decide(seen(25.0, surge, 2000.0, machines))
    assert flood.mode == "overload"
    assert 0.0 < flood.served_fraction < 1.0


def test_when_a_surge_is_over_accuracy_is_back_at_once_and_cores_a_little_later() -> None:
    machines = nodes(8)
    it = autoscaler(machines)
    surge = it.decide(seen(20.0, it.first(30.0), 250.0, machines))
    assert surge.mode == "accuracy"
    after = it.decide(seen(20.1, surge, 30.0, machines))
    assert shares(after) == BEST
    assert after.cores == 8.0
    later = it.decide(seen(22.0, after, 30.0, machines))
    assert later.cores < 5.0


@pytest.mark.parametrize(("keep_colds", "until"), [(1.0, 27), (3.0, 39)])
def test_a_node_is_kept_for_as_long_as_it_takes_to_get_it_back(keep_colds: float, until: int) -> None:
    machines = nodes(8, 8)
    it = autoscaler(machines, keep_colds=keep_colds)
    both = it.first(180.0)
    assert in_use(both) == {"n0", "n1"}
    plan = it.decide(seen(20.0, both, 180.0, machines))
    for now in range(21, until):
        plan = it.decide(seen(float(now), plan, 20.0, machines))
    assert in_use(plan) == {"n0", "n1"}
    assert plan.node_cores[NodeId("n1")] == 1.0, "it costs one core meanwhile"
    for now in range(until, until + 3):
        plan = it.decide(seen(float(now), plan, 20.0, machines))
    assert in_use(plan) == {"n0"}


def test_where_a_resize_takes_long_more_is_kept_in_reserve() -> None:
    machines = nodes(32)
    quick, slow = autoscaler(machines), autoscaler(machines, resize_s=1.0)
    assert slow.first(100.0).cores == quick.first(100.0).cores + 2.0, "0.8 square roots of 9, to whole cores"


def test_until_cores_are_there_faster_variants_serve_on_those_that_are() -> None:
    machines = nodes(32)
    it = autoscaler(machines, resize_s=1.0)
    plan = it.first(50.0)
    calm = plan.cores
    for tick in range(30):
        plan = it.decide(seen(20.0 + tick / 10, plan, 50.0, machines, resize_s=1.0))
    told: list[tuple[float, str]] = []
    for tick in range(15):
        plan = it.decide(seen(23.0 + tick / 10, plan, 50.0, machines, burst=150.0, resize_s=1.0))
        told.append((plan.cores, plan.mode))
    assert {cores > 1.5 * calm for cores, _ in told} == {True}, "they are asked for at once"
    assert [mode for _, mode in told] == ["accuracy"] * 11 + ["hardware"] * 4, "and there after a second"
    assert plan.served_fraction == 1.0


def test_nothing_is_shed_for_cores_that_are_on_their_way() -> None:
    machines = nodes(32)
    it = autoscaler(machines, resize_s=1.0)
    plan = it.decide(seen(20.0, it.first(20.0), 20.0, machines, burst=500.0, resize_s=1.0))
    assert (plan.mode, plan.served_fraction) == ("accuracy", 1.0)


def test_the_door_may_count_on_cores_that_the_nodes_in_use_could_grant() -> None:
    machines = nodes(8, 8)
    it = autoscaler(machines)
    calm = it.decide(seen(20.0, it.first(20.0), 20.0, machines, resize_s=0.05))
    assert calm.spare_cores == 8.0 - calm.cores, "those of the node that is not in use would come too late"
    assert calm.spare_after_s == pytest.approx(0.15)
    full = it.decide(seen(21.0, calm, 1000.0, machines, starting=("n1",)))
    assert full.spare_cores == 0.0


def test_a_few_that_wait_are_no_reason_for_more_cores() -> None:
    machines = nodes(32)
    it = autoscaler(machines)
    calm = it.first(100.0)
    calm = it.decide(seen(20.0, calm, 100.0, machines))
    assert it.decide(seen(20.1, calm, 100.0, machines, queued={"detect": 2})) is calm
    assert it.decide(seen(20.2, calm, 100.0, machines, queued={"detect": 200})).cores > calm.cores


def test_latencies_that_have_grown_are_planned_with() -> None:
    machines = nodes(32)
    it = autoscaler(machines)
    calm = it.first(100.0)
    slower = {(s, v): 2.0 for s, variants in zip(GRAPH.stages, GRAPH.variants, strict=True) for v in variants}
    assert it.decide(seen(20.0, calm, 100.0, machines, drift=slower)).cores >= 1.5 * calm.cores


def test_in_a_world_that_does_not_change_neither_does_the_plan() -> None:
    machines = nodes(16)
    it = autoscaler(machines)
    plan = it.decide(seen(20.0, it.first(50.0), 50.0, machines))
    for tick in range(1, 50):
        later = it.decide(seen(20.0 + tick / 10.0, plan, 50.0, machines))
        if tick > 20:
            assert later is plan
        plan = later


def test_what_the_first_plan_expects_is_believed_until_something_has_been_seen() -> None:
    machines = nodes(16)
    it = autoscaler(machines)
    first = it.first(100.0)
    assert it.decide(seen(0.1, first, 0.0, machines)) is first


def test_without_a_node_that_is_ready_the_plan_stays() -> None:
    it = autoscaler(nodes(16))
    plan = it.first(50.0)
    assert it.decide(seen(20.0, plan, 50.0, [Node(id=NodeId("n0"), cores=16, ready=False)])) is plan


def test_a_node_that_is_lost_is_replaced_by_another() -> None:
    it = autoscaler(nodes(8, 8))
    plan = it.first(30.0)
    left = [Node(id=NodeId("n0"), cores=8, ready=False), Node(id=NodeId("n1"), cores=8)]
    assert in_use(it.decide(seen(20.0, plan, 30.0, left))) == {"n1"}


@pytest.mark.parametrize("seed", range(6))
def test_every_plan_can_be_carried_out_whatever_the_world_does(seed: int) -> None:
    rng = random.Random(seed)
    machines = nodes(*(rng.randint(1, 8) for _ in range(rng.randint(1, 3))))
    it = autoscaler(machines)
    plan = it.first(rng.choice([0.0, 20.0, 200.0]))
    now = 0.0
    for _ in range(40):
        now += rng.choice([0.1, 0.1, 1.0, 10.0])
        starting = [node.id for node in machines if rng.random() < 0.2]
        picture = seen(
            now,
            plan,
            rng.choice([0.0, 5.0, 60.0, 300.0, 5000.0]),
            machines,
            burst=rng.choice([None, 0.0, 900.0]),
            starting=starting,
            queued={name: rng.choice([0, 0, 300]) for name in GRAPH.stages},
            drift={("detect", "large"): rng.choice([1.0, 1.0, 3.0])},
        )
        new = it.decide(picture)
        assert list(broken_rules(new, GRAPH, machines, plan)) == []
        plan = new


def test_the_same_snapshots_give_the_same_plans() -> None:
    machines = nodes(4, 4)
    plans: list[list[Plan]] = []
    for _ in range(2):
        it = autoscaler(machines)
        plan = it.first(20.0)
        mine = [plan]
        for tick in range(30):
            plan = it.decide(seen(10.0 + tick / 10.0, plan, 20.0 + 10.0 * tick, machines))
            mine.append(plan)
        plans.append(mine)
    assert plans[0] == plans[1]


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"policy.options.hold: triscale has no such option; do you mean `hold_s`"):
        autoscaler(nodes(4), hold=3.0)
