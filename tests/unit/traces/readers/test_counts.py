"""Counts become rates; what holds no counts is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.readers.counts import read_counts
from triscale.traces.shapes import Levels


def written(folder: Path, text: str) -> Path:
    path = folder / "counts.txt"
    path.write_text(text)
    return path


def test_a_count_is_a_rate_over_its_row(tmp_path: Path) -> None:
    assert read_counts(written(tmp_path, "30\n60\n0\n")) == Levels((30.0, 60.0, 0.0), 1.0)
    assert read_counts(written(tmp_path, "30\n60\n0\n"), each=60.0) == Levels((0.5, 1.0, 0.0), 60.0)


def test_a_column_of_a_csv(tmp_path: Path) -> None:
    assert read_counts(written(tmp_path, "second,rps\n0,47\n1,45\n"), "rps") == Levels((47.0, 45.0), 1.0)


def test_an_empty_file_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"counts.txt: is empty; a trace of counts has at least one line"):
        read_counts(written(tmp_path, "requests\n"))
    with pytest.raises(ConfigError, match=r"counts.txt:2: '-4' stands where a count is expected: a number, 0 or more"):
        read_counts(written(tmp_path, "3\n-4\n"))
    with pytest.raises(ConfigError, match=r"counts.txt:1: an empty cell stands where a count is expected"):
        read_counts(written(tmp_path, ",1\n"), "1")


def test_timestamps_are_not_mistaken_for_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "0.5\n1.25\n3.125\n")
    with pytest.raises(ConfigError, match=r"counts.txt: looks like timestamps rather than counts.*format=timestamps"):
        read_counts(path, guess=True)
    assert read_counts(path).rates == (0.5, 1.25, 3.125)
    assert read_counts(written(tmp_path, "1\n2\n3\n"), guess=True).rates == (1.0, 2.0, 3.0)
