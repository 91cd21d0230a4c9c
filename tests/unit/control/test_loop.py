"""The control loop decides on the autoscaler's clock, acts on what it decided, and survives whatever a policy does."""

from __future__ import annotations

import asyncio
import threading

from triscale.control.decider import LocalDecider, at_once
from triscale.control.loop import Controller
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.observe.decisions import Decision, DecisionLog
from triscale.observe.recorder import ControlRecorder


def plan(lanes: int, reason: str = "") -> Plan:
    group = ReplicaGroup(variants=("v",), lanes=lanes)
    stage = StagePlan(variants={"v": VariantPlan(share=1.0)}, groups=(group,))
    return Plan(stages={"a": stage}, cores=float(lanes), reason=reason)


class Policy:
    """Gives the plans of a list, one per tick; an exception in it is raised."""

    name = "listed"
    tick_s = 0.1
    dispatch = Settings()

    def __init__(self, *plans: Plan | Exception | None) -> None:
        self.plans = list(plans)
        self.seen: list[Snapshot] = []

    def first(self, demand: float) -> Plan:
        return plan(1)

    def decide(self, snapshot: Snapshot) -> Plan:
        self.seen.append(snapshot)
        found = self.plans.pop(0) if self.plans else None
        if isinstance(found, Exception):
            raise found
        return found or snapshot.plan


class Hands:
    """Stands in for the actuator."""

    def __init__(self) -> None:
        self.pursued: list[Plan] = []

    def pursue(self, plan: Plan) -> None:
        self.pursued.append(plan)


class Clock:
    time = 100.0

    def now(self) -> float:
        return self.time


def controller(policy: Policy, hands: Hands, **more: object) -> Controller:
    def look(current: Plan) -> Snapshot:
        return Snapshot(now=0.0, plan=current, nodes=(), replicas=(), per_second=(7,), recent=())

    return Controller(LocalDecider(policy, at_once), hands, look, plan(1), Clock(), **more)  # type: ignore[arg-type]


def test_a_new_plan_is_pursued_and_told_why() -> None:
    hands, wanted = Hands(), plan(4, "demand has doubled")
    it = controller(Policy(wanted), hands)
    asyncio.run(it.tick())
    assert hands.pursued == [wanted]
    (decision,) = it.decisions.since()
    assert (decision.reason, decision.cores_before, decision.cores) == ("demand has doubled", 1.0, 4.0)
    assert decision.arrivals == 7.0


def test_without_a_new_plan_what_runs_is_still_looked_after() -> None:
    hands = Hands()
    it = controller(Policy(None), hands)
    asyncio.run(it.tick())
    assert hands.pursued == [it.plan]
    assert it.decisions.total == 0


def test_a_policy_that_fails_leaves_the_last_plan_in_force_and_is_asked_again() -> None:
    hands, wanted = Hands(), plan(2)
    it = controller(Policy(ZeroDivisionError("no rate"), wanted), hands)
    asyncio.run(it.tick())
    assert it.failures == 1
    assert it.plan.cores == 1.0
    asyncio.run(it.tick())
    assert it.plan is wanted


def test_an_impossible_plan_is_refused() -> None:
    hands = Hands()
    it = controller(Policy(plan(64)), hands, check=lambda new: ["64 cores of 8"] if new.cores > 8 else [])
    asyncio.run(it.tick())
    assert it.failures == 1
    assert it.plan.cores == 1.0
    assert hands.pursued == [it.plan]


def test_each_decision_sees_the_plan_in_force() -> None:
    policy, hands = Policy(plan(2), plan(3)), Hands()
    it = controller(policy, hands)
    for _ in range(3):
        asyncio.run(it.tick())
    assert [snapshot.plan.cores for snapshot in policy.seen] == [1.0, 2.0, 3.0]
    assert [decision.number for decision in it.decisions.since(1)] == [2]


def test_ticks_keep_to_the_clock_and_missed_ones_are_not_made_up_for() -> None:
    policy, clock, slept = Policy(), Clock(), []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        if len(slept) == 6:
            raise asyncio.CancelledError
        clock.time += seconds + (0.73 if len(slept) == 3 else 0.01)

    it = Controller(
        LocalDecider(policy, at_once),
        Hands(),  # type: ignore[arg-type]
        lambda current: Snapshot(now=0.0, plan=current, nodes=(), replicas=(), per_second=(), recent=()),
        plan(1),
        clock,
        sleep=sleep,
    )

    async def run() -> None:
        try:
            await it.run()
        except asyncio.CancelledError:
            return

    asyncio.run(run())
    assert slept[:3] == [0.1, 0.09, 0.09]
    assert slept[3:] == [0.0, 0.09, 0.09]
    assert it.ticks == 5


def test_every_tick_is_timed_and_decisions_go_to_the_log_that_was_given() -> None:
    recorder, written = ControlRecorder(), list[Decision]()
    more = {"recorder": recorder, "decisions": DecisionLog(written.append)}
    it = controller(Policy(plan(4, "more"), ZeroDivisionError("no rate"), None), Hands(), **more)
    for _ in range(3):
        asyncio.run(it.tick())
    assert recorder.decide_s.count == 3
    assert [decision.reason for decision in written] == ["more"]


def test_a_plan_that_cannot_be_pursued_is_tried_again() -> None:
    class Clumsy(Hands):
        def pursue(self, plan: Plan) -> None:
            super().pursue(plan)
            if len(self.pursued) == 1:
                raise KeyError("a replica that is not there")

    hands = Clumsy()
    it = controller(Policy(plan(2)), hands)
    asyncio.run(it.tick())
    assert it.failures == 1
    asyncio.run(it.tick())
    assert hands.pursued == [it.plan, it.plan]


def test_a_loop_that_is_stopped_leaves_no_decision_behind_that_is_still_being_made() -> None:
    deciding, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    class Slow(Policy):
        def decide(self, snapshot: Snapshot) -> Plan:
            deciding.set()
            go_on.wait()
            ended.append("decided")
            return snapshot.plan

    async def run() -> None:
        it = Controller(
            LocalDecider(Slow()),
            Hands(),  # type: ignore[arg-type]
            lambda current: Snapshot(now=0.0, plan=current, nodes=(), replicas=(), per_second=(), recent=()),
            plan(1),
            Clock(),
        )
        tick = asyncio.create_task(it.tick())
        await asyncio.to_thread(deciding.wait)
        tick.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(tick, return_exceptions=True)
        assert tick.cancelled()
        assert ended == ["decided"]

    asyncio.run(run())


def test_while_nothing_changes_the_autoscaler_thinks_ahead() -> None:
    class Thoughtful(Policy):
        prepared = 0

        def prepare(self) -> bool:
            self.prepared += 1
            if self.prepared == 2:
                raise ZeroDivisionError
            return True

    policy = Thoughtful(None, plan(2), None, None)
    it = controller(policy, Hands())
    for expected in (1, 1, 2, 3):
        asyncio.run(it.tick())
        assert policy.prepared == expected
    assert it.failures == 1


class Away(LocalDecider):
    """Cannot be asked at first; things go wrong with it that nobody awaits."""

    ready = False
    failures = 3
    started = 0

    def start(self) -> None:
        self.started += 1


def test_while_nobody_can_decide_the_plan_is_pursued_and_no_tick_is_counted() -> None:
    policy, hands, recorder = Policy(plan(2)), Hands(), ControlRecorder()
    decider = Away(policy, at_once)

    def look(current: Plan) -> Snapshot:
        return Snapshot(now=0.0, plan=current, nodes=(), replicas=(), per_second=(), recent=())

    it = Controller(decider, hands, look, plan(1), Clock(), recorder=recorder)  # type: ignore[arg-type]
    asyncio.run(it.tick())
    assert hands.pursued == [plan(1)]
    assert (it.ticks, recorder.decide_s.count, policy.seen) == (0, 0, [])
    decider.ready = True
    asyncio.run(it.tick())
    assert hands.pursued == [plan(1), plan(2)]
    assert (it.ticks, recorder.decide_s.count) == (1, 1)


def test_what_goes_wrong_beside_decisions_counts_even_when_another_is_asked_from_now_on() -> None:
    it = controller(Policy(ZeroDivisionError("no rate"), None), Hands())
    asyncio.run(it.tick())
    it.ask_another(Away(Policy(), at_once))
    assert it.failures == 1 + 3
    it.ask_another(Away(Policy(), at_once))
    assert it.failures == 1 + 3 + 3
