"""Operating points, wait tables and supplies: what a number of lanes carries within a budget."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from triscale.core.profile import LatencyPoint, VariantProfile
from triscale.policy.optimise.points import Point, WaitTable, lane_grid, measure_points, with_wait_tables
from triscale.policy.optimise.settings import Settings
from triscale.policy.optimise.supply import Supply

PROFILE = VariantProfile(
    latency=tuple(
        LatencyPoint(batch=b, threads=t, p50_s=s, p95_s=s * 1.2, p99_s=s * 1.4)
        for b, t, s in (
            (1, 1, 0.010),
            (2, 1, 0.016),
            (4, 1, 0.040),
            (8, 1, 0.060),
            (1, 2, 0.006),
            (2, 2, 0.009),
            (4, 2, 0.020),
            (8, 2, 0.032),
        )
    )
)
PAPER = Settings(wait="half_slo", utilisation=1.0)
QUEUE = Settings()


def points(settings: Settings, cores: int = 8) -> list[Point]:
    return measure_points(PROFILE, 8, cores, settings, 1.0)


def tabulated(most: int = 400) -> list[Point]:
    return with_wait_tables(points(QUEUE), 1.0, most, 0.95)


class TestPoints:
    def test_batches_that_are_slower_and_carry_no_more_are_left_out(self) -> None:
        assert [(p.threads, p.batch) for p in points(PAPER)] == [(1, 1), (1, 2), (1, 8), (2, 1), (2, 2), (2, 8)]

    def test_threads_beyond_the_largest_node_are_left_out(self) -> None:
        assert {p.threads for p in points(PAPER, cores=1)} == {1}

    def test_batches_and_threads_can_be_chosen(self) -> None:
        chosen = measure_points(PROFILE, 2, 8, Settings(wait="none", threads=(2,), batches=(1, 2, 4)), 1.0)
        assert [(p.threads, p.batch) for p in chosen] == [(2, 1), (2, 2)]

    def test_the_papers_count_capacity_in_the_quantile_and_triscale_in_the_mean(self) -> None:
        assert points(PAPER)[0].rate == pytest.approx(1 / 0.012)
        mean = 0.010 * math.exp((math.log(1.2) / 1.645) ** 2 / 2.0)
        assert points(QUEUE)[0].rate == pytest.approx(0.9 / mean)
        assert points(QUEUE)[0].service_s == pytest.approx(0.012)

    def test_waits_by_the_papers_rules(self) -> None:
        half = points(PAPER)[1]
        assert half.wait_s(1, 1.0) == half.service_s
        assert half.fixed_s == 2 * half.service_s
        fill = points(Settings(wait="batch_fill", utilisation=1.0))[1]
        assert fill.wait_s(1, 50.0) == pytest.approx(1 / 50.0)
        assert fill.wait_s(1, 0.0) == 0.0
        assert points(Settings(wait="none"))[0].wait_s(1, 50.0) == 0.0

    def test_a_batch_that_fills_too_slowly_carries_nothing_in_time(self) -> None:
        fill = points(Settings(wait="batch_fill", utilisation=1.0))[1]
        assert fill.most_items(1, fill.service_s + 0.001) == 0.0
        assert fill.most_items(1, fill.service_s + 1.0) == pytest.approx(fill.rate)

    def test_fewest_lanes_are_just_enough(self) -> None:
        point = points(PAPER)[0]
        assert point.fewest_lanes(point.rate * 3, 1.0, 10) == 3
        assert point.fewest_lanes(point.rate * 3.01, 1.0, 10) == 4
        assert point.fewest_lanes(point.rate * 3, 1.0, 2) is None
        assert point.fewest_lanes(0.0, 1.0, 2) == 1
        assert point.fewest_lanes(0.0, 0.001, 2) is None

    @pytest.mark.parametrize("lanes", [1, 3, 17, 100])
    def test_predicted_waits_and_capacities_are_each_others_inverse(self, lanes: int) -> None:
        point = tabulated()[0]
        for budget in (0.014, 0.02, 0.05, 0.2):
            most = point.most_items(lanes, budget)
            if most > 0.0:
                assert point.latency_s(lanes, most * 0.999) <= budget * 1.001
                assert point.fewest_lanes(most, budget, 400) is not None
                assert (point.fewest_lanes(most, budget, 400) or 0) <= lanes

    def test_beyond_what_a_pool_carries_the_wait_has_no_end(self) -> None:
        point = tabulated()[0]
        assert point.wait_s(1, 1000.0) == math.inf
        assert point.wait_s(0, 1.0) == math.inf
        assert point.fewest_lanes(1e6, 0.02, 400) is None


class TestWaitTable:
    def test_between_grid_points_it_is_cautious(self) -> None:
        table = WaitTable([1, 4], np.array([np.linspace(1.0, 2.7, 28), np.linspace(0.0, 1.7, 28)]))
        assert table.wait_s(3, 0.5) == table.wait_s(1, 0.5) > table.wait_s(4, 0.5)
        assert table.wait_s(1, 0.0) == 1.0
        assert table.wait_s(1, 0.999) == math.inf
        assert table.load_for(1, 0.5) == 0.0
        assert table.load_for(4, 9.0) == 0.985

    def test_many_waits_at_once_are_each_as_alone(self) -> None:
        table = tabulated()[0].table
        assert table is not None
        waits = np.array([-1.0, 0.0, 0.001, 0.005, 0.02, 0.5])
        together = table.loads_for(3, waits)
        assert together.tolist() == pytest.approx([table.load_for(3, float(wait)) for wait in waits])

    def test_the_lane_grid_is_dense_where_lanes_are_few(self) -> None:
        assert lane_grid(5) == [1, 2, 3, 4, 5]
        grid = lane_grid(10_000)
        assert grid[:16] == list(range(1, 17))
        assert grid[-1] == 10_000
        assert len(grid) < 60

    def test_nothing_to_tabulate(self) -> None:
        assert with_wait_tables([], 1.0, 4, 0.95) == []


class TestSupply:
    def test_without_predicted_waits_every_lane_carries_the_same(self) -> None:
        supply = Supply(points(PAPER)[:3], 0.05, 10)
        point = points(PAPER)[1]
        assert supply.proportional
        assert supply.items(3) == pytest.approx(3 * point.rate)
        assert supply.point(1) == point
        assert supply.lanes(3 * point.rate) == 3
        assert supply.lanes(11 * point.rate) is None
        assert supply.lanes(0.0) == 0
        assert supply.line(0, 10) == pytest.approx((0.0, point.rate))

    def test_what_is_too_slow_for_the_budget_carries_nothing(self) -> None:
        supply = Supply(points(PAPER), 0.001, 10)
        assert supply.most == 0
        assert supply.items(5) == 0.0
        assert supply.lanes(1.0) is None

    def test_larger_pools_carry_more_per_lane(self) -> None:
        supply = Supply([p for p in tabulated() if p.threads == 1], 0.05, 400)
        per_lane = [supply.items(n) / n for n in (1, 2, 4, 16, 100, 400)]
        assert all(later >= earlier * (1.0 - 1e-12) for earlier, later in pairwise(per_lane))
        assert per_lane[-1] > 1.2 * per_lane[0]
        for lanes in (1, 5, 33, 222):
            assert supply.lanes(supply.items(lanes)) == lanes

    @pytest.mark.parametrize(("low", "high"), [(0, 400), (0, 3), (7, 90), (20, 20)])
    def test_the_line_is_nowhere_below(self, low: int, high: int) -> None:
        supply = Supply([p for p in tabulated() if p.threads == 1], 0.03, 400)
        offset, slope = supply.line(low, high)
        assert offset + slope * low == pytest.approx(supply.items(low))
        for lanes in range(low, high + 1):
            assert supply.items(lanes) <= (offset + slope * lanes) * (1.0 + 1e-9) + 1e-9
