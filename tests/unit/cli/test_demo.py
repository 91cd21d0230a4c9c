"""`triscale demo` as a user runs it: real processes, a pipeline that only sleeps."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

pytestmark = pytest.mark.processes

PIPELINE = """\
name: sleepy
slo_ms: 400
inputs: {text: {datatype: BYTES, shape: [1]}}
stages:
  nap:
    variants: [{name: short, runtime: emulated, latency_ms: {1: 20, 4: 30}, accuracy: 0.9}]
"""
SAMPLES = """\
from triscale import Sample
def words(count, seed):
    for number in range(count):
        yield Sample({"text": f"word {number}"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE + "samples: {source: 'demo_words:words'}\n")
    (tmp_path / "bare.yaml").write_text(PIPELINE)
    real = PIPELINE.replace("runtime: emulated, latency_ms: {1: 20, 4: 30}", "model: 'demo_words:Nap'")
    (tmp_path / "real.yaml").write_text(real)
    (tmp_path / "demo_words.py").write_text(SAMPLES)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    """Starts a demo in a process group of its own, of which nothing is left in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "triscale", "demo", *arguments]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def children_of(pid: int) -> set[int]:
    """Processes that a process started, and those that they started."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                found |= {int(entry.name)} | children_of(int(entry.name))
    return found


def wait_for_load(process: subprocess.Popen[str], stream: IO[str] | None) -> set[int]:
    """Wait until requests are sent; the processes of the demo."""
    assert stream is not None
    for line in stream:
        if " sent, " in line and " 0 sent, " not in line:
            return children_of(process.pid)
    raise AssertionError("the demo ended before it sent anything")


def wait_until_gone(pids: set[int]) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor, "rb", buffering=0):
            # Readable when the process has ended.
            assert select.select([descriptor], [], [], 20.0)[0], f"process {pid} is still there"


def test_it_serves_loads_reports_and_leaves_nothing_behind(start: Any, folder: Path) -> None:
    process = start("pipeline.yaml", "--seconds", "3", "--rate", "20", "--json")
    pids = wait_for_load(process, process.stderr)
    out, _ = process.communicate()
    assert process.returncode == 0
    document = json.loads(out)
    assert document["pipeline"] == "sleepy"
    assert document["slo_ms"] == 400.0
    for run, policy in ((document, "triscale"), (document["against"], "static")):
        assert run["policy"] == policy
        assert run["counts_agree"] is True
        assert [(phase["name"], phase["rate_per_s"]) for phase in run["phases"]] == [
            ("calm", 20.0),
            ("surge", 100.0),
            ("calm again", 20.0),
        ]
        assert sum(phase["seconds"] for phase in run["phases"]) == pytest.approx(3.0)
        for phase in run["phases"]:
            outcomes = ("answered", "late", "dropped", "shed", "failed", "cancelled")
            assert phase["sent"] == sum(phase[outcome] for outcome in outcomes) > 0
            assert {"p50", "p95", "p99"} <= phase["latency_ms"].keys()
        answered = sum(phase["answered"] for phase in (run["warm_up"], *run["phases"]))
        assert run["server_counts"]["answered"] == answered
        assert run["stages"][0]["name"] == "nap"
        assert run["control"]["at_s"]
    sent = [[phase["sent"] for phase in run["phases"]] for run in (document, document["against"])]
    assert sent[0] == sent[1], "both policies meet the same load"
    assert document["ceiling"]["variants"] == {"nap": "short"}
    assert document["surge"]["phase"] == 1
    assert "sleepy: demo" in (folder / "reports" / "sleepy.html").read_text()
    wait_until_gone(pids)


def test_ctrl_c_ends_the_load_and_still_reports(start: Any, folder: Path) -> None:
    process = start("pipeline.yaml", "--seconds", "3600", "--rate", "20", "--json", "--report", "mine.html")
    pids = wait_for_load(process, process.stderr)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130
    document = json.loads(out)
    assert document["stopped"] is True
    assert document["counts_agree"] is True
    assert [phase["name"] for phase in document["phases"]] == ["warm-up"]
    assert "against" not in document
    assert "stopped early" in (folder / "mine.html").read_text()
    wait_until_gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_killed_nothing_stays(number: signal.Signals, start: Any) -> None:
    process = start("pipeline.yaml", "--seconds", "3600", "--rate", "20")
    pids = wait_for_load(process, process.stdout)
    assert len(pids) >= 3
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    wait_until_gone(pids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["real.yaml"],
            "pipeline 'sleepy' names no samples, so there is nothing to send that stage 'nap' understands",
        ),
        (["real.yaml", "--cold-start", "1"], "--cold-start: variant 'short' of stage 'nap' really loads"),
        (["pipeline.yaml", "--nodes", "many"], "'many' does not begin with a number of cores"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["pipeline.yaml", "--set", "samples.source=demo_words:none"], "the module 'demo_words' has no 'none'"),
    ],
)
def test_a_demo_that_cannot_be_run_says_why(arguments: list[str], message: str, start: Any) -> None:
    process = start(*arguments, "--seconds", "1")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert message in errors
    assert "Traceback" not in errors


def test_an_emulated_pipeline_stands_for_a_cluster_and_needs_no_samples(start: Any, folder: Path) -> None:
    process = start(
        "bare.yaml", "--nodes", "2x2", "--cold-start", "0.1", "--seconds", "2", "--rate", "20", "--against", "none",
        "--json", "--report", "mine.html",
    )  # fmt: skip
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    document = json.loads(out)
    assert "against" not in document
    assert document["plan"]["cores"] == 4
    assert document["counts_agree"] is True
    assert "cores held under triscale" in (folder / "mine.html").read_text()
