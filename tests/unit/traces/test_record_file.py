from __future__ import annotations

import errno
import io
import json
import math
import random
from pathlib import Path

import pytest

from triscale.core.request import Outcome
from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase
from triscale.traces.record_file import open_record, write_record
from triscale.traces.records import Records
from triscale.traces.spec import parse_trace

PHASES = (Phase("a", 1.0, 1.0), Phase("b", 1.0, 2.0))


def records() -> Records:
    """The second one ended first, and was never sent."""
    made = Records()
    for number, lag, outcome, reason in (
        (1, math.nan, Outcome.FAILED, "no_connection"),
        (0, 0.002, Outcome.ANSWERED, ""),
    ):
        made.add(
            number=number,
            phase=number,
            intended=0.25 + number,
            behind=0.001,
            lag=lag,
            latency=0.5,
            outcome=outcome,
            reason=reason,
            stage="",
        )
    return made


def written(path: Path) -> str:
    with open_record(str(path)) as file:
        write_record(file, records(), PHASES, payloads=1, seed=7, as_csv=path.suffix == ".csv")
    return path.read_text()


def test_json_lines_in_the_order_of_the_intended_moments(tmp_path: Path) -> None:
    first, second = map(json.loads, written(tmp_path / "run.jsonl").splitlines())
    assert first == {
        "number": 0,
        "id": "replay-7-0",
        "phase": "a",
        "payload": 0,
        "intended_s": 0.25,
        "behind_ms": 1.0,
        "lag_ms": 2.0,
        "latency_ms": 500.0,
        "outcome": "answered",
        "reason": "",
        "stage": "",
    }
    assert (second["lag_ms"], second["outcome"], second["reason"]) == (None, "failed", "no_connection")


def test_a_csv_is_a_trace_again(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    header, *rows = written(path).splitlines()
    assert header == "number,id,phase,payload,intended_s,behind_ms,lag_ms,latency_ms,outcome,reason,stage"
    assert rows[1] == "1,replay-7-1,b,0,1.25,1.0,,500.0,failed,no_connection,"
    trace = parse_trace(f"file:path={path},format=timestamps,column=intended_s")
    assert list(trace.arrivals(random.Random(0))) == [0.25, 1.25]


def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"record .*nowhere/run.csv: cannot be written: No such file or directory"):
        open_record(str(tmp_path / "nowhere" / "run.csv"))


class FullDisk(io.StringIO):
    name = "run.csv"

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("as_csv", [True, False])
def test_a_full_disk_is_told(as_csv: bool) -> None:
    with pytest.raises(ConfigError, match=r"record run.csv: cannot be written: No space left"):
        write_record(FullDisk(), records(), PHASES, payloads=1, seed=7, as_csv=as_csv)
