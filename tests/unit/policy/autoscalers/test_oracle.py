"""The oracle: it plans for what will come, with the fewest cores that carry it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.policy.autoscalers.server_worlds import both_branches, servers, setting, snapshot
from triscale.core.cluster import Node, NodeId
from triscale.core.snapshot import StageView
from triscale.errors import ConfigError
from triscale.policy.autoscalers.oracle import Oracle
from triscale.policy.plan_rules import broken_rules


def step_at_10(now: float) -> float:
    """20 requests/s, and from the tenth second on 150."""
    return 20.0 if now < 10.0 else 150.0


def test_it_is_ready_before_the_demand_is_there() -> None:
    oracle = Oracle(setting(both_branches(), 20, future=step_at_10))
    before = oracle.first(20.0)
    assert oracle.decide(snapshot(9.8, before, [20] * 9, nodes=servers(20))) is before
    ready = oracle.decide(snapshot(9.9, before, [20] * 9, nodes=servers(20)))
    assert ready.cores > 3 * before.cores
    assert ready.capacity >= 150.0


def test_what_arrives_beyond_the_noise_of_the_rate_is_provided_for_too() -> None:
    oracle = Oracle(setting(both_branches(), 20, future=lambda _: 50.0))
    plan = oracle.first(50.0)

    def cores(tenths: list[int]) -> float:
        seen = replace(snapshot(10.0, plan, [50] * 10, nodes=servers(20)), recent=tenths)
        return oracle.decide(seen).cores

    assert cores([5] * 20) == cores([5] * 18 + [8, 6]) == plan.cores
    assert cores([5] * 10 + [9] * 10) > plan.cores


def test_a_backlog_is_worked_off() -> None:
    oracle = Oracle(setting(both_branches(), 20, future=lambda _: 50.0))
    plan = oracle.first(50.0)
    waiting = {"detect": StageView(queued=100), "vehicles": StageView(), "people": StageView()}
    seen = replace(snapshot(10.0, plan, [50] * 10, nodes=servers(20)), stages=waiting)
    assert oracle.decide(seen).cores > plan.cores


def test_what_was_admitted_is_served_before_cores_are_given_back() -> None:
    # The SLO is 250 ms.
    oracle = Oracle(setting(both_branches(), 20, future=lambda now: 170.0 - step_at_10(now)))
    high = oracle.first(150.0)
    assert oracle.decide(snapshot(10.2, high, [150] * 10, nodes=servers(20))) is high
    assert oracle.decide(snapshot(10.5, high, [150] * 10, nodes=servers(20))).cores < high.cores


def test_a_peak_between_two_ticks_is_not_overlooked() -> None:
    oracle = Oracle(setting(both_branches(), 20, future=lambda now: 150.0 if 10.02 < now < 10.08 else 20.0))
    plan = oracle.decide(snapshot(10.0, oracle.first(20.0), [20] * 10, nodes=servers(20)))
    assert plan.capacity >= 150.0


@pytest.mark.parametrize("demand", [0.0, 30.0, 300.0, 3000.0])
@pytest.mark.parametrize("cores", [(1,), (2, 1), (8, 3, 5)])
def test_every_plan_is_possible(demand: float, cores: tuple[int, ...]) -> None:
    nodes = tuple(Node(id=NodeId(f"n{i}"), cores=c) for i, c in enumerate(cores))
    world = setting(both_branches(), nodes=nodes, future=lambda _: demand)
    plan = Oracle(world).first(demand)
    assert list(broken_rules(plan, world.graph, nodes)) == []
    assert 1 <= plan.cores <= sum(cores)


def test_every_variant_is_resident_where_it_runs() -> None:
    world = setting(both_branches(), 20, future=lambda _: 50.0)
    plan = Oracle(world).first(50.0)
    for name, planned in plan.stages.items():
        assert {group.node for group in planned.groups} == {n for n, cores in plan.node_cores.items() if cores}
        assert all(
            set(group.variants) == set(world.graph.variants[world.graph.stage(name)]) for group in planned.groups
        )


def test_without_any_core_nothing_changes() -> None:
    oracle = Oracle(setting(both_branches(), 20, future=lambda _: 50.0))
    plan = oracle.first(50.0)
    none = [replace(node, ready=False) for node in servers(20)]
    assert oracle.decide(snapshot(1.0, plan, [50], nodes=none)) is plan
    with pytest.raises(ConfigError, match="there is not a whole core on any node that is ready"):
        Oracle(setting(both_branches(), nodes=none, future=lambda _: 50.0)).first(50.0)


def test_outside_of_a_simulation_there_is_no_oracle() -> None:
    with pytest.raises(ConfigError, match="oracle needs to know how many requests will arrive, which only a simul"):
        Oracle(setting(both_branches(), 20))
