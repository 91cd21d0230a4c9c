"""Whole simulations: what they count, what they refuse, and that the same inputs give the same bytes."""

from __future__ import annotations

import gc
import math
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import PathPlan, Plan, ReplicaGroup
from triscale.core.profile import Profile, inline_profile
from triscale.core.settings import Settings
from triscale.errors import ConfigError
from triscale.observe.causes import Cause
from triscale.sim.errors import SimulationError
from triscale.sim.result import Result
from triscale.sim.run import Arrivals, simulate
from triscale.sim.settings import Failure, SimSettings
from triscale.sim.world import World
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.simulations import PoissonTrace, Script, Times, with_groups

ONE = pipeline(a=stage(variant("v", 100.0)))
OCR = pipeline(
    400.0,
    detect=stage(variant("large", {1: 40.0, 4: 100.0}, accuracy=0.9, fan_out={"read": 2.5})),
    read=stage(variant("large", {1: 20.0, 8: 60.0}, accuracy=0.8), variant("small", {1: 5.0, 8: 15.0}), after="detect"),
)


def group(*variants: str, replicas: int = 1, lanes: int = 1) -> ReplicaGroup:
    return ReplicaGroup(variants=variants or ("v",), replicas=replicas, lanes=lanes)


def ocr_plan(detect: int = 4, read: int = 6) -> Plan:
    return with_groups(
        OCR, plan(OCR, batch=4), detect=group("large", lanes=detect), read=group("large", "small", lanes=read)
    )


def run(
    what: Pipeline,
    trace: Arrivals,
    autoscaler: Script,
    *,
    nodes: Sequence[Node] = (Node(id=NodeId("n1"), cores=16.0),),
    progress: Any = None,
    **settings: Any,
) -> Result:
    profile = cast("Profile", inline_profile(what))
    return simulate(what, profile, trace, autoscaler, nodes, SimSettings(**settings), progress=progress)


def one(times: Sequence[float], seconds: float = 10.0, **settings: Any) -> Result:
    return run(ONE, Times(times, seconds), Script(with_groups(ONE, plan(ONE))), **settings)


# --- what is counted --------------------------------------------------------------------------------------------


def test_a_request_alone_takes_its_service_time() -> None:
    result = one([1.0])
    assert (result.requests, result.answered, result.attainment, result.items) == (1, 1, 1.0, 1)
    assert result.latency_ms.mean == pytest.approx(100.0)
    assert result.latency_ms.p50 == pytest.approx(100.0, rel=0.01)


def test_a_batch_takes_two_hops_longer() -> None:
    assert one([1.0], hop_s=0.02).latency_ms.mean == pytest.approx(140.0)


def test_cores_are_paid_for_as_long_as_the_trace_lasts() -> None:
    result = one([9.95], seconds=10.0)
    assert result.core_seconds == pytest.approx(10.0)
    assert result.mean_cores == pytest.approx(1.0)
    assert result.simulated_s == 10.0
    assert result.answered == 1, "what has not ended by then is simulated to its end"


def test_the_warm_up_counts_neither_requests_nor_cores() -> None:
    result = one([0.5, 1.5, 2.5], warmup_s=1.0)
    assert (result.arrived, result.requests, result.answered) == (3, 2, 2)
    assert result.core_seconds == pytest.approx(9.0)
    assert result.mean_cores == pytest.approx(1.0)
    assert result.series.start_s == 1.0
    assert result.series.arrivals == [1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_without_requests_there_is_no_attainment() -> None:
    result = one([])
    assert (result.requests, result.attainment, result.accuracy, result.latency_ms.p99) == (0, None, None, None)
    assert result.summary()["attainment"] is None


def test_the_first_plan_is_asked_for_the_rate_of_the_first_ten_seconds() -> None:
    script = Script(with_groups(ONE, plan(ONE)))
    run(ONE, Times([1.0, 2.0, 3.0, 15.0], 20.0), script)
    assert script.demand == pytest.approx(0.3)
    run(ONE, Times([1.0], 20.0), Script(with_groups(ONE, plan(ONE))), first_demand=7.0)
    script = Script(with_groups(ONE, plan(ONE)))
    run(ONE, Times([1.0], 20.0), script, first_demand=7.0)
    assert script.demand == 7.0


def test_series_add_up_to_the_totals() -> None:
    result = run(OCR, PoissonTrace(60.0, 20.5), Script(ocr_plan()), warmup_s=2.0, window_s=0.5)
    series = result.series
    assert len(series.arrivals) == 37
    assert sum(series.arrivals) == result.requests
    assert sum(series.answered) == result.answered
    assert sum(series.shed) == result.violations.shed
    assert sum(series.dropped) == result.violations.dropped
    for index, arrivals in enumerate(series.arrivals):
        outcomes = (series.answered, series.late, series.dropped, series.shed, series.failed)
        assert arrivals == sum(column[index] for column in outcomes)
    assert sum(series.accuracy_sum) / result.answered == pytest.approx(result.accuracy)
    assert math.fsum(series.cores) * 0.5 == pytest.approx(result.core_seconds)
    assert series.cores == pytest.approx([10.0] * 37)
    assert sum(cores.cores_start[0] for cores in series.stages.values()) == pytest.approx(10.0)
    assert math.fsum(series.busy_core_s) <= result.core_seconds
    assert series.times()[:2] == [2.0, 2.5]


def test_busy_core_seconds_are_the_service_times() -> None:
    result = one([0.95, 2.0, 2.0], service="fixed")
    assert [round(busy, 6) for busy in result.series.busy_core_s[:4]] == [0.05, 0.05, 0.2, 0.0]
    assert result.series.stages["a"].items == {"v": [1, 0, 2, 0, 0, 0, 0, 0, 0, 0]}


def test_violations_name_outcome_stage_and_reason() -> None:
    tight = replace(ONE, slo_ms=150.0)
    script = Script(with_groups(tight, plan(tight)), dispatch=Settings(drop="per_stage", admission=False))
    result = run(tight, Times([1.0, 1.0, 1.0], 5.0), script)
    assert result.violations.dropped == 2
    assert result.causes == [Cause(outcome="dropped", stage="a", reason="predicted_late", requests=2)]


def test_late_answers_count_against_attainment_and_in_the_latency() -> None:
    tight = replace(ONE, slo_ms=150.0)
    script = Script(with_groups(tight, plan(tight)), dispatch=Settings(drop="none", admission=False))
    result = run(tight, Times([1.0, 1.0], 5.0), script)
    assert (result.answered, result.violations.late, result.attainment) == (1, 1, 0.5)
    assert result.latency_ms.mean == pytest.approx(150.0)


def test_progress_is_told_and_ends_with_all() -> None:
    seen: list[float] = []
    run(ONE, Times([1.0], 1000.0), Script(with_groups(ONE, plan(ONE)), tick_s=1.0), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 90 <= len(seen) <= 101


# --- what the autoscaler does -----------------------------------------------------------------------------------


def test_the_autoscaler_is_asked_every_tick_with_what_is_known_then() -> None:
    script = Script(with_groups(ONE, plan(ONE)), tick_s=0.5)
    run(ONE, Times([0.1, 0.2, 1.3], 3.0), script)
    assert [snapshot.now for snapshot in script.seen][:6] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert script.seen[1].per_second == (2,)
    assert script.seen[1].replicas[0].phase.value == "ready"


def test_the_tick_can_be_set() -> None:
    script = Script(with_groups(ONE, plan(ONE)), tick_s=0.5)
    run(ONE, Times([], 3.0), script, tick_s=1.0)
    assert [snapshot.now for snapshot in script.seen] == [1.0, 2.0, 3.0]


def test_a_plan_is_followed_with_cold_starts_and_resizes() -> None:
    first = with_groups(ONE, plan(ONE))
    more = with_groups(ONE, plan(ONE, reason="more"), a=(group(lanes=3), group(lanes=2)))
    result = run(ONE, Times([], 10.0), Script(first, {2.0: more}), cold_start_s=3.0, window_s=2.0)
    stage = result.series.stages["a"]
    assert stage.cores_start == pytest.approx([1.0] * 5)
    assert stage.cores_up == pytest.approx([0.0] + [2.0] * 4)
    assert stage.cores_out == pytest.approx([0.0] + [2.0] * 4)
    assert result.actions == {"plan": 1, "launch": 1, "resize": 1, "drain": 0, "lost": 0}
    assert [(round(d.t, 6), d.reason) for d in result.decisions] == [(0.0, ""), (2.0, "more")]


def test_decisions_that_say_the_same_are_told_once() -> None:
    alike = {float(t): with_groups(ONE, plan(ONE, reason="same"), a=group(lanes=1 + t % 2)) for t in range(1, 6)}
    result = run(ONE, Times([], 10.0), Script(with_groups(ONE, plan(ONE)), alike))
    assert result.actions["plan"] == 5
    assert [d.reason for d in result.decisions] == ["", "same"]


def test_an_impossible_plan_is_reported_by_name_and_the_last_good_one_goes_on() -> None:
    good = with_groups(ONE, plan(ONE))
    bad = with_groups(ONE, plan(ONE), a=group(lanes=17))
    result = run(ONE, Times([1.0, 5.0], 10.0), Script(good, {2.0: bad, 3.0: bad, 4.0: bad}))
    assert result.problems == [
        f"policy script: impossible plan ignored: {rule} (at 2.0 s, 3 times in all)"
        for rule in (
            "stages.a.groups[0]: a replica of 17 cores fits on no node; the largest has 16",
            "the replicas need 17 cores, but all nodes together have 16",
        )
    ]
    assert (result.answered, result.actions["plan"]) == (2, 0)
    assert result.mean_cores == pytest.approx(1.0)


def test_a_first_plan_that_carries_none_of_the_requests_says_why_and_one_that_carries_a_part_is_no_problem() -> None:
    good = with_groups(ONE, plan(ONE))
    slow = PathPlan(variants={"a": "v"}, share=1.0, latency_s=10.0)
    part: dict[str, Any] = {"feasible": False, "served_fraction": 0.5, "paths": (replace(slow, latency_s=0.01), slow)}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"feasible": False, "served_fraction": 0.0}, ["because (at 0.0 s)"]),
        ({"feasible": False, "paths": (slow,)}, ["because (at 0.0 s)"]),
        (part, []),
        ({"paths": (slow,)}, []),
    ]
    for changes, told in cases:
        first = replace(good, reason="because", **changes)
        result = run(ONE, Times([1.0], 10.0), Script(first))
        assert result.problems == [
            f"policy script: by its first plan no request can be served as asked: {w}" for w in told
        ]


def test_shared_cores_are_paid_by_node() -> None:
    shared = with_groups(ONE, plan(ONE, shared_cores=2.0), a=group(lanes=8))
    half = with_groups(ONE, plan(ONE, shared_cores=1.0), a=group(lanes=8))
    result = run(ONE, Times([1.0] * 4, 10.0), Script(shared, {5.0: half}), service="fixed")
    assert result.latency_ms.mean == pytest.approx(150.0), "two at a time"
    assert result.core_seconds == pytest.approx(15.0)
    assert result.series.cores_start == pytest.approx([2.0] * 5 + [1.0] * 5)
    assert result.series.stages["a"].cores_start == [0.0] * 10


def test_a_lost_replica_costs_no_request_while_there_are_retries() -> None:
    two = with_groups(ONE, plan(ONE), a=group(replicas=2))
    result = run(ONE, Times([1.0, 1.0], 20.0), Script(two), failures=(Failure(at_s=1.05, stage="a"),), service="fixed")
    assert (result.answered, result.actions["lost"], result.actions["launch"]) == (2, 1, 1)
    assert result.latency_ms.mean == pytest.approx(150.0), "one was run again when the other was done"
    assert sum(result.series.busy_core_s) == pytest.approx(0.25), "what was lost was busy until then"


def test_a_node_that_fails_is_not_paid_for_until_it_is_back() -> None:
    nodes = [Node(id=NodeId(name), cores=1.0) for name in ("n1", "n2")]
    two = with_groups(ONE, plan(ONE), a=group(replicas=2))
    failure = Failure(at_s=2.0, node="n2", down_s=3.0)
    result = run(ONE, Times([], 10.0), Script(two), nodes=nodes, failures=(failure,))
    assert result.series.cores == pytest.approx([2.0] * 2 + [1.0] * 3 + [2.0] * 5)


def test_contention_slows_lanes_that_are_busy_together() -> None:
    profile = cast("Profile", inline_profile(ONE))
    points = profile.stages["a"]["v"].latency
    slower = replace(points[0], lanes=2, p50_s=0.15, p95_s=0.15, p99_s=0.15)
    profile = replace(profile, stages={"a": {"v": replace(profile.stages["a"]["v"], latency=(*points, slower))}})
    for replicas, lanes, mean in ((1, 2, 125.0), (2, 1, 100.0)):
        script = Script(with_groups(ONE, plan(ONE), a=group(replicas=replicas, lanes=lanes)))
        nodes = [Node(id=NodeId("n1"), cores=2.0)]
        result = simulate(ONE, profile, Times([1.0, 1.0], 5.0), script, nodes, SimSettings(service="fixed"))
        assert result.latency_ms.mean == pytest.approx(mean), "the first to begin is alone at that moment"


# --- the same again ---------------------------------------------------------------------------------------------


def busy(seed: int, **settings: Any) -> Result:
    changes = {2.0: ocr_plan(2, 8), 4.0: ocr_plan(6, 4), 9.0: ocr_plan(3, 3)}
    return run(
        OCR,
        PoissonTrace(90.0, 15.0),
        Script(ocr_plan(), changes, dispatch=Settings()),
        seed=seed,
        fan_out="poisson",
        failures=(Failure(at_s=6.0, stage="read"),),
        **settings,
    )


def test_the_same_seed_gives_the_same_report_byte_for_byte() -> None:
    assert busy(5).report() == busy(5).report()
    assert busy(5).report() != busy(6).report()


def test_wall_time_is_in_the_summary_and_not_in_the_report() -> None:
    result = busy(1)
    assert b"wall_s" not in result.report()
    assert result.summary()["wall_s"] == result.wall_s > 0.0


def test_every_policy_sees_the_same_requests_with_the_same_objects() -> None:
    """With nothing dropped the items per stage are the seed's affair alone."""
    lazy = Settings(drop="none", admission=False)
    few = run(OCR, PoissonTrace(20.0, 20.0), Script(ocr_plan(2, 3), dispatch=lazy), fan_out="geometric")
    many = run(OCR, PoissonTrace(20.0, 20.0), Script(ocr_plan(8, 8), dispatch=lazy), fan_out="geometric")
    assert few.series.arrivals == many.series.arrivals
    assert few.items == many.items
    assert few.latency_ms.p99 != many.latency_ms.p99


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    def peak(rate: float) -> int:
        gc.collect()
        tracemalloc.start()
        quick = pipeline(200.0, a=stage(variant("v", {1: 0.5, 8: 1.0})))
        script = Script(with_groups(quick, plan(quick, batch=8), a=group(lanes=2)), tick_s=1.0)
        script.watch = lambda snapshot: None
        run(quick, PoissonTrace(rate, 3.0), script)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(100.0)  # caches
    assert peak(1000.0) < peak(100.0) + 32 * 1024


# --- what cannot be ---------------------------------------------------------------------------------------------


def problems(**words: Any) -> tuple[str, ...]:
    trace = words.pop("trace", Times([1.0], 10.0))
    nodes = words.pop("nodes", (Node(id=NodeId("n1"), cores=4.0),))
    profile = words.pop("profile", inline_profile(ONE))
    script = Script(words.pop("plan", with_groups(ONE, plan(ONE))))
    with pytest.raises(ConfigError) as caught:
        simulate(ONE, profile, trace, script, nodes, SimSettings(**words))
    return caught.value.problems


def test_bad_inputs_are_named() -> None:
    assert problems(trace=Times([], 0.0)) == ("the trace is empty: it lasts 0.0 s; give one of a positive length",)
    assert problems(nodes=()) == ("there are no nodes to run on; name at least one, with its cores",)
    assert problems(nodes=(Node(id=NodeId("n1"), cores=0.0),)) == (
        "node n1 has 0.0 cores, but replicas need some; give it at least 1",
    )
    assert problems(nodes=(Node(id=NodeId("n"), cores=1.0),) * 2) == ("two nodes have the same name: n, n",)
    assert problems(warmup_s=10.0) == ("`warmup_s` is 10, but the trace ends after 10 s: nothing would count",)
    assert problems(failures=(Failure(at_s=0.0, node="x"), Failure(at_s=0.0, stage="y"))) == (
        "failures[0]: there is no node 'x'; there are n1",
        "failures[1]: there is no stage 'y'; there are a",
    )
    assert problems(profile=Profile(pipeline="test", stages={})) == (
        "the profile says nothing of a/v; measure it with `triscale profile`",
    )
    first = "policy script: its first plan is impossible"
    assert problems(plan=with_groups(ONE, plan(ONE), a=group(lanes=5))) == (
        f"{first}: stages.a.groups[0]: a replica of 5 cores fits on no node; the largest has 4",
        f"{first}: the replicas need 5 cores, but all nodes together have 4",
    )


@pytest.mark.parametrize(("times", "last", "at"), [([2.0, 1.0], "2.0", "1.0"), ([-1.0], "0.0", "-1.0")])
def test_a_trace_that_goes_back_is_refused(times: list[float], last: str, at: str) -> None:
    with pytest.raises(
        SimulationError, match=f"the trace goes back in time: after t={last} a request arrives at t={at}"
    ):
        one(times)


def test_requests_that_nothing_would_ever_run_are_failed_in_the_end() -> None:
    nothing = with_groups(ONE, plan(ONE), a=())
    script = Script(nothing, tick_s=1.0, dispatch=Settings(drop="none", admission=False))
    result = run(ONE, Times([1.0, 2.0], 10.0), script)
    assert result.violations.failed == 2
    assert result.causes == [Cause(outcome="failed", stage="", reason="shutdown", requests=2)]
    assert result.problems == ["policy script: 2 requests were left after the trace that nothing would run (at 71.0 s)"]


def world() -> World:
    script = Script(with_groups(ONE, plan(ONE)))
    profile = cast("Profile", inline_profile(ONE))
    return World(Graph.of(ONE), profile, Times([1.0], 5.0), script, [Node(id=NodeId("n"), cores=1.0)], SimSettings())


def test_a_wakeup_that_does_not_advance_is_an_error() -> None:
    it = world()
    it.dispatcher.next_wakeup = lambda: 0.1  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match=r"woke at t=0\.1 and asked to be woken at t=0\.1 again"):
        it.run()


def test_wakeups_that_do_nothing_for_ever_are_an_error() -> None:
    it = world()
    wakes = iter(range(1, 10**9))
    it.dispatcher.next_wakeup = lambda: next(wakes) * 1e-5  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match=r"1001 wakeups in a row did nothing, the last at t=0\.01"):
        it.run()


def test_books_that_do_not_balance_are_an_error() -> None:
    it = world()
    it.dispatcher.accounts.stages[0].entered += 1
    with pytest.raises(
        SimulationError, match="the books do not balance at the end of the run: stage 0: 2 items entered"
    ):
        it.run()


class Endless:
    """A trace whose arrivals are drawn only as far as they are needed."""

    seconds = 2.0

    def __init__(self) -> None:
        self.drawn = 0

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        at = rng.random()
        while at < self.seconds:
            self.drawn += 1
            yield at
            at += 0.1


def test_arrivals_are_drawn_one_at_a_time() -> None:
    trace = Endless()
    most: list[int] = []
    script = Script(with_groups(ONE, plan(ONE)))
    script.watch = lambda snapshot: most.append(trace.drawn)
    run(ONE, trace, script, first_demand=1.0)
    assert most[0] <= 2
