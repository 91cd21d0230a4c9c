"""From what runs to the plan: capacity first, no more let go than the new needs, nothing remembered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.plan import Action, Drain, Hold, Launch, Plan, ReplicaGroup, Resize, StagePlan, VariantPlan
from triscale.core.snapshot import Phase, ReplicaView
from triscale.policy.reconcile import reconcile

N1, N2 = NodeId("n1"), NodeId("n2")


def group(
    variants: str = "v", replicas: int = 1, lanes: int = 1, threads: int = 1, node: str | None = None
) -> ReplicaGroup:
    where = NodeId(node) if node else None
    return ReplicaGroup(variants=tuple(variants), replicas=replicas, lanes=lanes, threads=threads, node=where)


def plan(shared: float = 0.0, /, **stages: Sequence[ReplicaGroup]) -> Plan:
    variants = {"v": VariantPlan(share=1.0)}
    return Plan(
        stages={name: StagePlan(variants=variants, groups=tuple(groups)) for name, groups in stages.items()},
        shared_cores=shared,
    )


def view(
    name: str,
    lanes: int = 1,
    threads: int = 1,
    *,
    variants: str = "v",
    node: NodeId = N1,
    phase: Phase = Phase.READY,
    cores: int | None = None,
    loading: bool = False,
    tight: bool = False,
) -> ReplicaView:
    spec = ReplicaSpec(
        id=ReplicaId(name),
        stage=name.split("-", 1)[0],
        variants=tuple(variants),
        lanes=lanes,
        threads=threads,
        node=node,
    )
    return ReplicaView(
        spec=spec,
        node=node,
        phase=phase,
        cores=spec.cores if cores is None else cores,
        loading=loading,
        tight=tight,
    )


def nodes(**cores: float) -> list[Node]:
    return [Node(id=NodeId(name), cores=count) for name, count in (cores or {"n1": 8.0}).items()]


def steps(wanted: Plan, running: Sequence[ReplicaView], where: Sequence[Node] | None = None) -> tuple[Action, ...]:
    return reconcile(wanted, running, where or nodes(), itertools.count(100))


def holding(wanted: Plan, running: Sequence[ReplicaView], where: Sequence[Node] | None = None) -> tuple[Action, ...]:
    """Where every replica can be given other variants."""
    able = [replica.spec.id for replica in running]
    return reconcile(wanted, running, where or nodes(), itertools.count(100), able)


def held(name: str, variants: str, *, swap: bool = False) -> Hold:
    return Hold(ReplicaId(name), tuple(variants), swap)


def launched(actions: Sequence[Action]) -> list[tuple[str, int, NodeId | None]]:
    return [(a.spec.stage, a.spec.cores, a.spec.node) for a in actions if isinstance(a, Launch)]


def test_what_is_as_planned_is_left_alone() -> None:
    assert steps(plan(a=[group(replicas=2, lanes=2)]), [view("a-1", 2), view("a-2", 2)]) == ()


def test_what_is_missing_is_launched_with_the_plans_shape_and_a_new_name() -> None:
    (action,) = steps(plan(a=[group("vw", lanes=3, threads=2)]), [])
    assert action == Launch(
        ReplicaSpec(id=ReplicaId("a-100"), stage="a", variants=("v", "w"), lanes=3, threads=2, node=N1)
    )


def test_the_order_of_the_variants_does_not_matter() -> None:
    assert steps(plan(a=[group("vw")]), [view("a-1", variants="wv")]) == ()


def test_a_replica_of_other_variants_is_replaced() -> None:
    actions = steps(plan(a=[group("w")]), [view("a-1")])
    assert launched(actions) == [("a", 1, N1)]
    assert Drain(ReplicaId("a-1")) not in actions, "it is kept until the new one is ready"
    ready = [view("a-1"), view("a-100", variants="w")]
    assert steps(plan(a=[group("w")]), ready) == (Drain(ReplicaId("a-1")),)


def test_a_replica_grows_in_place_where_there_is_room() -> None:
    assert steps(plan(a=[group(lanes=4)]), [view("a-1", 2)]) == (Resize(ReplicaId("a-1"), 4, 1),)


def test_a_replica_grows_by_what_fits_and_then_waits() -> None:
    running = [view("a-1", 2), view("b-1", 4)]
    wanted = plan(a=[group(lanes=6)], b=[group(lanes=4)])
    assert steps(wanted, running) == (Resize(ReplicaId("a-1"), 4, 1),)
    assert steps(wanted, [view("a-1", 4), view("b-1", 4)]) == ()


def test_wider_lanes_that_do_not_fit_wait_as_a_whole() -> None:
    running = [view("a-1", 2, 1), view("b-1", 5)]
    assert steps(plan(a=[group(lanes=2, threads=2)], b=[group(lanes=5)]), running) == ()


def test_cores_that_are_still_held_need_no_new_room() -> None:
    """A replica on its way from 8 cores to 4 is to have 6: it holds 8."""
    shrinking = view("a-1", 4, cores=8)
    assert steps(plan(a=[group(lanes=6)]), [shrinking]) == (Resize(ReplicaId("a-1"), 6, 1),)


def test_a_shrink_happens_at_once_when_the_stage_has_all_it_is_to_have() -> None:
    assert steps(plan(a=[group(lanes=2)]), [view("a-1", 4)]) == (Resize(ReplicaId("a-1"), 2, 1),)


def test_a_shrink_waits_for_the_replicas_that_are_to_take_over() -> None:
    wanted = plan(a=[group(lanes=2, replicas=2)])
    assert launched(steps(wanted, [view("a-1", 4)])) == [("a", 2, N1)]
    starting = [view("a-1", 4), view("a-100", 2, phase=Phase.STARTING)]
    assert steps(wanted, starting) == ()
    assert steps(wanted, [view("a-1", 4), view("a-100", 2)]) == (Resize(ReplicaId("a-1"), 2, 1),)


def test_the_old_goes_first_where_the_new_does_not_fit_beside_it_and_no_more_than_needed() -> None:
    running = [view("a-1", 4), view("b-1", 1), view("b-2", 1), view("b-3", 1), view("b-4", 1)]
    wanted = plan(a=[group(lanes=4)], b=[group("w", replicas=2)])
    assert steps(wanted, running) == (Drain(ReplicaId("b-1")), Drain(ReplicaId("b-2")))


def test_what_is_being_let_go_already_is_counted_on() -> None:
    running = [view("a-1", 6), view("b-1", 1), view("b-2", 1, phase=Phase.DRAINING)]
    assert steps(plan(a=[group(lanes=6)], b=[group("w")]), running) == ()


def test_free_cores_of_the_node_are_counted_before_anything_is_let_go() -> None:
    """Three cores are free and four are needed: one of the two surplus replicas is enough."""
    running = [view("a-1", 3), view("b-1"), view("b-2")]
    actions = steps(plan(a=[group(lanes=3)], b=[group("w", lanes=4)]), running)
    assert actions == (Drain(ReplicaId("b-1")),)


def test_room_is_made_on_one_node_not_in_sum() -> None:
    running = [view("a-1", 2, node=N1), view("a-2", 2, node=N2), view("b-1", 2, node=N1), view("b-2", 1, node=N2)]
    wanted = plan(a=[group(lanes=2, replicas=2)], b=[group("w", lanes=2, replicas=1)])
    actions = steps(wanted, running, nodes(n1=4, n2=4))
    assert actions == (Drain(ReplicaId("b-2")),), "the smallest loss that makes room on one node"


def test_a_launch_goes_to_the_fullest_node_that_has_room() -> None:
    running = [view("a-1", 4, node=N1)]
    actions = steps(plan(a=[group(lanes=4, replicas=2)]), running, nodes(n1=8, n2=8))
    assert launched(actions) == [("a", 4, N1)]
    actions = steps(plan(a=[group(lanes=4)], b=[group(lanes=6)]), running, nodes(n1=8, n2=8))
    assert launched(actions) == [("b", 6, N2)]


def test_a_named_node_is_kept_to() -> None:
    wanted = plan(a=[group(node="n2"), group(node="n1")])
    actions = steps(wanted, [view("a-1", node=N2)], nodes(n1=1, n2=8))
    assert launched(actions) == [("a", 1, N1)]


def test_a_node_that_is_down_gets_nothing() -> None:
    where = [Node(id=N1, cores=8, ready=False), Node(id=N2, cores=1)]
    assert launched(steps(plan(a=[group(replicas=3)]), [], where)) == [("a", 1, N2)]


def test_ready_replicas_are_kept_before_starting_ones_and_fitting_before_others() -> None:
    running = [view("a-1", 2, phase=Phase.STARTING), view("a-2", 4), view("a-3", 2)]
    assert set(steps(plan(a=[group(lanes=2)]), running)) == {Drain(ReplicaId("a-1")), Drain(ReplicaId("a-2"))}


def test_a_start_that_is_not_wanted_any_more_is_cancelled_at_once() -> None:
    running = [view("a-1"), view("b-1", variants="w", phase=Phase.STARTING)]
    actions = steps(plan(a=[group(replicas=8)]), running)
    assert Drain(ReplicaId("b-1")) in actions


def test_stages_that_the_plan_does_not_name_are_let_go() -> None:
    assert steps(plan(a=[group()]), [view("a-1"), view("old-1")]) == (Drain(ReplicaId("old-1")),)


def test_shared_cores_put_no_limit_on_replicas_and_spread_them() -> None:
    wanted = plan(4.0, a=[group(lanes=4)], b=[group(lanes=4)], c=[group(lanes=4)])
    assert launched(steps(wanted, [], nodes(n1=4, n2=4))) == [("a", 4, N1), ("b", 4, N2), ("c", 4, N1)]
    running = [view("a-1", 4), view("b-1", 4, node=N2), view("c-1", 2)]
    assert steps(wanted, running, nodes(n1=4, n2=4)) == (Resize(ReplicaId("c-1"), 4, 1),)


def test_repeating_the_steps_reaches_the_plan_and_then_stops() -> None:
    """Every step is carried out at once; the next call sees the outcome."""
    running = {ReplicaId(f"a-{n}"): view(f"a-{n}", 2) for n in range(4)}
    wanted = plan(a=[group("w", lanes=3, replicas=2)], b=[group(lanes=2)])
    ids = itertools.count(100)
    for _ in range(10):
        actions = reconcile(wanted, list(running.values()), nodes(n1=8), ids)
        for action in actions:
            match action:
                case Launch(spec):
                    running[spec.id] = view(spec.id, spec.lanes, variants="".join(spec.variants))
                case Drain(name):
                    del running[name]
                case Resize(name, lanes, threads):
                    running[name] = view(name, lanes, threads, variants="".join(running[name].spec.variants))
        assert sum(replica.cores for replica in running.values()) <= 8
        if not actions:
            break
    assert sorted((r.spec.stage, r.spec.variants, r.spec.lanes) for r in running.values()) == [
        ("a", ("w",), 3),
        ("a", ("w",), 3),
        ("b", ("v",), 2),
    ]


# --- other variants in live replicas ------------------------------------------------------------------------------


def test_a_replica_that_is_not_wanted_is_given_the_variants_that_are_missing() -> None:
    assert holding(plan(a=[group("w")]), [view("a-1")]) == (held("a-1", "w"),)


def test_it_is_given_the_shape_that_is_missing_too() -> None:
    wanted = plan(a=[group("w", lanes=3)])
    assert holding(wanted, [view("a-1")]) == (held("a-1", "w"), Resize(ReplicaId("a-1"), 3, 1))
    assert holding(wanted, [view("a-1", 5)]) == (held("a-1", "w"),), "it shrinks when it is done"
    done = [view("a-1", 5, variants="w")]
    assert holding(wanted, done) == (Resize(ReplicaId("a-1"), 3, 1),)


def test_one_that_is_being_changed_is_left_alone_and_so_is_what_its_stage_has_meanwhile() -> None:
    running = [view("a-1", variants="w", loading=True), view("a-2")]
    assert holding(plan(a=[group("w")]), running) == ()
    assert holding(plan(a=[group("w")]), [view("a-1", variants="w"), view("a-2")]) == (Drain(ReplicaId("a-2")),)


def test_the_newest_plan_changes_one_that_is_being_changed() -> None:
    assert holding(plan(a=[group("x")]), [view("a-1", variants="w", loading=True)]) == (held("a-1", "x"),)


def test_one_that_serves_is_kept_rather_than_one_that_is_being_changed() -> None:
    running = [view("a-1", variants="w", loading=True), view("a-2", variants="w")]
    assert holding(plan(a=[group("w")]), running) == (Drain(ReplicaId("a-1")),)


def test_those_that_hold_some_of_the_variants_are_changed_first() -> None:
    running = [view("a-1", variants="v"), view("a-2", variants="wx"), view("a-3", variants="xv")]
    assert holding(plan(a=[group("wxy")]), running)[0] == held("a-2", "wxy")


def test_a_group_that_names_a_node_is_served_by_a_replica_there_or_by_a_launch() -> None:
    running = [view("a-1", node=N2)]
    assert launched(holding(plan(a=[group("w", node="n1")]), running, nodes(n1=8, n2=8))) == [("a", 1, N1)]
    assert holding(plan(a=[group("w", node="n2")]), running, nodes(n1=8, n2=8)) == (held("a-1", "w"),)


def test_replicas_of_other_stages_and_such_as_take_no_work_are_not_changed() -> None:
    running = [view("b-1"), view("a-1", phase=Phase.STARTING), view("a-2", phase=Phase.DRAINING)]
    actions = holding(plan(a=[group("w")], b=[group()]), running)
    assert launched(actions) == [("a", 1, N1)]
    assert not any(isinstance(action, Hold) for action in actions)


def test_only_those_that_can_be_changed_are() -> None:
    running = [view("a-1"), view("a-2")]
    actions = reconcile(plan(a=[group("w", 2)]), running, nodes(), itertools.count(100), {ReplicaId("a-2")})
    assert [type(action) for action in actions] == [Hold, Launch]
    assert actions[0] == held("a-2", "w")


def test_all_are_changed_at_once_where_they_serve_meanwhile() -> None:
    running = [view(f"a-{n}") for n in range(4)]
    assert holding(plan(a=[group("w", 4)]), running) == tuple(held(f"a-{n}", "w") for n in range(4))


def test_of_those_whose_memory_does_not_hold_both_at_most_half_are_swapped_at_a_time() -> None:
    wanted = plan(a=[group("w", 5)])
    running = [view(f"a-{n}", tight=True) for n in range(5)]
    assert holding(wanted, running) == (held("a-0", "w", swap=True), held("a-1", "w", swap=True)), "the others wait"
    running[:2] = [view(f"a-{n}", variants="w", tight=True, loading=True) for n in range(2)]
    assert holding(wanted, running) == ()
    running[0] = view("a-0", variants="w")
    assert holding(wanted, running) == (held("a-2", "w", swap=True),)


def test_the_only_one_of_a_stage_is_not_swapped_but_replaced() -> None:
    wanted = plan(a=[group("w")])
    running = [view("a-1", tight=True)]
    assert launched(holding(wanted, running)) == [("a", 1, N1)]
    running.append(view("a-2", tight=True))
    assert launched(holding(wanted, running)) == [("a", 1, N1)], "the other is not to stay"


def test_those_that_keep_a_variant_serve_on_it_and_are_swapped_all_at_once() -> None:
    running = [view(f"a-{n}", variants="vw", tight=True) for n in range(3)]
    swaps = tuple(held(f"a-{n}", "wx", swap=True) for n in range(3))
    assert holding(plan(a=[group("wx", 3)]), running) == swaps


def test_one_that_holds_nothing_is_given_variants_whatever_the_others_do() -> None:
    """A controller was restarted in the middle of a swap."""
    running = [view("a-1", variants="", tight=True), view("a-2", variants="w", tight=True, loading=True), view("a-3")]
    assert holding(plan(a=[group("w", 2), group()]), running) == (held("a-1", "w", swap=True),)


def test_what_is_launched_may_hold_the_memory_of_its_node_where_that_is_stated() -> None:
    where = [Node(id=N1, cores=1, memory_bytes=2**30), Node(id=N2, cores=2)]
    actions = steps(plan(a=[group(), group(lanes=2)]), [], where)
    assert [a.spec.memory_bytes for a in actions if isinstance(a, Launch)] == [2**30, 0]
