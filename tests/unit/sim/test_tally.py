"""How requests ended, per window of arrival."""

from __future__ import annotations

import pytest

from triscale.core.request import Outcome, Reason
from triscale.dispatch.work import Request
from triscale.sim.tally import Tally


def ended(
    arrived: float, took: float, outcome: Outcome = Outcome.ANSWERED, *, stage: int = -1, reason: Reason = Reason.NONE
) -> Request:
    request = Request(0, 1, arrived, arrived + 1.0, 1, None)
    request.outcome, request.stage, request.reason = outcome, stage, reason
    request.ended = arrived + took
    request.accuracy_sum, request.answers = 1.6, 2
    return request


def test_a_request_belongs_to_the_window_in_which_it_arrived() -> None:
    tally = Tally(0.0, 3.0, 1.0)
    tally.ended(ended(0.9, 5.0, Outcome.LATE))
    tally.ended(ended(1.0, 0.1))
    tally.ended(ended(2.99, 0.1, Outcome.SHED, reason=Reason.OVERLOADED))
    assert tally.windows[Outcome.LATE] == [1, 0, 0]
    assert tally.windows[Outcome.ANSWERED] == [0, 1, 0]
    assert tally.windows[Outcome.SHED] == [0, 0, 1]
    assert tally.accuracy_sum == [0.0, 0.8, 0.0]


def test_the_warm_up_is_counted_apart() -> None:
    tally = Tally(10.0, 20.0, 1.0)
    tally.ended(ended(9.999, 5.0))
    tally.ended(ended(10.0, 5.0))
    assert tally.early[Outcome.ANSWERED] == 1
    assert tally.outcomes[Outcome.ANSWERED] == 1
    assert sum(tally.latency.counts.values()) == 1


def test_violations_are_counted_by_outcome_stage_and_reason() -> None:
    tally = Tally(0.0, 1.0, 1.0)
    for _ in range(2):
        tally.ended(ended(0.0, 1.0, Outcome.DROPPED, stage=1, reason=Reason.EXPIRED))
    tally.ended(ended(0.0, 2.0, Outcome.LATE))
    tally.ended(ended(0.0, 0.5))
    assert tally.causes == {(Outcome.DROPPED, 1, Reason.EXPIRED): 2, (Outcome.LATE, -1, Reason.NONE): 1}


def test_a_windows_p99_is_of_its_answers_late_ones_included() -> None:
    tally = Tally(0.0, 3.0, 1.0)
    for number in range(100):
        tally.ended(
            ended(0.001 * number, 2.0 if number > 90 else 0.1, Outcome.LATE if number > 90 else Outcome.ANSWERED)
        )
    tally.ended(ended(0.5, 9.0, Outcome.DROPPED))
    tally.ended(ended(2.5, 0.3))
    tally.settle()
    assert tally.p99_ms[0] == pytest.approx(2000.0, rel=0.01)
    assert tally.p99_ms[1] is None
    assert tally.p99_ms[2] == pytest.approx(300.0, rel=0.01)


def test_only_windows_that_no_one_is_left_of_are_settled() -> None:
    tally = Tally(0.0, 5.0, 1.0)
    tally.ended(ended(0.5, 0.1))
    tally.settle(0.9)
    assert tally.p99_ms == []
    tally.settle(1.0)
    assert len(tally.p99_ms) == 1
    tally.ended(ended(1.5, 0.2))
    tally.settle(2.5)
    assert tally.p99_ms[1] == pytest.approx(200.0, rel=0.01)
    tally.settle(100.0)
    assert len(tally.p99_ms) == 5


def test_a_last_window_may_be_cut_short() -> None:
    tally = Tally(0.0, 2.5, 1.0)
    tally.ended(ended(2.499999, 0.1))
    assert tally.windows[Outcome.ANSWERED] == [0, 0, 1]
