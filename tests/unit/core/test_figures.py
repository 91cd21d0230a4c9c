"""Figures for people: few digits, and yet nothing reads as all or nothing that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.core.figures import NOTHING, count, counted, milliseconds, percent, rounded


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (1.0 - 1e-15, "100 %"),
        (0.99999, "99.999 %"),
        (0.999996, "99.9996 %"),
        (0.9996, "99.96 %"),
        (0.9994, "99.9 %"),
        (0.9312, "93.1 %"),
        (0.00001, "0.001 %"),
        (3e-6, "0.0003 %"),
        (0.0, "0 %"),
        (None, NOTHING),
    ],
)
def test_only_all_is_all_and_only_nothing_is_nothing(share: float | None, text: str) -> None:
    assert percent(share) == text


@given(st.integers(1, 10**6), st.data())
def test_no_count_of_a_million_reads_as_all_or_nothing_of_them(total: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, total))
    number = float(percent(part / total).removesuffix(" %"))
    assert (number == 0.0) == (part == 0)
    assert (number == 100.0) == (part == total)
    assert number == pytest.approx(100.0 * part / total, abs=0.0501)


def test_what_falls_short_of_a_mark_does_not_read_as_if_it_had_not() -> None:
    assert percent(0.98999, 2, 0.99) == "98.999 %"
    assert percent(0.99, 2, 0.99) == "99.00 %"
    assert percent(0.98994, 2, 0.99) == "98.99 %"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1234.0, "1,234"),
        (30.25, "30.2"),
        (3.0, "3"),
        (1234.5, "1,234"),
        (123.457, "123"),
        (0.04, "0.04"),
        (5.0 + 1e-12, "5"),
        (0, "0"),
    ],
)
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


def test_one_thing_is_not_several() -> None:
    assert [counted(number, "core") for number in (0, 1.0, 1.5, 1234)] == [
        "0 cores",
        "1 core",
        "1.5 cores",
        "1,234 cores",
    ]


@pytest.mark.parametrize(
    ("ms", "text"), [(612.4, "612 ms"), (9.94, "9.9 ms"), (1234.0, "1,234 ms"), (0.004, "0.004 ms"), (None, NOTHING)]
)
def test_milliseconds(ms: float | None, text: str) -> None:
    assert milliseconds(ms) == text


def test_a_difference_that_only_rounding_made_is_none() -> None:
    assert rounded(1e-15, 2) == "0.00"
    assert rounded(-0.004, 1) == "-0.004"
    assert rounded(100.0 + 1e-12, 2, 100.0) == "100.00"
