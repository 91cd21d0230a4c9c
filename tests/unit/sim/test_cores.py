"""Cores integrated exactly over time."""

from __future__ import annotations

import pytest

from triscale.sim.cores import CoreLedger, Kind


def test_changes_inside_a_window_count_from_their_moment() -> None:
    ledger = CoreLedger(1, 0.0, 10.0)
    ledger.change(0, Kind.START, 4, 0.0)
    ledger.change(0, Kind.UP, 2, 0.25)
    ledger.close_window(1.0)
    ledger.change(0, Kind.UP, -2, 1.5)
    ledger.close_window(2.0)
    assert ledger.means == [[4.0, 4.0], [1.5, 1.0], [0.0, 0.0]]
    assert ledger.total == pytest.approx(10.5)
    assert ledger.held == 4


def test_what_is_held_before_the_start_counts_from_the_start() -> None:
    ledger = CoreLedger(1, 5.0, 10.0)
    ledger.change(0, Kind.START, 3, 0.0)
    ledger.change(0, Kind.OUT, 1, 2.0)
    ledger.close_window(6.0)
    assert ledger.total == pytest.approx(4.0)


def test_nothing_counts_after_the_end() -> None:
    ledger = CoreLedger(2, 0.0, 1.0)
    ledger.change(1, Kind.START, 3, 0.0)
    ledger.close_window(1.0)
    ledger.change(1, Kind.START, 5, 1.5)
    ledger.change(1, Kind.START, 5, 9.0)
    assert ledger.total == pytest.approx(3.0)


def test_a_last_window_that_is_cut_short_has_the_mean_of_its_part() -> None:
    ledger = CoreLedger(1, 0.0, 1.5)
    ledger.change(0, Kind.OUT, 2, 0.0)
    ledger.close_window(1.0)
    ledger.change(0, Kind.OUT, 2, 1.25)
    ledger.close_window(1.5)
    assert ledger.means[Kind.OUT] == [2.0, 3.0]
    assert ledger.total == pytest.approx(3.5)
