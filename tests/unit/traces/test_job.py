from __future__ import annotations

import math

import msgspec
import pytest

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job

GOOD: dict[str, object] = {
    "url": "http://127.0.0.1:8000",
    "model": "ocr",
    "phases": (Phase("steady", 10.0, 2.0),),
    "slo_ms": 100.0,
    "source": "m:f",
}


def test_a_job_travels_as_json() -> None:
    job = Job(**GOOD)  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "nowhere"}, "url: 'nowhere' is not a server's address"),
        ({"model": ""}, "model is empty: name the pipeline"),
        ({"phases": ()}, "phases is empty"),
        ({"slo_ms": 0.0}, "slo_ms is 0.0, but it is a finite number of milliseconds above 0"),
        ({"slo_ms": math.nan}, "slo_ms is nan"),
        ({"timeout_ms": math.inf}, "timeout_ms is inf"),
        ({"samples": 0}, "samples is 0, but it is 1 or more"),
        ({"connections": 0}, "connections is 0, but it is 1 or more"),
        ({"keep_answers": -1}, "keep_answers is -1, but it is 0 or more"),
        ({"show": -1}, "show is -1, but it is 0 or more"),
        ({"phases": (Phase("a", 1e6, 60.0),)}, "about 60,000,000 requests, but one run remembers at most 5,000,000"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers: 'X' is not a header of one line"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Job(**(GOOD | change))  # type: ignore[arg-type]


def test_an_unknown_key_is_refused() -> None:
    raw = msgspec.json.encode(GOOD | {"rate": 3})
    with pytest.raises(msgspec.ValidationError, match="unknown field `rate`"):
        msgspec.json.decode(raw, type=Job)
