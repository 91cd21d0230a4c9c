"""The grid: what is measured, in which order, and what is not worth its time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.core.profile import LatencyPoint
from triscale.profiler.grid import Cell, Grid, Wanted, doublings


def measured(cell: Cell, seconds: float) -> LatencyPoint:
    return LatencyPoint(
        batch=cell.batch, threads=cell.threads, lanes=cell.lanes, p50_s=seconds, p95_s=seconds, p99_s=seconds
    )


def walk(grid: Grid, latency: Callable[[Cell], float]) -> list[LatencyPoint]:
    """Measure until nothing remains."""
    points: list[LatencyPoint] = []
    while cells := grid.remaining(points):
        points.append(measured(cells[0], latency(cells[0])))
    return points


def cells_of(points: list[LatencyPoint]) -> list[tuple[int, int, int]]:
    return [(point.batch, point.threads, point.lanes) for point in points]


def test_alone_first_then_in_company_then_more_threads_at_the_ends_first() -> None:
    grid = Grid.of(Wanted(), max_batch=8, cores=2, limit_s=10.0)
    points = walk(grid, lambda cell: 0.01 * cell.batch / cell.threads)
    assert cells_of(points) == [
        *[(1, 1, 1), (2, 1, 1), (4, 1, 1), (8, 1, 1)],
        *[(1, 1, 2), (4, 1, 2)],
        *[(1, 2, 1), (8, 2, 1), (2, 2, 1), (4, 2, 1)],
    ]


def test_batches_that_the_objective_rules_out_are_left_out() -> None:
    grid = Grid.of(Wanted(threads=(1,), lanes=(1, 2)), max_batch=64, cores=2, limit_s=0.1)
    points = walk(grid, lambda cell: 0.03 * cell.batch)
    assert cells_of(points) == [(1, 1, 1), (2, 1, 1), (1, 1, 2), (2, 1, 2)], "4 items would take 120 ms of 100"


def test_a_smallest_batch_beyond_the_objective_is_measured_all_the_same() -> None:
    grid = Grid.of(Wanted(threads=(1,), lanes=(2,)), max_batch=4, cores=2, limit_s=0.1)
    assert cells_of(walk(grid, lambda cell: 0.5 * cell.batch)) == [(1, 1, 1), (1, 1, 2)]


def test_threads_that_do_not_help_end_the_search_and_are_not_kept() -> None:
    grid = Grid.of(Wanted(lanes=(1,)), max_batch=4, cores=8, limit_s=10.0)
    points = walk(grid, lambda cell: 0.01 * cell.batch / min(cell.threads, 2))
    assert {point.threads for point in points} == {1, 2, 4}, "4 are tried, 8 are not"
    assert [point.batch for point in points if point.threads == 4] == [1, 4], "only the ends"
    assert {point.threads for point in grid.kept(points)} == {1, 2}


def test_threads_may_help_large_batches_only() -> None:
    grid = Grid.of(Wanted(lanes=(1,)), max_batch=8, cores=2, limit_s=10.0)
    points = walk(grid, lambda cell: 0.01 * cell.batch / (cell.threads if cell.batch == 8 else 1))
    assert {point.threads for point in grid.kept(points)} == {1, 2}


def test_more_threads_may_bring_a_batch_below_the_objective() -> None:
    grid = Grid.of(Wanted(lanes=(1,)), max_batch=4, cores=2, limit_s=0.1)
    points = walk(grid, lambda cell: 0.04 * cell.batch / cell.threads)
    assert (4, 1, 1) not in cells_of(points)
    assert (4, 2, 1) in cells_of(points)


def test_no_cell_takes_more_cores_than_there_are() -> None:
    grid = Grid.of(Wanted(lanes=(1, 2, 3, 4)), max_batch=1, cores=4, limit_s=10.0)
    points = walk(grid, lambda cell: 0.01 / cell.threads)
    assert max(point.threads * point.lanes for point in points) == 4
    assert {(p.threads, p.lanes) for p in points} == {(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (4, 1)}
    assert (grid.most_lanes(1), grid.most_lanes(2), grid.most_lanes(3), grid.most_lanes(4)) == (4, 2, 1, 1)


def test_what_is_asked_for_is_measured_within_what_the_variant_takes() -> None:
    grid = Grid.of(Wanted(batches=(3, 5, 9), threads=(2,), lanes=(2,)), max_batch=6, cores=4, limit_s=10.0)
    points = walk(grid, lambda _: 0.01)
    assert cells_of(points) == [(3, 2, 1), (5, 2, 1), (6, 2, 1), (3, 2, 2)]
    assert len(grid.kept(points)) == 4, "the fewest threads are kept whatever they bring"


def test_threads_beyond_the_cores_are_refused() -> None:
    with pytest.raises(ValueError, match="no lane of 4 threads fits 2 cores"):
        Grid.of(Wanted(threads=(4, 8)), max_batch=1, cores=2, limit_s=1.0)


def test_doublings_end_with_the_limit() -> None:
    assert [doublings(limit) for limit in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


@given(
    max_batch=st.integers(1, 64),
    cores=st.integers(1, 8),
    limit_s=st.floats(0.001, 1.0),
    seed=st.randoms(use_true_random=False),
)
def test_whatever_is_measured_no_cell_comes_twice_and_it_ends(
    max_batch: int, cores: int, limit_s: float, seed: random.Random
) -> None:
    grid = Grid.of(Wanted(), max_batch, cores, limit_s)
    points = walk(grid, lambda cell: 0.01 * cell.batch * seed.uniform(0.2, 2.0) / cell.threads)
    assert len(set(cells_of(points))) == len(points)
    assert points[0].batch == points[0].threads == points[0].lanes == 1
    assert all(point.lanes * point.threads <= cores or point.lanes == 1 for point in points)
    assert set(grid.kept(points)) <= set(points)
