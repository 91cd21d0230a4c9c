"""The word for a trace: every kind and key, every file, and what is said of a word that is none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from triscale.errors import ConfigError
from triscale.traces.processes import Even, Gamma, Poisson
from triscale.traces.published import AzureDay, ThemisSlice
from triscale.traces.shapes import Constant, Diurnal, Levels, Mmpp, Ramp, Spike, Staircase
from triscale.traces.spec import KINDS, parse_trace
from triscale.traces.trace import AnyShape, Paced, Recorded

DOCS = Path(__file__).resolve().parents[3] / "docs" / "traces.md"


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("poisson:rate=50", Constant(50.0, 60.0)),
        ("mmpp:rates=50/200,dwell=10/2,seconds=60,seed=7", Mmpp((50.0, 200.0), (10.0, 2.0), 60.0, 7)),
        ("diurnal:low=50,high=425,period=300", Diurnal(50.0, 425.0, 600.0, 300.0)),
        ("ramp:from=10,to=500,seconds=300", Ramp(10.0, 500.0, 300.0)),
        ("staircase:from=20,to=120,step=20", Staircase(20.0, 120.0, 20.0, 10.0)),
        ("levels:rates=20/80/40,each=5", Levels((20.0, 80.0, 40.0), 5.0)),
        ("spike:base=20,peak=120,start=1,length=2", Spike(20.0, 120.0, 1.0, 2.0, 60.0)),
        ("themis", ThemisSlice()),
        ("themis:", ThemisSlice()),
        ("azure-day: seed=3 , noise=0", AzureDay(noise=0.0, seed=3)),
    ],
)
def test_every_kind_becomes_its_shape(spec: str, shape: AnyShape) -> None:
    assert parse_trace(spec) == Paced(name=spec, shape=shape, process=Poisson())


@pytest.mark.parametrize(
    ("spec", "process"),
    [
        ("even:rate=50", Even()),
        ("gamma:rate=50,cv2=4", Gamma(4.0)),
        ("themis:process=even", Even()),
        ("themis:process=gamma,cv2=2", Gamma(2.0)),
        ("themis:cv2=2", Gamma(2.0)),
        ("themis:process=poisson", Poisson()),
    ],
)
def test_the_process_is_that_of_the_kind_or_chosen(spec: str, process: object) -> None:
    trace = parse_trace(spec)
    assert isinstance(trace, Paced)
    assert trace.process == process


@pytest.mark.parametrize("name", [name for name in KINDS if name != "file"])
def test_every_example_is_a_trace(name: str) -> None:
    assert parse_trace(KINDS[name].example).expected() > 0.0


def test_every_kind_and_key_is_documented() -> None:
    rows = {line.split("|")[1].strip(): line for line in DOCS.read_text().splitlines() if line.startswith("| `")}
    for name, kind in KINDS.items():
        row = rows[f"`{name}`"]
        for field in msgspec.structs.fields(kind.shape) if kind.shape else ():
            assert f"`{field.encode_name}`" in row, f"docs/traces.md does not name {field.encode_name} of {name}"


def test_files_are_known_by_what_they_hold(tmp_path: Path) -> None:
    counts, azure, times = tmp_path / "counts.txt", tmp_path / "azure.csv", tmp_path / "times.txt"
    counts.write_text("second,rps\n0,5\n1,7\n")
    azure.write_text("HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,http,60,120\n")
    times.write_text("# triscale trace format=timestamps seconds=3\n0.5\n")
    assert parse_trace(f"file:path={counts},column=rps,each=2,process=even") == Paced(
        name=f"file:path={counts},column=rps,each=2,process=even", shape=Levels((2.5, 3.5), 2.0), process=Even()
    )
    assert parse_trace(str(counts), "rps").shape == Levels((5.0, 7.0))
    assert parse_trace(str(azure)).shape == Levels((1.0, 2.0), 60.0)
    assert parse_trace(f"file:path={azure},app=a,function=f,cv2=3").shape == Levels((1.0, 2.0), 60.0)
    assert parse_trace(str(times)) == Recorded(name=str(times), shape=Levels((1.0, 0.0, 0.0)), path=str(times))
    assert parse_trace(f"file:path={counts},column=1,format=timestamps") == Recorded(
        name=f"file:path={counts},column=1,format=timestamps", shape=Levels((1.0, 1.0)), path=str(counts), column="1"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bursty:rate=5", "trace 'bursty:rate=5': is neither a file nor a kind of trace; kinds are poisson, even, "),
        ("bursty", "azure-day, file; for example poisson:rate=50,seconds=60"),
        ("levelz:rates=" + "1/" * 3000, "is neither a file nor a kind"),
        ("nowhere.csv", "trace 'nowhere.csv': is neither a file nor a kind"),
        ("", "trace '': is neither a file"),
        ("poisson", "trace 'poisson': rate is missing; for example poisson:rate=50,seconds=60"),
        ("poisson:50", "'50' is not KEY=VALUE, such as seconds=60"),
        ("poisson:rate=", "'rate=' is not KEY=VALUE"),
        ("poisson:rate=5,rate=6", "rate is given twice"),
        ("poisson:rate=5,speed=6", "there is no key 'speed'; keys are rate, seconds; for example poisson"),
        ("poisson:rate=fast", "rate is 'fast', but it takes a number"),
        ("poisson:rate=-5", "rate is -5.0, but a rate is a finite number of requests/s, 0 or more; for example"),
        ("poisson:rate=nan", "rate is nan, but a rate is a finite number"),
        ("poisson:rate=5,process=even", "there is no key 'process'"),
        ("mmpp:rates=5/x,dwell=1/1", "rates is '5/x', but it takes numbers with / between them"),
        ("themis:seed=1.5", "seed is '1.5', but it takes a whole number"),
        ("themis:process=weibull", "process is 'weibull', but it is one of poisson, even, gamma"),
        ("themis:process=gamma", "gamma arrivals need cv2"),
        ("themis:process=even,cv2=3", "cv2 is for gamma arrivals, but these are even"),
        ("gamma:rate=5,cv2=0", "cv2 is 0.0, but the squared coefficient"),
        ("file:", "trace 'file:': path is missing; for example file:path="),
        ("file:path=nowhere.csv", "nowhere.csv: cannot be read: No such file"),
    ],
)  # fmt: skip
def test_a_word_that_is_no_trace_is_told_what_would_be_one(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_trace(spec)


def test_a_column_is_only_for_files() -> None:
    with pytest.raises(ConfigError, match="trace 'themis': is generated and has no column 'rps'; leave --column out"):
        parse_trace("themis", "rps")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("format=wave", "format is 'wave', but it is one of counts, timestamps, azure"),
        ("app=x", "there is no key 'app' for a file of the format counts; keys are path, format, column, each"),
        ("format=timestamps,each=5", "there is no key 'each' for a file of the format timestamps"),
        ("each=0", "each is 0.0, but a row covers a finite number of seconds above 0"),
        ("each=x", "each is 'x', but it takes a number"),
    ],
)
def test_keys_that_a_file_does_not_take_are_told(tmp_path: Path, keys: str, message: str) -> None:
    path = tmp_path / "counts.txt"
    path.write_text("1\n2\n")
    with pytest.raises(ConfigError, match=f"trace 'file:path=.*': {message}"):
        parse_trace(f"file:path={path},{keys}")
