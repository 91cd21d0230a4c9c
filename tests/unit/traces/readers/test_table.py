"""Columns of text files: what is found in them, and what is said of those that are amiss."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.readers.table import cells, head_of, number


def written(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text)
    return path


def test_a_plain_list_has_one_cell_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "# a remark\n3\n\n 4.5 \n# another\n0")
    assert list(cells(path)) == [(2, "3"), (4, "4.5"), (6, "0")]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["rps", "2"])
def test_a_column_is_found_by_title_and_by_number(tmp_path: Path, mark: str, column: str) -> None:
    path = written(tmp_path, f"second{mark}rps\n0{mark}47\n1{mark}45\n")
    assert list(cells(path, column)) == [(2, "47"), (3, "45")]


def test_a_file_without_titles_begins_at_its_first_line(tmp_path: Path) -> None:
    assert list(cells(written(tmp_path, "0,47\n1,45\n"), "2")) == [(1, "47"), (2, "45")]


def test_quotes_windows_lines_and_byte_order_marks_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeff"requests, all",x\r\n"7",1\r\n'.encode())
    assert list(cells(path, "requests, all")) == [(2, "7")]


def test_an_empty_file_has_no_cells(tmp_path: Path) -> None:
    assert list(cells(written(tmp_path, ""))) == []
    assert list(cells(written(tmp_path, "# only a remark\n\n"))) == []


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a,b\n1,2\n", "", r"t.csv:1: has 2 columns \('a', 'b'\); choose the trace's with --column NAME"),
        ("a,b\n1,2\n", "c", r"t.csv:1: has no column 'c'; columns are 'a', 'b', or their numbers from 1 to 2"),
        ("a,b\n1,2\n", "3", "has no column '3'"),
        ("a,b\n1,2\n", "0", "has no column '0'"),
        ("a,b\n1,2\n5\n", "b", "t.csv:3: has 1 columns, but the trace is in column 2"),
        ('a,b\n1,"2\n', "b", "t.csv:2: is not a line of a CSV file"),
    ],
)
def test_what_is_amiss_is_told_with_its_line(tmp_path: Path, text: str, column: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(cells(written(tmp_path, text), column))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.txt: cannot be read: No such file or directory; give the path"):
        list(cells(tmp_path / "nowhere.txt"))
    path = tmp_path / "packed.gz"
    path.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(ConfigError, match=r"packed.gz: is not a text file in UTF-8; unpack or convert it first"):
        list(cells(path))


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "4o", ""])
def test_what_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"t.csv:7: .* stands where a count is expected: a number, 0 or more"):
        number("t.csv", 7, text, "a count")


def test_the_first_line_of_a_list_is_no_title_when_it_is_a_wrong_number(tmp_path: Path) -> None:
    assert list(cells(written(tmp_path, "4o\n5\n"))) == [(1, "4o"), (2, "5")]
    assert list(cells(written(tmp_path, "nan\n5\n"))) == [(1, "nan"), (2, "5")]
    assert list(cells(written(tmp_path, "requests\n5\n"))) == [(2, "5")]


def test_the_head_says_what_triscale_wrote(tmp_path: Path) -> None:
    path = written(tmp_path, "# triscale trace format=counts each=1\n5\n")
    assert head_of(path) == {"format": "counts", "each": "1"}
    assert head_of(written(tmp_path, "# another remark\n5\n")) == {}
