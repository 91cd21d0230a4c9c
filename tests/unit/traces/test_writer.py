"""What is written is read back as it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.shapes import Levels
from triscale.traces.spec import parse_trace
from triscale.traces.writer import recording, write_counts


def test_timestamps_come_back_exactly_and_pass_through(tmp_path: Path) -> None:
    path = tmp_path / "new" / "times.txt"
    times = [1e-9, 0.1 + 0.2, 2.9999999999999996]
    assert list(recording(times, path, 4.5)) == times
    trace = parse_trace(str(path))
    assert list(trace.arrivals(random.Random(0))) == times
    assert trace.seconds == 5.0


def test_counts_come_back_exactly(tmp_path: Path) -> None:
    write_counts([3, 0, 12], tmp_path / "counts.txt")
    assert parse_trace(str(tmp_path / "counts.txt")).shape == Levels((3.0, 0.0, 12.0))


def test_a_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out .*: cannot be written: Is a directory; choose another path"):
        write_counts([1], tmp_path)
