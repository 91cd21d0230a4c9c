"""Timestamps: the moment of every request, one a line, ascending.

Three ways of writing them are understood:
- seconds since the start, such as 12.75;
- epoch seconds (from 100,000,000 on, March 1973): the first one is the start;
- ISO 8601, such as 2024-05-01T12:00:00.250Z: the first one is the start; without a zone, all are taken to be of one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from triscale.errors import ConfigError
from triscale.traces.readers.table import cells, head_of, number
from triscale.traces.shapes import Levels

__all__ = ["count_timestamps", "read_timestamps"]

_EPOCH = 1e8
_MILLISECONDS = 1e11
"""Epoch seconds of the year 5138: such numbers count milliseconds."""
_LONGEST = 31 * 86_400


def count_timestamps(path: str | Path, column: str = "") -> Levels:
    """Requests in each second of a file, which is checked as a whole.

    The trace lasts to the end of the second of its last request, or as long as the file's head says (in whole seconds).
    ConfigError, with file and line, where it holds anything but ascending timestamps.
    """
    counts = array("L")
    for at in read_timestamps(path, column, _LONGEST):
        second = int(at)
        if second >= len(counts):
            counts.extend([0] * (second + 1 - len(counts)))
        counts[second] += 1
    if not counts:
        raise ConfigError(f"{path}: is empty; a trace of timestamps has at least one line with a time")
    head = head_of(path)
    said = number(path, 1, head["seconds"], "the length of the trace") if "seconds" in head else 0.0
    counts.extend([0] * (-int(-said // 1) - len(counts)))
    return Levels(tuple(float(count) for count in counts))


def read_timestamps(path: str | Path, column: str, seconds: float) -> Iterator[float]:
    """The moments as seconds since the start, each below `seconds`; ConfigError as in `count_timestamps`."""
    parse: Callable[[str | Path, int, str], float] | None = None
    origin = last = 0.0
    last_line = 0
    for line, text in cells(path, column):
        if parse is None:
            parse = _date if _is_date(text) else _seconds
            origin = last = parse(path, line, text)
            if parse is _seconds and origin < _EPOCH:
                origin = 0.0
        at = parse(path, line, text)
        if at < last:
            raise ConfigError(
                f"{path}:{line}: {text!r} is earlier than the time on line {last_line}, but a trace's times ascend; "
                "sort the file"
            )
        if at - origin >= seconds:
            raise ConfigError(
                f"{path}:{line}: {text!r} is {at - origin:,.0f} s after the start, but the trace ends at "
                f"{seconds:,.0f} s; times are in seconds, so divide milliseconds by 1000"
            )
        last, last_line = at, line
        yield at - origin


def _seconds(path: str | Path, line: int, text: str) -> float:
    at = number(path, line, text, "a time")
    if at >= _MILLISECONDS:
        raise ConfigError(f"{path}:{line}: {text!r} is no time in seconds; if it is in milliseconds, divide by 1000")
    return at


def _is_date(text: str) -> bool:
    return "-" in text[1:] and ":" in text


def _date(path: str | Path, line: int, text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{path}:{line}: {text!r} is no ISO 8601 time, such as 2024-05-01T12:00:00.250Z; correct the line"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
