"""Counts: how many requests came in each second (or in each row of some other length)."""

from __future__ import annotations

import itertools
from pathlib import Path

from triscale.errors import ConfigError
from triscale.traces.readers.table import cells, number
from triscale.traces.shapes import Levels

__all__ = ["read_counts"]


def read_counts(path: str | Path, column: str = "", each: float = 1.0, *, guess: bool = False) -> Levels:
    """The rate that a file of counts describes; a row covers `each` seconds.

    Args:
        path: one number a line, or a CSV.
        column: of a CSV, by title or number from 1.
        each: seconds per row.
        guess: nobody said that these are counts: refuse what looks like timestamps.

    Raises:
        ConfigError: with file and line, where it holds anything but counts.

    """
    counts = [number(path, line, text, "a count") for line, text in cells(path, column)]
    if not counts:
        raise ConfigError(f"{path}: is empty; a trace of counts has at least one line with a number")
    ascending = all(a < b for a, b in itertools.pairwise(counts))
    if guess and len(counts) > 2 and ascending and not any(count.is_integer() for count in counts):
        raise ConfigError(
            f"{path}: looks like timestamps rather than counts: every number is above the one before, none is whole; "
            f"say which with file:path={path},format=timestamps or format=counts"
        )
    return Levels(tuple(count / each for count in counts), each)
