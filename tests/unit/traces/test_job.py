from __future__ import annotations

import math
import random

import msgspec
import pytest

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job
from triscale.traces.payload import PayloadFiles, Synthetic, TensorMetadata
from triscale.traces.spec import parse_trace

GOOD: dict[str, object] = {
    "url": "http://127.0.0.1:8000",
    "model": "ocr",
    "phases": (Phase("steady", 10.0, 2.0),),
    "slo_ms": 100.0,
    "source": "m:f",
}
TRACED = GOOD | {
    "phases": (),
    "source": "",
    "trace": parse_trace("even:rate=10,seconds=2"),
    "payload": PayloadFiles(paths=("a.json",)),
}


def test_a_job_travels_as_json() -> None:
    job = Job(**GOOD)  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job


@pytest.mark.parametrize(
    "payload",
    [
        PayloadFiles(paths=("a.json",)),
        Synthetic(inputs=(TensorMetadata(name="x", datatype="FP32", shape=(-1,)),), shapes={"x": (3,)}),
    ],
)
def test_a_job_of_a_trace_and_a_payload_travels_as_json(payload: PayloadFiles | Synthetic) -> None:
    job = Job(**(TRACED | {"payload": payload}))  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job


def test_a_trace_is_one_part_of_its_mean_rate_and_arrives_as_it_says() -> None:
    trace = parse_trace("ramp:from=0,to=100,seconds=10")
    job = Job(**(TRACED | {"trace": trace, "seed": 3}))  # type: ignore[arg-type]
    assert job.parts == (Phase("trace", 50.0, 10.0),)
    assert job.expected == 500.0
    assert list(job.arrivals()) == [(at, 0) for at in trace.arrivals(random.Random(3))]


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
        ({"phases": (Phase("a", 1e6, 60.0),)}, "about 60,000,000 requests, but one run remembers at most 20,000,000"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers: 'X' is not a header of one line"),
        ({"headers": {"X": "\u20ac"}}, "headers: 'X' is not a header of one line"),
        ({"headers": {"X:": "a"}}, "headers: 'X:' is not a header of one line"),
        ({"headers": {"Content-Length": "3"}}, "headers: 'Content-Length' is set by the load generator itself"),
        ({"trace": parse_trace("even:rate=1")}, "phases and trace are both given, but a run has one load"),
        ({"phases": (), "trace": parse_trace("even:rate=1e6")}, "trace makes about 60,000,000 requests"),
        ({"source": ""}, "a run has either a source of samples or a payload to send"),
        ({"payload": PayloadFiles(paths=("a",))}, "a run has either a source of samples or a payload to send"),
        ({"source": "", "payload": PayloadFiles(paths=("a",)), "score": "m:s"}, "score needs a source"),
        ({"deadline_ms": 0.0}, "deadline_ms is 0.0, but it is a number of milliseconds above 0, an hour at most"),
        ({"deadline_ms": math.nan}, "deadline_ms is nan"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Job(**(GOOD | change))  # type: ignore[arg-type]


def test_an_unknown_key_is_refused() -> None:
    raw = msgspec.json.encode(GOOD | {"rate": 3})
    with pytest.raises(msgspec.ValidationError, match="unknown field `rate`"):
        msgspec.json.decode(raw, type=Job)
