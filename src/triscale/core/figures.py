"""How figures are written for people: in reasons of plans, in the terminal and on pages.

One rule for all: a figure has the few digits that are meant, and more only where it would otherwise read as exactly
nothing, or exactly all, and is not. So 3 violations of a million requests are 0.0003 %, and not 0.0 %.
"""

from __future__ import annotations

__all__ = ["NOTHING", "count", "counted", "milliseconds", "percent", "rounded"]

NOTHING = "\u2013"
"""Stands where there is no figure."""
_MOST_DECIMALS = 9
_EXACT = 1e-9
"""A smaller difference comes from rounding inside."""


def rounded(value: float, decimals: int = 0, *marks: float) -> str:
    """1234.5678, 1 -> `1,234.6`. More decimals where 0 or one of the `marks` would be read, but is not meant."""
    while decimals < _MOST_DECIMALS and any(
        round(value, decimals) == mark and abs(value - mark) > _EXACT for mark in (0.0, *marks)
    ):
        decimals += 1
    return f"{value:,.{decimals}f}"


def count(number: float) -> str:
    """1234.0 -> `1,234`; fractions keep one digit below 100."""
    return rounded(number, 1 if number < 100 and abs(number - round(number)) > _EXACT else 0)


def counted(number: float, thing: str) -> str:
    """1.0, "core" -> `1 core`; 1234.0, "core" -> `1,234 cores`."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def percent(share: float | None, decimals: int = 1, *marks: float) -> str:
    """0.9312 -> `93.1 %`, 0.999996 -> `99.9996 %`. Only all is 100 %, and only nothing is 0 %; see `rounded`."""
    if share is None:
        return NOTHING
    for exact in (0.0, 1.0):
        if abs(share - exact) <= _EXACT:
            return f"{exact * 100:.0f} %"
    return f"{rounded(share * 100, decimals, 100.0, *(mark * 100 for mark in marks))} %"


def milliseconds(value: float | None) -> str:
    """612.4 -> `612 ms`; below 10 ms with a decimal."""
    if value is None:
        return NOTHING
    return f"{rounded(value, 1 if value < 10 else 0)} ms"
