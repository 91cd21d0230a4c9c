"""The simulated engine: when replicas take work, when cores are taken and given back, what dies and comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from triscale.core.plan import Plan, ReplicaGroup
from triscale.sim.settings import Failure
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.simulations import with_groups

Maker = Callable[..., Any]

ONE = pipeline(a=stage(variant("v", 1000.0)))
TWO = pipeline(a=stage(variant("v", 1000.0), variant("w", 1000.0)))


def group(replicas: int = 1, lanes: int = 1, threads: int = 1, variants: str = "v") -> ReplicaGroup:
    return ReplicaGroup(variants=tuple(variants), replicas=replicas, lanes=lanes, threads=threads)


def planned(*groups: ReplicaGroup, **fields: Any) -> Plan:
    return with_groups(ONE, plan(ONE, **fields), a=groups)


def test_the_first_plan_is_ready_at_once(stand: Maker) -> None:
    it = stand(ONE, planned(group(2, lanes=3)))
    assert (it.lanes, it.held) == ([6], 6)
    assert set(it.phases.values()) == {"ready"}


def test_a_launch_takes_cores_at_once_and_work_after_the_cold_start(stand: Maker) -> None:
    it = stand(ONE, planned(group()))
    it.run(1.0)
    it.follow(planned(group(2)))
    assert (it.lanes, it.held) == ([1], 2)
    it.run(6.99)
    assert it.lanes == [1]
    it.run(7.0)
    assert (it.lanes, it.held) == ([2], 2)
    assert it.engine.counts["launch"] == 1


def test_each_further_variant_adds_its_load_time_to_the_cold_start(stand: Maker) -> None:
    heavy = pipeline(a=stage(variant("v", 10.0), replace(variant("w", 10.0), load_ms=2500.0)))
    wanted = plan(heavy)
    for load, ready in ((None, 8.5), (1.0, 7.0)):
        settings = {} if load is None else {"load_s": load}
        it = stand(heavy, with_groups(heavy, wanted, a=()), **settings)
        it.follow(with_groups(heavy, wanted, a=group(variants="vw")))
        it.run(ready - 0.01)
        assert it.lanes == [0]
        assert it.engine.cold_start_s == 6.0, "as assumed"
        it.run(ready)
        assert it.lanes == [1]
        assert it.engine.cold_start_s == ready, "as measured"


def test_a_start_that_is_called_off_gives_its_cores_back_at_once_and_never_comes(stand: Maker) -> None:
    it = stand(ONE, planned(group()))
    it.follow(planned(group(2)))
    it.run(1.0)
    it.follow(planned(group()))
    assert (it.held, list(it.phases.values())) == (1, ["ready"])
    it.run(10.0)
    assert it.lanes == [1]


def test_a_grow_takes_cores_at_once_and_opens_lanes_after_the_resize_delay(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=2)))
    it.follow(planned(group(lanes=5)))
    assert (it.lanes, it.held) == ([2], 5)
    it.run(0.49)
    assert it.lanes == [2]
    it.run(0.5)
    assert (it.lanes, it.held) == ([5], 5)


def test_a_shrink_closes_idle_lanes_at_once_and_gives_cores_back_after_the_delay(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=4)))
    it.follow(planned(group(lanes=1)))
    assert (it.lanes, it.held) == ([1], 4)
    it.run(0.49)
    assert it.held == 4
    it.run(0.5)
    assert it.held == 1


def test_a_shrink_waits_for_the_batches_that_run(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=2)))
    it.arrive(2)
    it.run(0.2)
    it.follow(planned(group(lanes=1)))
    it.run(0.99)
    assert (len(it.running), it.held) == (2, 2)
    it.run(1.4)
    assert it.held == 2, "the batch was done at 1.0 and the delay is not over"
    it.run(1.5)
    assert it.held == 1


def test_the_newest_target_wins(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=2)))
    it.follow(planned(group(lanes=8)))
    it.run(0.2)
    it.follow(planned(group(lanes=4)))
    it.run(0.5)
    assert it.lanes == [2], "the first target's time has come, but it is void"
    assert it.held == 8
    it.run(0.7)
    assert it.lanes == [4]
    it.run(1.2)
    assert it.held == 4


def test_a_shrink_below_what_is_open_overtakes_a_grow_that_has_not_come(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=2)))
    it.follow(planned(group(lanes=8)))
    it.run(0.2)
    it.follow(planned(group(lanes=1)))
    assert it.lanes == [1]
    it.run(0.7)
    assert it.held == 1
    it.run(5.0)
    assert it.lanes == [1]


def test_wider_lanes_of_the_same_cores_come_after_the_resize_delay(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=4, threads=1)))
    it.follow(planned(group(lanes=2, threads=2)))
    assert (it.lanes, it.held) == ([4], 4)
    it.run(0.5)
    assert (it.lanes, it.held) == ([2], 4)
    it.arrive(2)
    assert {batch.group.threads for batch in it.running.values()} == {2}


def test_a_replica_that_is_still_starting_comes_up_in_its_newest_shape(stand: Maker) -> None:
    it = stand(ONE, planned(group()))
    it.follow(planned(group(), group(lanes=4)))
    it.run(1.0)
    it.follow(planned(group(), group(lanes=2)))
    assert it.held == 3
    it.run(2.0)
    it.follow(planned(group(), group(lanes=3)))
    it.run(6.0)
    assert (it.lanes, it.held) == ([4], 4)


def test_a_drained_replica_finishes_its_batch_and_is_gone(stand: Maker) -> None:
    it = stand(ONE, planned(group(2)))
    it.arrive(2)
    it.run(0.5)
    it.follow(planned(group(1)))
    assert sorted(it.phases.values()) == ["draining", "ready"]
    assert it.held == 2
    it.run(1.0)
    assert (it.held, len(it.phases)) == (1, 1)
    assert it.engine.counts["drain"] == 1


def test_a_node_never_grants_more_than_it_has(stand: Maker) -> None:
    """The old replica has to go before the new one fits."""
    it = stand(TWO, with_groups(TWO, plan(TWO), a=group(lanes=8)), hold=False)
    it.arrive(8)
    it.run(0.25)
    it.follow(with_groups(TWO, plan(TWO), a=group(lanes=8, variants="w")))
    assert it.held == 8
    assert list(it.phases.values()) == ["draining"]
    it.run(1.0)
    assert (it.held, list(it.phases.values())) == (8, ["starting"])
    it.run(7.0)
    assert it.lanes == [8]


def test_a_lost_replica_is_replaced_by_a_launch(stand: Maker) -> None:
    it = stand(ONE, planned(group(2)))
    it.arrive(2)
    it.run(0.5)
    it.fail(Failure(at_s=0.5, stage="a"))
    assert it.interrupted == ["a-1"]
    assert (it.lanes, it.held) == ([1], 2)
    assert sorted(it.phases.values()) == ["ready", "starting"]
    it.run(6.5)
    assert it.lanes == [2]
    assert (it.engine.counts["lost"], it.engine.counts["launch"]) == (1, 1)


def test_a_node_that_goes_down_takes_everything_and_comes_back_empty(stand: Maker) -> None:
    it = stand(ONE, planned(group(4)), n1=2.0, n2=2.0)
    it.fail(Failure(at_s=0.0, node="n2", down_s=10.0))
    assert (it.lanes, it.held) == ([2], 2)
    assert [node.ready for node in it.engine.nodes] == [True, False]
    it.run(9.9)
    assert it.held == 2, "there is no other place for them"
    it.run(10.0)
    assert it.held == 4
    it.run(16.0)
    assert it.lanes == [4]


def test_a_node_without_a_time_to_come_back_stays_down(stand: Maker) -> None:
    it = stand(ONE, planned(group(4)), n1=2.0, n2=2.0)
    it.fail(Failure(at_s=0.0, node="n1"))
    it.run(1000.0)
    assert it.lanes == [2]


def test_a_start_on_a_node_that_goes_down_never_comes(stand: Maker) -> None:
    it = stand(ONE, planned(group(2)), n1=2.0, n2=2.0)
    it.follow(planned(group(4)))
    it.run(1.0)
    it.fail(Failure(at_s=1.0, node="n2"))
    it.run(20.0)
    assert it.lanes == [2]
    assert it.interrupted == []


def test_shared_cores_are_the_nodes_and_lanes_are_not_counted(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=8), shared_cores=2.0))
    assert (it.lanes, it.held) == ([8], 2)
    it.arrive(5)
    assert len(it.running) == 2


def test_a_larger_grant_is_paid_at_once_and_holds_after_the_resize_delay(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=8), shared_cores=2.0))
    it.arrive(8)
    it.follow(planned(group(lanes=8), shared_cores=5.0))
    assert (len(it.running), it.held) == (2, 5)
    it.run(0.5)
    assert (len(it.running), it.held) == (5, 5)


def test_a_smaller_grant_holds_at_once_and_is_paid_until_the_rest_is_done(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=8), shared_cores=4.0))
    it.arrive(3)
    it.run(0.5)
    it.arrive(2)
    assert len(it.running) == 4
    it.follow(planned(group(lanes=8), shared_cores=1.0))
    assert it.held == 4
    it.run(1.0)
    assert (len(it.running), it.held) == (1, 1)


def test_only_nodes_with_a_replica_are_paid_for(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=2), shared_cores=2.0), n1=4.0, n2=4.0)
    assert it.held == 2
    it.follow(planned(group(2, lanes=2), shared_cores=2.0))
    assert it.held == 4
    it.follow(planned(group(1, lanes=2), shared_cores=2.0))
    assert it.held == 2


def test_a_grant_that_changes_its_mind_ends_where_it_was_last_told(stand: Maker) -> None:
    it = stand(ONE, planned(group(lanes=8), shared_cores=2.0))
    it.arrive(8)
    it.follow(planned(group(lanes=8), shared_cores=6.0))
    it.run(0.2)
    it.follow(planned(group(lanes=8), shared_cores=3.0))
    assert it.held == 3
    it.run(0.69)
    assert len(it.running) == 2
    it.run(0.7)
    assert (len(it.running), it.held) == (3, 3)


@pytest.mark.parametrize("lanes", [1, 4])
def test_growth_in_place_and_new_replicas_are_told_apart(stand: Maker, lanes: int) -> None:
    it = stand(ONE, planned(group(lanes=2)))
    it.run(1.0)
    it.follow(planned(group(lanes=4), group(lanes=lanes)))
    it.run(10.0)
    it.ledger.close_window(10.0)
    start, up, out = (round(10.0 * means[-1], 6) for means in it.ledger.means[:3])
    assert (start, up, out) == (20.0, 18.0, 9.0 * lanes)


# --- other variants in live replicas ------------------------------------------------------------------------------

BIG = pipeline(a=stage(*(replace(variant(name, 1000.0), load_ms=2000.0, memory_mb=100.0) for name in ("v", "w", "x"))))


def holding(*groups: ReplicaGroup) -> Plan:
    return with_groups(BIG, plan(BIG), a=groups)


def resident(it: Any) -> list[str]:
    """Per replica: the variants that it may be given batches of."""
    names = BIG.stages["a"].variants
    return ["".join(names[v].name for v in state.variants) for state in it.dispatcher.stages[0].replicas.values()]


def test_another_variant_is_loaded_while_the_old_one_serves_and_no_core_is_taken(stand: Maker) -> None:
    it = stand(BIG, holding(group(lanes=8)))
    it.follow(holding(group(lanes=8, variants="w")))
    assert (it.lanes, it.held, resident(it)) == ([8], 8, ["v"])
    assert [view.loading for view in it.engine.views()] == [True]
    it.run(1.99)
    assert resident(it) == ["v"]
    it.run(2.0)
    assert (it.lanes, it.held, resident(it)) == ([8], 8, ["w"])
    assert [view.loading for view in it.engine.views()] == [False]
    assert it.engine.counts == {"hold": 1}


@pytest.mark.parametrize(("stated", "load_s", "takes"), [(2000.0, None, 2.0), (0.0, None, 6.0), (2000.0, 0.5, 0.5)])
def test_a_load_takes_what_is_stated_or_profiled_and_else_a_cold_start(
    stand: Maker, stated: float, load_s: float | None, takes: float
) -> None:
    what = pipeline(a=stage(variant("v", 10.0), replace(variant("w", 10.0), load_ms=stated)))
    it = stand(what, with_groups(what, plan(what), a=group()), **({} if load_s is None else {"load_s": load_s}))
    it.follow(with_groups(what, plan(what), a=group(variants="w")))
    it.run(takes - 0.01)
    assert it.engine.views()[0].loading
    it.run(takes)
    assert not it.engine.views()[0].loading


def test_each_variant_that_is_missing_takes_its_time_and_none_takes_any_to_go(stand: Maker) -> None:
    it = stand(BIG, holding(group()))
    it.follow(holding(group(variants="vwx")))
    it.run(3.99)
    assert resident(it) == ["v"]
    it.run(4.0)
    assert sorted(resident(it)[0]) == ["v", "w", "x"]
    it.follow(holding(group(variants="x")))
    it.run(4.0)
    assert resident(it) == ["x"]


def test_the_newest_change_of_variants_wins(stand: Maker) -> None:
    it = stand(BIG, holding(group()))
    it.follow(holding(group(variants="w")))
    it.run(1.0)
    it.follow(holding(group(variants="x")))
    it.run(2.99)
    assert resident(it) == ["v"]
    it.run(3.0)
    assert resident(it) == ["x"]


def test_where_memory_does_not_hold_both_half_of_the_replicas_stop_serving_at_a_time(stand: Maker) -> None:
    it = stand(BIG, holding(group(2)), memory_mb=150.0)
    it.arrive(2)
    it.run(0.5)
    it.follow(holding(group(2, variants="w")))
    assert it.lanes == [1]
    it.run(2.99)
    assert (it.lanes, resident(it)) == ([1], ["v", "v"]), "its batch was done at 1.0, and the load takes 2 s"
    it.run(3.0)
    assert resident(it) == ["w", "v"]
    it.run(5.0)
    assert (it.lanes, it.held, resident(it)) == ([2], 2, ["w", "w"])
    assert it.engine.counts["launch"] == 0


def test_a_variant_that_stays_serves_while_others_are_swapped(stand: Maker) -> None:
    it = stand(BIG, holding(group(variants="vw")), memory_mb=250.0)
    it.follow(holding(group(variants="wx")))
    assert (it.lanes, resident(it)) == ([1], ["w"])
    it.run(2.0)
    assert sorted(resident(it)[0]) == ["w", "x"]


def test_the_only_replica_that_cannot_hold_both_is_replaced_by_a_launch(stand: Maker) -> None:
    it = stand(BIG, holding(group()), memory_mb=150.0)
    it.follow(holding(group(variants="w")))
    assert list(it.phases.values()) == ["ready", "starting"]
    it.run(6.0)
    assert (list(it.phases.values()), resident(it)) == (["ready"], ["w"])


def test_a_replica_comes_back_from_a_swap_in_its_newest_shape(stand: Maker) -> None:
    it = stand(BIG, holding(group(2, lanes=2)), memory_mb=150.0)
    it.follow(holding(group(2, lanes=2, variants="w")))
    assert it.lanes == [2]
    it.follow(holding(group(2, lanes=3, variants="w")))
    assert (it.lanes, it.held) == ([2], 6)
    it.run(0.5)
    assert it.lanes == [3], "the other one has grown"
    it.follow(holding(group(2, lanes=1, variants="w")))
    it.run(1.0)
    assert (it.lanes, it.held) == ([3], 6), "it shrinks when all hold what they are to hold"
    it.run(4.0)
    assert (resident(it), it.lanes) == (["w", "w"], [2])
    it.run(4.5)
    assert it.held == 2


def test_a_swap_that_is_called_off_while_the_last_batches_run_ends_with_them(stand: Maker) -> None:
    it = stand(BIG, holding(group(2)), memory_mb=150.0)
    it.arrive(2)
    it.run(0.5)
    it.follow(holding(group(2, variants="w")))
    assert it.lanes == [1]
    it.follow(holding(group(2)))
    it.run(0.99)
    assert it.lanes == [1]
    it.run(1.0)
    assert (it.lanes, resident(it)) == ([2], ["v", "v"])


def test_a_swap_that_is_changed_while_it_loads_begins_anew(stand: Maker) -> None:
    it = stand(BIG, holding(group(2)), memory_mb=150.0)
    it.follow(holding(group(2, variants="w")))
    it.run(1.0)
    it.follow(holding(group(2, variants="x")))
    it.run(2.99)
    assert it.lanes == [1]
    it.run(3.0)
    assert "x" in resident(it)


def test_one_that_is_lost_or_drained_while_it_loads_is_gone(stand: Maker) -> None:
    it = stand(BIG, holding(group(2)))
    it.follow(holding(group(2, variants="w")))
    it.run(1.0)
    it.fail(Failure(at_s=1.0, stage="a"))
    it.follow(holding())
    it.run(10.0)
    assert (it.lanes, it.held) == ([0], 0)
