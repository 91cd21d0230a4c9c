from __future__ import annotations

import math

import numpy as np
import pytest

from triscale.core.request import Outcome
from triscale.traces.arrivals import Phase
from triscale.traces.records import Records
from triscale.traces.results import Reasons
from triscale.traces.summary import latency_sample, percentile_ms, phase_results, seconds_series

PHASES = (Phase("steady", 2.0, 2.0), Phase("burst", 4.0, 1.0))


def records_of(*rows: tuple[int, float, float, Outcome] | tuple[int, float, float, Outcome, str, str]) -> Records:
    """Of (phase, intended, latency, outcome[, reason, stage])."""
    records = Records()
    for phase, intended, latency, outcome, *cause in rows:
        reason, stage = cause or ("", "")
        records.add(
            number=len(records),
            phase=phase,
            intended=intended,
            behind=0.0005,
            lag=0.001,
            latency=latency,
            outcome=outcome,
            reason=reason,
            stage=stage,
        )
    return records


RUN = records_of(
    (0, 0.5, 0.010, Outcome.ANSWERED),
    (0, 0.9, 0.030, Outcome.ANSWERED),
    (0, 1.5, 0.150, Outcome.LATE),
    (1, 2.1, 0.020, Outcome.ANSWERED),
    (1, 2.2, 0.001, Outcome.SHED, "plan_sheds", ""),
    (1, 2.3, 0.080, Outcome.DROPPED, "expired", "read"),
    (1, 2.4, 0.080, Outcome.DROPPED, "expired", "read"),
)


def test_every_request_is_counted_once_in_its_phase() -> None:
    steady, burst = phase_results(PHASES, RUN, slo=0.1, ran=3.0)
    assert (steady.name, steady.seconds, steady.rate_per_s, steady.sent) == ("steady", 2.0, 2.0, 3)
    assert (steady.answered, steady.late, steady.dropped, steady.shed, steady.failed) == (2, 1, 0, 0, 0)
    assert (burst.sent, burst.answered, burst.dropped, burst.shed, burst.cancelled) == (4, 1, 2, 1, 0)
    assert steady.attainment == pytest.approx(2 / 3)
    assert steady.goodput_per_s == 1.0
    assert burst.goodput_per_s == 1.0


def test_latency_is_of_answered_and_late_ones() -> None:
    steady, burst = phase_results(PHASES, RUN, slo=0.1, ran=3.0)
    assert (steady.latency_ms.p50, steady.latency_ms.p99, steady.latency_ms.max) == (30.0, 150.0, 150.0)
    assert (burst.latency_ms.p50, burst.latency_ms.max) == (20.0, 20.0)
    assert steady.lag_ms.max == pytest.approx(1.0)
    assert steady.behind_ms.p99 == pytest.approx(0.5)


def test_reasons_say_why_and_where_the_most_frequent_first() -> None:
    _, burst = phase_results(PHASES, RUN, slo=0.1, ran=3.0)
    assert burst.reasons == (
        Reasons(outcome="dropped", reason="expired", stage="read", count=2),
        Reasons(outcome="shed", reason="plan_sheds", stage="", count=1),
    )


def test_the_clients_own_view_of_lateness_stands_beside_the_servers() -> None:
    records = records_of((0, 0.1, 0.3, Outcome.ANSWERED), (0, 0.2, 0.05, Outcome.ANSWERED))
    (steady,) = phase_results(PHASES[:1], records, slo=0.1, ran=2.0)
    assert (steady.answered, steady.late, steady.late_at_client) == (2, 0, 1)


def test_a_run_without_requests_has_no_percentiles_and_no_attainment() -> None:
    (steady,) = phase_results(PHASES[:1], Records(), slo=0.1, ran=2.0)
    assert steady.sent == 0
    assert steady.attainment is None
    assert steady.latency_ms.p99 is None
    assert steady.lag_ms.p99 is None
    assert steady.reasons == ()


def test_a_stopped_run_counts_only_the_time_it_ran() -> None:
    steady, burst = phase_results(PHASES, RUN, slo=0.1, ran=2.5)
    assert (steady.seconds, burst.seconds) == (2.0, 0.5)
    assert burst.goodput_per_s == 2.0
    assert len(phase_results(PHASES, RUN, slo=0.1, ran=1.0)) == 1


def test_lag_leaves_out_what_was_never_sent() -> None:
    records = records_of((0, 0.1, 0.3, Outcome.ANSWERED))
    records.add(
        number=1,
        phase=0,
        intended=0.2,
        behind=0.0,
        lag=math.nan,
        latency=1.0,
        outcome=Outcome.FAILED,
        reason="no_connection",
        stage="",
    )
    (steady,) = phase_results(PHASES[:1], records, slo=0.1, ran=2.0)
    assert steady.lag_ms.max == pytest.approx(1.0)


def test_the_series_has_one_entry_a_second_by_intended_moment() -> None:
    series = seconds_series(RUN, 3.0)
    assert series.sent == (2, 1, 4)
    assert series.answered == (2, 0, 1)
    assert series.late == (0, 1, 0)
    assert series.dropped == (0, 0, 2)
    assert series.p50_ms == (10.0, 150.0, 20.0)
    assert series.p99_ms == (30.0, 150.0, 20.0)


def test_seconds_without_an_answer_have_no_percentile() -> None:
    assert seconds_series(records_of((0, 1.5, 0.1, Outcome.SHED)), 2.0).p50_ms == (None, None)
    assert seconds_series(Records(), 0.0).sent == (0,)


def test_percentiles_are_observed_values() -> None:
    seconds = np.arange(1, 101) / 1000.0
    assert [percentile_ms(seconds, percent) for percent in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile_ms(np.array([0.007]), 99) == 7.0


def test_the_sample_of_latencies_is_thinned_evenly_in_order_of_time() -> None:
    records = records_of(*((0, (999 - n) / 1000, n / 1000, Outcome.ANSWERED) for n in range(1000)))
    sample = latency_sample(records, 100)
    assert len(sample) == 100
    assert [second for second, _ in sample] == [n / 100 for n in range(100)]
    assert latency_sample(records_of((0, 0.0, 0.1, Outcome.SHED)), 100) == ()
