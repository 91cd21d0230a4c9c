"""One column of a text file: the numbers of a plain list (one a line) or of a CSV, each with its line.

Lines that are empty or begin with `#` are passed over. The first line may name the columns. Files that triscale wrote
say what they hold in a comment, the head: `# triscale trace format=timestamps seconds=60`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from triscale.errors import ConfigError

__all__ = ["HEAD", "cells", "head_of", "number", "opened"]

HEAD = "# triscale trace"


@contextmanager
def opened(path: str | Path) -> Iterator[TextIO]:
    """The file as text; ConfigError when it cannot be read, or is no text."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give the path of a trace file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file in UTF-8; unpack or convert it first") from None


def head_of(path: str | Path) -> dict[str, str]:
    """What the file's first line says of it, where triscale wrote it; else nothing."""
    with opened(path) as file:
        first = file.readline(1000)
    if not first.startswith(HEAD):
        return {}
    pairs = (word.partition("=") for word in first[len(HEAD) :].split())
    return {key: value for key, _, value in pairs}


def cells(path: str | Path, column: str = "") -> Iterator[tuple[int, str]]:
    """(line, text) of every cell in a column, its title left out.

    `column` is its title, or its number from 1; empty for the only one. ConfigError when there is no such column, or
    more than one to choose from.
    """
    with opened(path) as file:
        rows = ((line, row) for line, row in _rows(path, file))
        first_line, first = next(rows, (0, []))
        if not first:
            return
        index = _index(path, first_line, first, column)
        if not _is_title(first[index]):
            yield first_line, first[index].strip()
        for line, row in rows:
            if index >= len(row):
                raise ConfigError(
                    f"{path}:{line}: has {len(row)} columns, but the trace is in column {index + 1}; complete the line"
                )
            yield line, row[index].strip()


def number(path: str | Path, line: int, text: str, what: str) -> float:
    """A finite number of 0 or more; ConfigError, saying `what` it stands for, otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if 0.0 <= value < float("inf"):
        return value
    given = f"{text!r}" if text else "an empty cell"
    raise ConfigError(f"{path}:{line}: {given} stands where {what} is expected: a number, 0 or more; correct the line")


def _rows(path: str | Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that says something; the separator is that of the first one: comma, semicolon, tab."""
    separator = ""
    for line, text in enumerate(file, 1):
        if not text.strip() or text.startswith("#"):
            continue
        separator = separator or next((mark for mark in ",;\t" if mark in text), ",")
        try:
            yield line, next(csv.reader([text], delimiter=separator, strict=True))
        except csv.Error as error:
            raise ConfigError(f"{path}:{line}: is not a line of a CSV file: {error}; correct the line") from None


def _index(path: str | Path, line: int, first: list[str], column: str) -> int:
    """Where the column is, from 0."""
    titles = [cell.strip() for cell in first]
    if not column:
        if len(first) == 1:
            return 0
        raise ConfigError(
            f"{path}:{line}: has {len(first)} columns ({_listed(titles)}); choose the trace's with "
            "--column NAME or column=NAME"
        )
    if column in titles and _is_title(column):
        return titles.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(first):
        return int(column) - 1
    raise ConfigError(
        f"{path}:{line}: has no column {column!r}; columns are {_listed(titles)}, "
        f"or their numbers from 1 to {len(first)}"
    )


def _is_title(cell: str) -> bool:
    """Whether a cell of the first line is a title rather than a value."""
    cell = cell.strip()
    if not cell[:1].isalpha():
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False  # nan and inf are no titles: they are wrong values


def _listed(titles: list[str]) -> str:
    shown = ", ".join(repr(title) for title in titles[:8])
    return f"{shown}, ..." if len(titles) > 8 else shown
