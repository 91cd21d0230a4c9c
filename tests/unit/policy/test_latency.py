"""The latency model: tables win, the fit extends them, and the dispatcher's copy learns."""

from __future__ import annotations

import math

import pytest

from triscale.core.profile import LatencyPoint, VariantProfile
from triscale.policy.latency import LatencyModel, ServiceTimes


def point(batch: int, ms: float, threads: int = 1, lanes: int = 1, tail: float = 1.0) -> LatencyPoint:
    seconds = ms / 1000.0
    return LatencyPoint(
        batch=batch, threads=threads, lanes=lanes, p50_s=seconds, p95_s=seconds * tail, p99_s=seconds * tail * tail
    )


def profile(*points: LatencyPoint) -> VariantProfile:
    return VariantProfile(latency=points)


class TestModel:
    def test_what_was_measured_is_answered_as_measured(self) -> None:
        model = LatencyModel(profile(point(1, 10, tail=1.2), point(4, 31, tail=1.2)))
        assert model(1) == pytest.approx(0.012)
        assert model(4) == pytest.approx(0.0372)
        assert LatencyModel(profile(point(4, 31, tail=1.2)), "p99")(4) == pytest.approx(0.031 * 1.44)

    def test_between_batches_it_is_a_straight_line(self) -> None:
        assert LatencyModel(profile(point(1, 10), point(4, 40)))(2) == pytest.approx(0.020)

    def test_it_never_falls_as_the_batch_grows(self) -> None:
        model = LatencyModel(profile(point(1, 10), point(2, 30), point(4, 25), point(8, 60)))
        latencies = [model(batch) for batch in range(1, 20)]
        assert latencies == sorted(latencies)
        assert model(4) == pytest.approx(0.030)

    def test_beyond_the_largest_batch_the_steeper_slope_goes_on(self) -> None:
        flat_end = LatencyModel(profile(point(1, 10), point(4, 40), point(8, 40)))
        assert flat_end(16) == pytest.approx(0.040 + 8 * (0.030 / 7))
        steep_end = LatencyModel(profile(point(1, 10), point(2, 11), point(4, 41)))
        assert steep_end(8) == pytest.approx(0.041 + 4 * 0.015)

    def test_one_point_promises_nothing_from_batching(self) -> None:
        model = LatencyModel(profile(point(4, 40)))
        assert model(1) == pytest.approx(0.040)
        assert model(8) == pytest.approx(0.080)

    def test_one_thread_count_promises_nothing_from_threads(self) -> None:
        model = LatencyModel(profile(point(1, 10, threads=2), point(4, 40, threads=2)))
        assert model(4, threads=4) == pytest.approx(0.040)
        assert model(4, threads=1) == pytest.approx(0.080)

    def test_an_unmeasured_thread_count_follows_the_fit(self) -> None:
        truth = {(b, t): 20.0 * b / t + 4.0 * b + 5.0 for b in (1, 2, 4, 8) for t in (1, 2, 8)}
        model = LatencyModel(profile(*(point(b, ms, t) for (b, t), ms in truth.items())))
        assert model(4, threads=4) == pytest.approx((20.0 * 4 / 4 + 16.0 + 5.0) / 1000.0, rel=1e-6)

    def test_lanes_beside_each_other_slow_each_other_as_measured(self) -> None:
        model = LatencyModel(profile(point(1, 10), point(1, 12, lanes=2), point(1, 16, lanes=4), point(2, 20)))
        assert model(2, lanes=1) == pytest.approx(0.020)
        assert model(2, lanes=2) == pytest.approx(0.024)
        assert model(2, lanes=3) == pytest.approx(0.028)
        assert model(2, lanes=64) == pytest.approx(0.032)

    def test_more_lanes_are_never_predicted_to_be_faster(self) -> None:
        assert LatencyModel(profile(point(1, 10), point(1, 9, lanes=2))).contention(2) == 1.0

    def test_measured_only_under_company_it_still_answers(self) -> None:
        assert LatencyModel(profile(point(1, 12, lanes=2)))(1) == pytest.approx(0.012)

    def test_an_empty_profile_says_what_to_do(self) -> None:
        with pytest.raises(ValueError, match="triscale profile"):
            LatencyModel(profile())

    def test_it_knows_what_was_measured(self) -> None:
        model = LatencyModel(profile(point(1, 10), point(4, 30, threads=2)))
        assert model.threads == (1, 2)
        assert model.batches == (1, 4)
        assert model.fit is None


class TestServiceTimes:
    def times(self) -> ServiceTimes:
        return ServiceTimes(profile(point(1, 10, tail=1.5), point(8, 80, tail=1.5)), max_batch=8)

    def test_it_predicts_the_quantile_and_the_median(self) -> None:
        times = self.times()
        assert times.predict(8) == pytest.approx(0.120)
        assert times.typical(8) == pytest.approx(0.080)

    def test_beyond_its_list_items_cost_in_proportion(self) -> None:
        times = self.times()
        assert times.predict(16) == pytest.approx(0.240)
        assert times.typical(16) == pytest.approx(0.160)

    def test_it_follows_a_machine_that_is_three_times_slower(self) -> None:
        times = self.times()
        for _ in range(120):
            times.observe(4, 0.120)
        assert times.drift == pytest.approx(3.0, rel=0.02)
        assert times.predict(8) == pytest.approx(0.360, rel=0.02)

    def test_one_stalled_batch_moves_it_by_a_few_percent_only(self) -> None:
        times = self.times()
        times.observe(8, 60.0)
        assert 1.0 < times.drift < 1.05

    def test_the_correction_stays_within_a_factor_of_four(self) -> None:
        times = self.times()
        for _ in range(1000):
            times.observe(1, 10.0)
        assert times.drift == pytest.approx(4.0)
        for _ in range(1000):
            times.observe(1, 1e-6)
        assert times.drift == pytest.approx(0.25)

    @pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
    def test_readings_that_cannot_be_are_ignored(self, seconds: float) -> None:
        times = self.times()
        times.observe(1, seconds)
        assert times.drift == 1.0

    def test_batches_beyond_its_list_teach_it_too(self) -> None:
        times = self.times()
        times.observe(16, 0.320)
        assert times.drift > 1.0
