"""Lanes: never more jobs than lanes, always somebody who leads, and resizing that waits for what runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from triscale.replica.lanes import Lanes

WAIT = 10.0


class Stand:
    """Lanes on a queue instead of a socket. A job ends when it is told to."""

    def __init__(self, lanes: int) -> None:
        self.arriving: queue.Queue[list[str] | None] = queue.Queue()
        self.started: queue.Queue[str] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        self.control: queue.Queue[str] = queue.Queue()
        self.gates: dict[str, threading.Event] = {}
        self.led_by: dict[str, str] = {}
        self.run_by: dict[str, str] = {}
        self.most = 0
        self.lanes: Lanes[str] = Lanes(lanes, self._lead, self._execute)

    def _lead(self) -> bool:
        jobs = self.arriving.get()
        if jobs is None:
            return False
        for job in jobs:
            if job.startswith("control"):
                self.control.put(job)
            else:
                self.led_by[job] = threading.current_thread().name + str(threading.get_ident())
                self.lanes.submit(job)
        return True

    def _execute(self, job: str) -> None:
        self.most = max(self.most, self.lanes.running)
        self.run_by[job] = threading.current_thread().name + str(threading.get_ident())
        self.started.put(job)
        assert self.gates[job].wait(WAIT)
        self.ended.put(job)

    def send(self, *jobs: str) -> None:
        for job in jobs:
            self.gates[job] = threading.Event()
        self.arriving.put(list(jobs))

    def let(self, *jobs: str) -> None:
        for job in jobs:
            self.gates[job].set()

    def running(self, count: int) -> set[str]:
        return {self.started.get(timeout=WAIT) for _ in range(count)}

    def finished(self, count: int) -> set[str]:
        return {self.ended.get(timeout=WAIT) for _ in range(count)}


@pytest.fixture
def stands() -> Iterator[list[Stand]]:
    made: list[Stand] = []
    yield made
    for stand in made:
        stand.let(*stand.gates)
        stand.arriving.put(None)


def start(stands: list[Stand], lanes: int) -> Stand:
    stand = Stand(lanes)
    stands.append(stand)
    stand.lanes.start()
    return stand


def test_jobs_beyond_the_lanes_wait_and_run_in_order(stands: list[Stand]) -> None:
    stand = start(stands, 2)
    stand.send("a", "b", "c", "d")
    assert stand.running(2) == {"a", "b"}
    stand.let("a")
    assert stand.running(1) == {"c"}
    stand.let("b")
    assert stand.running(1) == {"d"}
    stand.let("c", "d")
    assert stand.finished(4) == {"a", "b", "c", "d"}
    assert stand.most == 2


def test_the_thread_that_takes_a_job_in_runs_it(stands: list[Stand]) -> None:
    stand = start(stands, 1)
    for job in ("a", "b", "c"):
        stand.send(job)
        stand.running(1)
        stand.let(job)
        stand.finished(1)
    assert stand.led_by == stand.run_by


def test_control_is_acted_on_while_every_lane_is_busy(stands: list[Stand]) -> None:
    stand = start(stands, 2)
    stand.send("a", "b", "c")
    stand.running(2)
    stand.send("control-1")
    assert stand.control.get(timeout=WAIT) == "control-1"
    stand.send("control-2")
    assert stand.control.get(timeout=WAIT) == "control-2"


def test_opening_lanes_starts_what_waits_though_the_leader_is_blocked(stands: list[Stand]) -> None:
    stand = start(stands, 1)
    stand.send("a", "b", "c", "d")
    stand.running(1)
    stand.send("control")
    stand.control.get(timeout=WAIT)  # the leader has read everything and blocks again
    stand.lanes.open(3)
    assert stand.running(2) == {"b", "c"}
    stand.let("a")
    assert stand.running(1) == {"d"}
    assert stand.most == 3


def test_closing_lanes_waits_for_their_jobs_and_runs_no_more_than_are_left(stands: list[Stand]) -> None:
    stand = start(stands, 3)
    stand.send("a", "b", "c", "d", "e")
    stand.running(3)
    settled = threading.Event()
    stand.lanes.restrict(1, settled.set)
    stand.let("a")
    stand.finished(1)
    assert not settled.is_set()
    stand.let("b")
    stand.finished(1)
    assert settled.wait(WAIT)
    stand.lanes.open(1)
    assert stand.lanes.running == 1
    stand.let("c")
    assert stand.running(1) == {"d"}
    stand.let("d")
    assert stand.running(1) == {"e"}
    stand.send("control")
    assert stand.control.get(timeout=WAIT) == "control"


def test_closing_idle_lanes_settles_at_once(stands: list[Stand]) -> None:
    stand = start(stands, 4)
    settled = threading.Event()
    stand.lanes.restrict(1, settled.set)
    assert settled.is_set()


def test_a_newer_restriction_replaces_an_older_one(stands: list[Stand]) -> None:
    stand = start(stands, 2)
    stand.send("a", "b")
    stand.running(2)
    older, newer = threading.Event(), threading.Event()
    stand.lanes.restrict(0, older.set)
    stand.lanes.restrict(1, newer.set)
    stand.let("a", "b")
    assert newer.wait(WAIT)
    stand.finished(2)
    assert not older.is_set()


def test_nothing_starts_while_all_lanes_are_closed(stands: list[Stand]) -> None:
    stand = start(stands, 2)
    stand.lanes.restrict(0, lambda: None)
    stand.send("a")
    stand.send("control")
    stand.control.get(timeout=WAIT)
    assert stand.started.empty()
    stand.lanes.open(1)
    assert stand.running(1) == {"a"}


def test_finish_is_called_after_the_last_job_even_of_those_that_wait(stands: list[Stand]) -> None:
    stand = start(stands, 1)
    stand.send("a", "b", "control")
    stand.control.get(timeout=WAIT)
    stand.running(1)
    done = threading.Event()
    stand.lanes.finish(done.set)
    stand.let("a")
    stand.running(1)
    assert not done.is_set()
    stand.let("b")
    assert done.wait(WAIT)


def test_threads_end_when_the_source_does() -> None:
    before = set(threading.enumerate())
    stand = Stand(3)
    stand.lanes.start()
    mine = set(threading.enumerate()) - before
    assert len(mine) == 4
    stand.arriving.put(None)
    for thread in mine:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_threads_leave_after_lanes_were_closed() -> None:
    before = set(threading.enumerate())
    stand = Stand(4)
    stand.lanes.start()
    stand.lanes.restrict(1, lambda: stand.lanes.open(1))
    for job in "abc":  # each takes the lead on; surplus leaders leave
        stand.send(job)
        stand.running(1)
        stand.let(job)
        stand.finished(1)
    mine = set(threading.enumerate()) - before
    deadline = threading.Event()
    for _ in range(100):
        if sum(thread.is_alive() for thread in mine) == 2:
            break
        deadline.wait(0.05)
    assert sum(thread.is_alive() for thread in mine) == 2
    stand.arriving.put(None)
    for thread in mine:
        thread.join(WAIT)
