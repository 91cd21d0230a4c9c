from __future__ import annotations

import numpy as np
import pytest

from triscale.core.request import Outcome
from triscale.traces.http_connection import Exchange
from triscale.traces.records import Records, judge


def exchange(status: int = 200, lost: str = "", **headers: str) -> Exchange:
    ended = Exchange(b"", 0.0, lambda _: None)
    ended.status, ended.reason = status, lost
    ended.headers = {f"triscale-{name}".encode(): value.encode() for name, value in headers.items()}
    return ended


@pytest.mark.parametrize("outcome", Outcome)
def test_the_server_has_the_word_whatever_status_and_latency(outcome: Outcome) -> None:
    ended = exchange(200, outcome=outcome.label, reason="why", stage="where")
    assert judge(ended, latency=99.0, slo=0.1) == (outcome, "why", "where")


@pytest.mark.parametrize(
    ("status", "latency", "expected"),
    [
        (200, 0.1, (Outcome.ANSWERED, "", "")),
        (200, 0.11, (Outcome.LATE, "", "")),
        (429, 0.0, (Outcome.SHED, "http_429", "")),
        (503, 0.0, (Outcome.DROPPED, "http_503", "")),
        (408, 0.0, (Outcome.DROPPED, "http_408", "")),
        (504, 0.0, (Outcome.DROPPED, "http_504", "")),
        (500, 0.0, (Outcome.FAILED, "http_500", "")),
        (400, 0.0, (Outcome.FAILED, "http_400", "")),
    ],
)
def test_a_server_of_others_is_judged_by_status_and_latency(
    status: int, latency: float, expected: tuple[Outcome, str, str]
) -> None:
    assert judge(exchange(status), latency, slo=0.1) == expected


def test_an_unknown_word_in_the_header_is_no_word() -> None:
    assert judge(exchange(200, outcome="splendid"), 0.0, 1.0) == (Outcome.ANSWERED, "", "")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("timeout", Outcome.CANCELLED),
        ("stopped", Outcome.CANCELLED),
        ("no_connection", Outcome.FAILED),
        ("connection_lost", Outcome.FAILED),
        ("bad_response", Outcome.FAILED),
    ],
)
def test_without_a_response_the_reason_decides(reason: str, outcome: Outcome) -> None:
    assert judge(exchange(0, reason), 1.0, 1.0) == (outcome, reason, "")


def test_rows_come_back_as_columns() -> None:
    records = Records()
    for phase, outcome, stage in ((0, Outcome.ANSWERED, ""), (1, Outcome.DROPPED, "detect")):
        records.add(
            number=phase,
            phase=phase,
            intended=1.5,
            behind=0.125,
            lag=0.25,
            latency=0.5,
            outcome=outcome,
            reason=stage and "expired",
            stage=stage,
        )
    columns = records.columns()
    assert len(records) == 2
    assert columns["phase"].tolist() == [0, 1]
    assert [records.finished(row) for row in range(2)] == [2.0, 2.0]
    assert columns["number"].tolist() == [0, 1]
    assert columns["behind"].tolist() == [0.125, 0.125]
    assert columns["lag"].dtype == np.float32
    assert [records.cause_of(number) for number in columns["cause"].tolist()] == [("", ""), ("expired", "detect")]


def test_a_server_that_makes_up_reasons_does_not_fill_the_memory() -> None:
    records = Records()
    for number in range(3000):
        records.add(
            number=number,
            phase=0,
            intended=0.0,
            behind=0.0,
            lag=0.0,
            latency=0.0,
            outcome=Outcome.FAILED,
            reason=f"made up {number}",
            stage="",
        )
    causes = {records.cause_of(number) for number in records.cause}
    assert len(causes) == 1001
    assert ("other", "") in causes


def test_a_row_takes_as_few_bytes_as_the_limit_on_requests_reckons_with() -> None:
    records = Records()
    records.add(
        number=0, phase=0, intended=0.0, behind=0.0, lag=0.0, latency=0.0, outcome=Outcome.LATE, reason="", stage=""
    )
    assert sum(column.nbytes for column in records.columns().values()) == 33
