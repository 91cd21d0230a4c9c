"""`triscale replay`: from options to a job, and what is said when that cannot be."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from triscale.cli.replay import _command_line, replay
from triscale.cli.replay_document import replay_document
from triscale.cli.replay_target import Wishes, headers_of, job_for, payload_words
from triscale.cli.server_metrics import ServerCounts
from triscale.core.request import Outcome
from triscale.errors import ConfigError
from triscale.observe.report import render
from triscale.traces.endpoint import Trust
from triscale.traces.job import Job
from triscale.traces.payload import PayloadFiles, Synthetic, TensorMetadata
from triscale.traces.results import Latency, PhaseResult, ReplayResult
from triscale.traces.spec import parse_trace

TRACE = parse_trace("even:rate=10,seconds=2")
INPUT = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
ECHO = {
    "/v2/models": {"models": ["echo"]},
    "/v2/models/echo": {"name": "echo", "inputs": [INPUT]},
    "/v2/models/echo/config": {"parameters": {"slo_ms": {"string_value": "80"}}},
}
PIPELINE = """\
name: echo
slo_ms: 400
max_batch_size: 8
inputs: {x: {datatype: FP32, shape: [4]}}
stages:
  nap:
    variants: [{name: short, runtime: emulated, latency_ms: {1: 20}}]
"""

Documents = dict[str, object]


@pytest.fixture
def serving() -> Iterator[Callable[[Documents], str]]:
    """Starts a server that answers with these documents and nothing else; its address."""
    servers = []

    def start(documents: Documents) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = documents.get(self.path, {"error": "no such model"})
                body = json.dumps(document).encode()
                self.send_response(200 if self.path in documents else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def made(url: str, **wishes: Any) -> Job:
    return asyncio.run(job_for(Wishes(target=url, **({"synthetic": "random"} | wishes)), TRACE))


def test_what_is_left_out_is_asked_of_the_server(serving: Callable[[Documents], str]) -> None:
    job = made(serving(ECHO))
    assert (job.model, job.slo_ms, job.trace) == ("echo", 80.0, TRACE)
    assert job.payload == Synthetic(inputs=(TensorMetadata(name="x", datatype="FP32", shape=(-1, 4)),))
    assert not job.batched
    assert payload_words(job) == "random values as x"


def test_what_is_said_goes_before_what_the_server_says(serving: Callable[[Documents], str]) -> None:
    url = serving(ECHO | {"/v2/models": {"models": ["echo", "other"]}})
    job = made(url, model="echo", slo_ms=50.0, deadline_ms=20.0, synthetic="zeros", shapes=("x=2,4",))
    assert (job.model, job.slo_ms, job.deadline_ms) == ("echo", 50.0, 20.0)
    assert isinstance(job.payload, Synthetic)
    assert (job.payload.values, job.payload.shapes) == ("zeros", {"x": (2, 4)})
    assert payload_words(job) == "zeros as x"
    assert made(url, model="echo", deadline_ms=20.0).slo_ms == 20.0


def test_a_pipeline_names_model_objective_and_samples(serving: Callable[[Documents], str], tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE + "samples: {source: 'words:make', score: 'words:same'}\n")
    job = made(serving(ECHO), pipeline=str(file), synthetic=None)
    assert (job.model, job.slo_ms, job.batched) == ("echo", 400.0, True)
    assert (job.source, job.score, job.payload) == ("words:make", "words:same", None)
    assert job.import_roots[0] == str(tmp_path)
    assert payload_words(job) == "samples of words:make"


def test_recorded_bodies_are_named_by_their_whole_path(serving: Callable[[Documents], str]) -> None:
    job = made(serving(ECHO), synthetic=None, payloads=("one.bin", "/two.bin"), header_length=7)
    assert job.payload == PayloadFiles(paths=(str(Path.cwd() / "one.bin"), "/two.bin"), header_length=7)
    assert payload_words(job) == "bodies recorded in one.bin, two.bin"


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({}, "does not list its models; name the one to send requests to with --model"),
        ({"/v2/models": {"models": []}}, "serves no model; name the one"),
        ({"/v2/models": {"models": ["b", "a"]}}, r"serves 2 models \(a, b\); name the one to send requests to"),
        (
            {"/v2/models": {"models": ["echo"]}, "/v2/models/echo": {"inputs": [INPUT]}},
            "does not say within which time 'echo' is to answer, so nothing could be called late; give --slo-ms",
        ),
        (
            ECHO | {"/v2/models/echo": {"name": "echo"}},
            "does not tell the inputs of 'echo', so none can be made up",
        ),
    ],
)
def test_what_the_server_does_not_tell_either_is_named(
    documents: Documents, message: str, serving: Callable[[Documents], str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        made(serving(documents))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"synthetic": None}, "there is nothing to send: give --pipeline for its samples, --payload"),
        ({"pipeline": "x.yaml"}, "--pipeline and --synthetic each say what to send; give one of them"),
        ({"header_length": 3}, "--header-length is about the file of --payload"),
        ({"synthetic": None, "payloads": ("a",), "shapes": ("x=1",)}, "--shape is about tensors that --synthetic"),
        ({"trust": Trust(insecure=True)}, "have no effect on a server without TLS; write https://"),
    ],
)
def test_options_that_do_not_go_together_are_told_before_the_server_is_asked(
    wishes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        made("http://127.0.0.1:9", **wishes)


def test_a_shape_that_is_none_is_told(serving: Callable[[Documents], str]) -> None:
    with pytest.raises(ConfigError, match=r"--shape 'x=a' is not NAME=EXTENT,EXTENT, such as image=1,3,224,224"):
        made(serving(ECHO), shapes=("x=a",))


def test_a_pipeline_without_samples_is_told(serving: Callable[[Documents], str], tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    with pytest.raises(ConfigError, match="names no samples, so there is nothing to send; add `samples:"):
        made(serving(ECHO), pipeline=str(tmp_path), synthetic=None)


def test_headers_are_lines_and_the_token_is_one_of_them() -> None:
    assert headers_of(("Host: a.b", "X-Y:z:1"), "t") == {"Authorization": "Bearer t", "Host": "a.b", "X-Y": "z:1"}
    with pytest.raises(ConfigError, match="--header 'nonsense' is not `Name: value`"):
        headers_of(("nonsense",), "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1:8000", "--synthetic", "zeros"], "is not a server's address; write it like http://127.0.0.1:8000"),
        (["http://h:1/v2/models/ocr", "--synthetic", "zeros"], "give the server's address only, without /v2"),
        (["http://127.0.0.1:9", "--synthetic", "zeros"], "no server answers at http://127.0.0.1:9"),
        (["http://127.0.0.1:9"], "there is nothing to send"),
        (["http://127.0.0.1:9", "--synthetic", "zeros", "--trace", "even:rate=0"], "so no request would come"),
    ],
)
def test_mistakes_are_told_with_the_next_step(arguments: list[str], message: str) -> None:
    load = [] if "--trace" in arguments else ["--trace", "even:rate=1,seconds=1"]
    ended = CliRunner().invoke(replay, [*arguments, *load])
    assert isinstance(ended.exception, ConfigError)
    assert message in str(ended.exception)


def test_metrics_of_others_cannot_be_compared_with(serving: Callable[[Documents], str]) -> None:
    url = serving(ECHO)
    ended = CliRunner().invoke(
        replay, [url, "--trace", "even:rate=1,seconds=1", "--synthetic", "zeros", "--metrics", f"{url}/metrics"]
    )
    assert "the server's metrics cannot be read at" in str(ended.exception)


def test_the_command_line_of_a_report_has_all_but_secrets() -> None:
    arguments = ["http://h:1", "--trace", "even:rate=1", "--scale", "2", "--synthetic", "--token", "secret"]
    arguments += ["--header", "Cookie: secret", "--insecure", "--payload", __file__, "--payload", __file__, "--json"]
    context = replay.make_context("replay", arguments)
    assert isinstance(context, click.Context)
    assert _command_line(context) == (
        f"triscale replay http://h:1 --trace even:rate=1 --scale 2.0 --payload {__file__} --payload {__file__} "
        "--synthetic random --insecure"
    )


def result(**outcomes: int) -> ReplayResult:
    counts: dict[str, Any] = {outcome.label: 0 for outcome in Outcome} | outcomes
    phase = PhaseResult(
        name="trace",
        seconds=2.0,
        rate_per_s=10.0,
        sent=sum(counts.values()),
        attainment=0.5,
        goodput_per_s=5.0,
        latency_ms=Latency(p50=1.0),
        late_at_client=1,
        **counts,
    )
    return ReplayResult(pipeline="echo", slo_ms=80.0, phases=(phase,), trace="even", problems=("p",))


def counted(at: float, **outcomes: int) -> ServerCounts:
    return ServerCounts(at=at, outcomes={outcome.label: 0 for outcome in Outcome} | outcomes, live=0, stages={})


@pytest.mark.parametrize(
    ("server", "agree", "problem"),
    [
        (1999, None, "server and client agree to within 0.05 percentage points (server, then client): answered 1999 "),
        (1990, False, "server and client count differently (server, then client): answered 1990 and 2000"),
    ],
)
def test_counts_may_differ_by_a_tenth_of_a_point(server: int, agree: bool | None, problem: str) -> None:
    job = Job(url="http://127.0.0.1:9", model="echo", slo_ms=80.0, trace=TRACE, source="m:f")
    history = [counted(0.0, answered=7), counted(1.0, answered=7 + server)]
    document = replay_document(job, result(answered=2000), history, 0.0, "", "triscale replay")
    assert document["counts_agree"] is agree
    assert document["problems"][-1].startswith(problem)
    assert document["server_counts"]["answered"] == server


def test_the_report_shows_what_the_client_saw_and_how_to_do_it_again() -> None:
    job = Job(url="http://127.0.0.1:9", model="echo", slo_ms=80.0, trace=TRACE, source="m:f")
    document = replay_document(job, result(answered=5, shed=5), (), 0.0, "", "triscale replay it")
    assert document["counts_agree"] is None
    assert "server_counts" not in document
    page = render(msgspec.to_builtins(document))
    assert "echo: replay of even" in page
    assert "attainment at the client" in page
    assert "40.0 %" in page
    assert "triscale replay it" in page


@pytest.mark.parametrize(("url", "here"), [("http://[::1]:1", True), ("http://localhost", True), ("http://h", False)])
def test_the_machine_is_only_told_where_the_server_runs_on_it(url: str, here: bool) -> None:
    job = Job(url=url, model="echo", slo_ms=80.0, trace=TRACE, source="m:f")
    assert ("machine" in replay_document(job, result(answered=1), (), 0.0, "", "")) is here
