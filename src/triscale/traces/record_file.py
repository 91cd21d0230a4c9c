"""The rows of a run as a file: one for each request, in the order of their intended moments.

A name that ends in .csv makes a CSV file, any other JSON lines. The CSV is a trace again:
`--trace file:path=run.csv,format=timestamps,column=intended_s` sends the same requests at the same moments.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase
from triscale.traces.records import OUTCOMES, Records

__all__ = ["Row", "open_record", "request_id", "write_record"]


class Row(Struct, frozen=True, kw_only=True):
    """One request."""

    number: int
    id: str
    """Its `x-request-id`."""
    phase: str
    payload: int
    """Number of the sample or recorded body that it sent, from 0."""
    intended_s: float
    """Since the start of the run."""
    behind_ms: float
    """How late the load generator turned to it."""
    lag_ms: float | None
    """How late it was sent, a connection included; None when it never was."""
    latency_ms: float
    """From the intended moment to the end."""
    outcome: str
    reason: str
    stage: str


def request_id(seed: int, number: int) -> bytes:
    """What the request of a run carries as its `x-request-id`."""
    return b"replay-%d-%d" % (seed, number)


def open_record(path: str) -> IO[str]:
    """The file, empty; ConfigError when it cannot be written, before anything is sent."""
    try:
        return Path(path).open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"record {path}: cannot be written: {error.strerror}") from None


def write_record(
    file: IO[str], records: Records, phases: Sequence[Phase], payloads: int, seed: int, *, as_csv: bool
) -> None:
    """Write a run's rows; `payloads` is how many different bodies were sent in turn. ConfigError when that fails."""
    rows = _rows(records, phases, payloads, seed)
    try:
        if as_csv:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Row.__struct_fields__)
            writer.writerows(msgspec.structs.astuple(row) for row in rows)  # None becomes an empty cell
        else:
            encode = msgspec.json.Encoder().encode
            file.writelines(encode(row).decode() + "\n" for row in rows)
        file.flush()
    except OSError as error:
        raise ConfigError(f"record {file.name}: cannot be written: {error.strerror}") from None


def _rows(records: Records, phases: Sequence[Phase], payloads: int, seed: int) -> Iterator[Row]:
    for index in np.argsort(np.array(records.number, dtype=np.uint32)).tolist():
        number = records.number[index]
        reason, stage = records.cause_of(records.cause[index])
        lag = records.lag[index]
        yield Row(
            number=number,
            id=request_id(seed, number).decode(),
            phase=phases[records.phase[index]].name,
            payload=number % payloads,
            intended_s=round(records.intended[index], 7),
            behind_ms=round(records.behind[index] * 1000.0, 3),
            lag_ms=None if math.isnan(lag) else round(lag * 1000.0, 3),
            latency_ms=round(records.latency[index] * 1000.0, 3),
            outcome=OUTCOMES[records.outcome[index]],
            reason=reason,
            stage=stage,
        )
