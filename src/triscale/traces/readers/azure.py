"""The layout of the Azure Functions trace of 2019: one row per function, one column per minute of a day.

Columns: HashOwner, HashApp, HashFunction, Trigger, then 1 to 1440 with the invocations in that minute (Shahrad et al.,
"Serverless in the Wild", USENIX ATC 2020). Rows are summed as they are read, so a file of any length needs no more
memory than a day.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from triscale.errors import ConfigError
from triscale.traces.readers.table import number, opened
from triscale.traces.shapes import Levels

__all__ = ["is_azure", "read_azure"]

_NAMES = ("HashApp", "HashFunction")
_MINUTE_S = 60.0


def is_azure(path: str | Path) -> bool:
    """Whether the file's first line has the titles of this layout."""
    with opened(path) as file:
        titles = file.readline(1000).split(",")
    return all(name in titles for name in _NAMES)


def read_azure(path: str | Path, *, app: str = "", function: str = "") -> Levels:
    """The rate of all functions together, or of those whose hashes begin with `app` and `function`.

    ConfigError, with file and line, where the layout is another, or no function is chosen.
    """
    with opened(path) as file:
        rows = csv.reader(file)
        titles = next(rows, [])
        minutes = [index for index, title in enumerate(titles) if title.strip().isdecimal()]
        if not minutes or not all(name in titles for name in _NAMES):
            raise ConfigError(
                f"{path}:1: is not the layout of the Azure Functions trace: its first line has the titles "
                "HashOwner,HashApp,HashFunction,Trigger,1,2,...,1440"
            )
        app_at, function_at = (titles.index(name) for name in _NAMES)
        first, end = minutes[0], minutes[-1] + 1
        total = np.zeros(end - first)
        functions = 0
        for row in rows:
            if len(row) != len(titles):
                raise ConfigError(
                    f"{path}:{rows.line_num}: has {len(row)} columns, but the first line names {len(titles)}; "
                    "complete the line"
                )
            if row[app_at].startswith(app) and row[function_at].startswith(function):
                functions += 1
                total += _counts(path, rows.line_num, row[first:end])
    if not functions:
        chosen = " and ".join(f"{name}={value}" for name, value in (("app", app), ("function", function)) if value)
        raise ConfigError(
            f"{path}: has no function whose hash begins with {chosen}; look for it with `cut -d, -f2,3 {path}`"
            if chosen
            else f"{path}: is empty: there is no function below the titles"
        )
    return Levels(tuple((total / _MINUTE_S).tolist()), _MINUTE_S)


def _counts(path: str | Path, line: int, texts: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        counts = np.array([int(text) for text in texts], dtype=np.float64)
        if counts.min() >= 0.0:
            return counts
    except ValueError:
        pass
    return np.array([number(path, line, text, "the count of a minute") for text in texts])
