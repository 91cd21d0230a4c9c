"""Timestamps in three ways of writing them, streamed, and checked line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.readers.timestamps import count_timestamps, read_timestamps


def written(folder: Path, text: str) -> Path:
    path = folder / "times.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5\n0.5\n2.25\n", [0.5, 0.5, 2.25]),
        ("1700000000.5\n1700000000.75\n1700000003\n", [0.0, 0.25, 2.5]),
        ("2024-05-01T12:00:00Z\n2024-05-01T12:00:00.250Z\n2024-05-01T14:00:01+02:00\n", [0.0, 0.25, 1.0]),
        ("2024-05-01 12:00:00\n2024-05-01 12:01:00\n", [0.0, 60.0]),
    ],
)
def test_offsets_epochs_and_dates(tmp_path: Path, text: str, expected: list[float]) -> None:
    assert list(read_timestamps(written(tmp_path, text), "", 100.0)) == expected


def test_the_rate_is_what_each_second_counts_to_the_end_of_the_last(tmp_path: Path) -> None:
    shape = count_timestamps(written(tmp_path, "time,who\n0.5,a\n0.9,b\n3.0,c\n"), "time")
    assert (shape.rates, shape.seconds) == ((2.0, 0.0, 0.0, 1.0), 4.0)


def test_the_head_may_say_that_the_trace_is_longer(tmp_path: Path) -> None:
    path = written(tmp_path, "# triscale trace format=timestamps seconds=5.5\n0.5\n")
    assert count_timestamps(path).rates == (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "times.txt: is empty; a trace of timestamps has at least one line with a time"),
        ("1\n3\n2.5\n", "times.txt:3: '2.5' is earlier than the time on line 2, but a trace's times ascend; sort the"),
        ("-1\n", "times.txt:1: '-1' stands where a time is expected: a number, 0 or more"),
        ("nan\n", "times.txt:1: 'nan' stands where a time is expected"),
        ("1\n\n2x\n", "times.txt:3: '2x' stands where a time is expected"),
        ("1714564800250\n", "times.txt:1: '1714564800250' is no time in seconds; if it is in milliseconds, divide by"),
        (
            "5\n9000000\n",
            "'9000000' is 9,000,000 s after the start, but the trace ends at 2,678,400 s; .* milliseconds",
        ),
        (
            "2024-05-01T12:00:00Z\n2024-05-01T12:00\n2024-13-01T12:00\n",
            "times.txt:3: '2024-13-01T12:00' is no ISO 8601",
        ),
        ("2024-05-01T12:00:00Z\n17\n", "times.txt:2: '17' is no ISO 8601 time"),
        ("17\n2024-05-01T12:00:00Z\n", "times.txt:2: '2024-05-01T12:00:00Z' stands where a time is expected"),
    ],
)
def test_what_is_amiss_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        count_timestamps(written(tmp_path, text))


def test_reading_is_a_stream(tmp_path: Path) -> None:
    path = written(tmp_path, "1\n2\nwrong\n")
    times = read_timestamps(path, "", 100.0)
    assert [next(times), next(times)] == [1.0, 2.0]
    with pytest.raises(ConfigError, match=":3: 'wrong'"):
        next(times)
