"""The trace command and the options that it shares: what is shown, written and refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from triscale.cli.trace import trace
from triscale.cli.trace_options import build_trace
from triscale.errors import ConfigError
from triscale.traces.spec import KINDS

SPIKE = "spike:base=20,peak=120,start=10,length=5,seconds=30"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(trace, arguments)


def run(*arguments: str) -> str:
    result = invoke(*arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def document(*arguments: str) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


def test_a_trace_is_shown_as_a_plot_and_figures() -> None:
    shown = run(SPIKE, "--seed", "1")
    first, *lines = shown.splitlines()
    assert first == f"{SPIKE}: 30 s"
    assert "requests/s" in lines
    assert "● rate   ○ drawn" in shown
    assert "rate      mean 36.7, median 20, max 120 requests/s" in lines
    assert any(line.startswith("drawn     1,079 requests (expected 1,100); per second median 20,") for line in lines)
    assert any(line.startswith("bursts    index of dispersion at 1 s: 38.73, around the rate 0.77") for line in lines)


def test_the_document_has_its_stable_keys_and_the_same_seed_gives_the_same_one() -> None:
    found = document("themis", "--seed", "3")
    assert list(found) == [
        "name", "seconds", "requests", "expected", "rate", "counts", "dispersion", "dispersion_around_rate", "series",
    ]  # fmt: skip
    assert len(found["series"]["rate"]) == len(found["series"]["counts"]) == 660
    assert sum(found["series"]["counts"]) == found["requests"]
    assert found == document("themis", "--seed", "3")
    other = document("themis", "--seed", "4")
    assert other["series"]["rate"] == found["series"]["rate"]
    assert other["series"]["counts"] != found["series"]["counts"]


def test_changes_apply_in_their_order() -> None:
    found = document("ramp:from=0,to=100,seconds=100", "--slice", "50:", "--stretch", "1/5", "--range", "10:30")
    assert found["name"].endswith(", seconds 50 to the end, time times 0.2, rates from 10 to 30")
    assert found["seconds"] == 10.0
    assert found["series"]["rate"] == pytest.approx([11.0 + 2.0 * second for second in range(10)])
    assert document("poisson:rate=50", "--slice", ":20", "--scale", "2")["expected"] == 2000.0


@pytest.mark.parametrize("form", ["timestamps", "counts"])
def test_what_is_written_can_be_replayed(tmp_path: Path, form: str) -> None:
    path = tmp_path / "drawn.txt"
    found = document(SPIKE, "--out", str(path), "--out-as", form)
    again = document(str(path))
    assert again["seconds"] == 30.0
    assert again["series"]["rate"] == found["series"]["counts"]
    if form == "timestamps":
        assert again["series"]["counts"] == found["series"]["counts"]
    assert f"written to {path}" in run(SPIKE, "--out", str(path), "--out-as", form)


def test_a_recording_is_not_overwritten_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "drawn.txt"
    run(SPIKE, "--out", str(path))
    before = path.read_text()
    with pytest.raises(ConfigError, match="is the file that the trace is read from; choose another path"):
        run(str(path), "--out", str(path))
    assert path.read_text() == before


def test_a_plot_is_an_svg_or_a_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    svg, page = tmp_path / "t.svg", tmp_path / "new" / "t.html"
    run(SPIKE, "--plot", str(svg), "--scale", "2")
    run(SPIKE, "--plot", str(page))
    assert "<svg" in svg.read_text()
    assert "rates times 2" in svg.read_text()
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert f"<h1>{SPIKE}</h1>" in text
    assert "<svg" in text
    assert "index of dispersion" in text
    with pytest.raises(ConfigError, match=r"t.png: a plot is an .svg or an .html file"):
        run(SPIKE, "--plot", str(tmp_path / "t.png"))


def test_the_help_names_every_kind() -> None:
    shown = run("--help")
    assert all(name in shown for name in KINDS)


def test_a_long_trace_is_drawn_as_means() -> None:
    shown = run("even:rate=2,seconds=5000")
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("poisson:rate=0", {}, "trace 'poisson:rate=0' is empty: its rate is 0 all the time"),
        (SPIKE, {"trace_slice": "10"}, "--slice '10' is not two numbers with a colon between them, such as 10:60"),
        (SPIKE, {"trace_slice": "a:b"}, "--slice 'a:b' is not two numbers"),
        (SPIKE, {"trace_slice": "5:3"}, "the slice from 5 s to 3 s is not inside the trace, which lasts 30 s"),
        (SPIKE, {"trace_range": "5:"}, "--range '5:' lacks a bound; it is LO:HI in requests/s, such as 50:425"),
        (SPIKE, {"trace_range": "5:3"}, "the range 5:3 is not one of rates"),
        (SPIKE, {"trace_range": "3:5", "trace_scale": 2.0}, "--scale has no effect on the rates that --range sets"),
        (SPIKE, {"trace_scale": -1.0}, "scale is -1.0"),
        (SPIKE, {"trace_stretch": 0.0}, "stretch is 0.0"),
        (SPIKE, {"trace_column": "x"}, "is generated and has no column 'x'"),
    ],
)
def test_what_cannot_be_done_is_told(spec: str, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_trace(spec, **options)


def test_a_factor_that_is_none_is_told() -> None:
    for text in ("x", "1/0", "1/2/3"):
        result = invoke(SPIKE, "--scale", text)
        assert result.exit_code == 2
        assert f"'{text}' is not a factor, such as 2, 0.5 or 1/60" in result.output


def test_other_commands_can_build_the_same_trace() -> None:
    made = build_trace(SPIKE, trace_slice="10:15", trace_scale=0.5)
    assert (made.seconds, made.rate(0.0)) == (5.0, 60.0)
    assert list(made.arrivals(random.Random(1))) == list(made.arrivals(random.Random(1)))
