"""Drawn arrivals as files that `readers` read back, with a head that says what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from triscale.errors import ConfigError
from triscale.traces.readers.table import HEAD

__all__ = ["recording", "write_counts"]


def recording(times: Iterable[float], path: Path, seconds: float) -> Iterator[float]:
    """The same times, each written to the file as it passes. Exact: reading them back gives the very same numbers."""
    with _created(path) as file:
        file.write(f"{HEAD} format=timestamps seconds={seconds!r}\n")
        for at in times:
            file.write(f"{at!r}\n")
            yield at


def write_counts(counts: Sequence[int], path: Path) -> None:
    """One count per line, a second each."""
    with _created(path) as file:
        file.write(f"{HEAD} format=counts each=1\n")
        file.writelines(f"{count}\n" for count in counts)


@contextmanager
def _created(path: Path) -> Iterator[TextIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror}; choose another path") from None
    with file:
        yield file
