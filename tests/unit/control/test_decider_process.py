"""The program in an autoscaler's own process: every ask is answered, at once but for one bit of thinking ahead."""

from __future__ import annotations

import socket

import pytest

from triscale.control.decider_messages import Answer, Ask, Decided, Failed, Pipe, Ready, Unprepared, frame
from triscale.control.decider_process import answer
from triscale.core.plan import Plan, ReplicaGroup, StagePlan, VariantPlan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.testing.clock import ManualClock


def plan(lanes: int) -> Plan:
    stage = StagePlan(variants={"v": VariantPlan(share=1.0)}, groups=(ReplicaGroup(variants=("v",), lanes=lanes),))
    return Plan(stages={"a": stage}, cores=float(lanes))


def snapshot(current: Plan, now: float = 0.0) -> Snapshot:
    return Snapshot(now=now, plan=current, nodes=(), replicas=(), per_second=(7,), recent=())


class Listed:
    """Decides as listed (None: no change; an exception is raised), and has so many bits to prepare after each."""

    name = "listed"
    tick_s = 0.1
    dispatch = Settings()

    def __init__(self, clock: ManualClock, log: list[str], *plans: Plan | Exception | None, bits: int = 0) -> None:
        self.seen: list[Snapshot] = []
        self._clock = clock
        self._log = log
        self._plans = list(plans)
        self._bits = bits
        self._left = 0

    def first(self, demand: float) -> Plan:
        return plan(1)

    def decide(self, snapshot: Snapshot) -> Plan:
        self.seen.append(snapshot)
        self._left = self._bits
        self._log.append("decide")
        wanted = self._plans.pop(0)
        if isinstance(wanted, Exception):
            raise wanted
        return wanted or snapshot.plan

    def prepare(self) -> bool:
        self._log.append("prepare")
        self._clock.advance(0.02)
        self._left -= 1
        if self._left < 0:
            raise ZeroDivisionError("no rate")
        return self._left > 0


class Server:
    """Asks as listed; each ask comes after the program has looked for it so many times."""

    def __init__(self, log: list[str], *asks: tuple[int, Ask]) -> None:
        self.heard: list[Answer] = []
        self.rests: list[float] = []
        self._log = log
        self._asks = list(asks)
        self._looks = 0

    def receive(self) -> Ask | None:
        self._looks = 0
        return self._asks.pop(0)[1] if self._asks else None

    def waits(self, seconds: float) -> bool:
        self.rests.append(round(seconds, 6))
        self._looks += 1
        return bool(self._asks) and self._looks > self._asks[0][0]

    def send(self, message: Answer) -> None:
        self.heard.append(message)
        self._log.append("answer")


def asked(policy: Listed, clock: ManualClock, log: list[str], *asks: tuple[int, Ask]) -> Server:
    server = Server(log, *asks)
    answer(server, policy, clock)
    return server


def test_a_plan_that_was_told_once_is_known_from_then_on() -> None:
    clock, log = ManualClock(), list[str]()
    policy = Listed(clock, log, None, None, plan(4), None, bits=1)
    one, two = plan(1), plan(2)
    asks = [Ask.about(1, snapshot(one, 0.0), None), Ask.about(2, snapshot(one, 0.1), one)]
    asks += [Ask.about(3, snapshot(two, 0.2), one), Ask.about(4, snapshot(two, 0.3), two)]
    assert [ask.plan for ask in asks] == [one, None, two, None]
    server = asked(policy, clock, log, *[(0, ask) for ask in asks])
    assert policy.seen == [snapshot(one, 0.0), snapshot(one, 0.1), snapshot(two, 0.2), snapshot(two, 0.3)]
    assert policy.seen[1].plan is policy.seen[0].plan
    assert server.heard == [Decided(1, None), Decided(2, None), Decided(3, plan(4)), Decided(4, None)]


def test_an_autoscaler_that_raises_is_answered_with_its_traceback_and_asked_again() -> None:
    clock, log = ManualClock(), list[str]()
    policy = Listed(clock, log, KeyError("gone"), plan(2))
    current = plan(1)
    server = asked(
        policy, clock, log, (0, Ask.about(1, snapshot(current), None)), (0, Ask.about(2, snapshot(current), current))
    )
    failed, decided = server.heard
    assert isinstance(failed, Failed)
    assert failed.number == 1
    assert failed.why.startswith("Traceback")
    assert failed.why.endswith("KeyError: 'gone'\n")
    assert decided == Decided(2, plan(2))


def test_while_nothing_waits_and_nothing_has_changed_it_thinks_ahead_until_all_is_thought_of() -> None:
    clock, log = ManualClock(), list[str]()
    current = plan(1)
    asked(Listed(clock, log, None, bits=3), clock, log, (0, Ask.about(1, snapshot(current), None)))
    assert log == ["decide", "answer", "prepare", "prepare", "prepare"]


def test_an_ask_waits_for_one_bit_of_thinking_ahead_at_most() -> None:
    clock, log = ManualClock(), list[str]()
    current = plan(1)
    asked(
        Listed(clock, log, None, plan(2), bits=9),
        clock,
        log,
        (0, Ask.about(1, snapshot(current), None)),
        (1, Ask.about(2, snapshot(current), current)),
    )
    assert log == ["decide", "answer", "prepare", "decide", "answer"]


def test_after_a_change_it_waits_for_what_comes_of_it() -> None:
    clock, log = ManualClock(), list[str]()
    asked(Listed(clock, log, plan(2), bits=3), clock, log, (0, Ask.about(1, snapshot(plan(1)), None)))
    assert log == ["decide", "answer"]


def test_it_rests_as_long_as_each_bit_took() -> None:
    clock, log = ManualClock(), list[str]()
    server = asked(Listed(clock, log, None, bits=3), clock, log, (0, Ask.about(1, snapshot(plan(1)), None)))
    assert server.rests == [0.0, 0.02, 0.02]


def test_an_error_while_it_thinks_ahead_is_told_and_ends_it_until_the_next_ask() -> None:
    clock, log = ManualClock(), list[str]()
    current = plan(1)
    server = asked(
        Listed(clock, log, None, None, bits=0),
        clock,
        log,
        (9, Ask.about(1, snapshot(current), None)),
        (9, Ask.about(2, snapshot(current), current)),
    )
    assert log == ["decide", "answer", "prepare", "answer"] * 2
    assert [type(message) for message in server.heard] == [Decided, Unprepared] * 2
    assert isinstance(server.heard[1], Unprepared)
    assert server.heard[1].why.endswith("ZeroDivisionError: no rate\n")


def test_messages_arrive_whole_in_whatever_pieces_they_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pipe = Pipe(theirs)
        assert not pipe.waits(0.0)
        ask = Ask.about(1, snapshot(plan(1)), None)
        data = frame(ask) + frame(Ready())
        ours.sendall(data[:-1])
        assert pipe.waits(0.0)
        assert pipe.receive() == ask
        ours.sendall(data[-1:])
        assert pipe.receive() == Ready()


@pytest.mark.parametrize("sent", [0, 2, 20])
def test_a_server_that_is_gone_is_the_end_even_in_the_middle_of_a_message(sent: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        pipe = Pipe(theirs)
        ours.sendall(frame(Ask.about(1, snapshot(plan(1)), None))[:sent])
        ours.close()
        assert pipe.waits(0.0)
        assert pipe.receive() is None
