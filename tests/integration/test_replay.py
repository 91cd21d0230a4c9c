"""`triscale replay` as a user runs it: against our server, and against one that shares no code with it."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import REPOSITORY, Serve

pytestmark = pytest.mark.processes

Echo = Callable[..., Path]
OUTCOMES = ("answered", "late", "dropped", "shed", "failed", "cancelled")
CERTIFICATE = Path(__file__).parent / "http" / "localhost.pem"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "triscale", "replay", *arguments, "--json"]


def replay(*arguments: str, cwd: Path = REPOSITORY) -> dict[str, Any]:
    ended = subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def counts(document: dict[str, Any]) -> dict[str, int]:
    """The client's count of each outcome."""
    (phase,) = document["phases"]
    return {outcome: phase[outcome] for outcome in OUTCOMES}


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A recorded request for the pipeline `echo`."""
    path = tmp_path / "body.json"
    path.write_text('{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}]}')
    return str(path)


def test_under_overload_client_and_server_count_the_same(serve: Serve, echo: Echo, body: str, tmp_path: Path) -> None:
    """Twenty times of what the stage can carry: some in time, most not, and both agree on every single one."""
    server = serve(echo(slo_ms=150, sleep_ms=20), "--cores", "1")
    trace = "spike:base=20,peak=8000,start=0.3,length=0.5,seconds=1.5"
    record = tmp_path / "run.csv"
    document = replay(
        *(server.url, "--trace", trace, "--payload", body, "--metrics", server.ready["metrics_url"]),
        *("--record", str(record), "--seed", "4"),
    )
    client, ours = counts(document), {outcome: server.outcomes()[outcome] for outcome in OUTCOMES}
    sent = document["phases"][0]["sent"]
    assert sent == sum(client.values()) > 3000
    for outcome in OUTCOMES:
        assert 100.0 * abs(client[outcome] - ours[outcome]) / sent <= 0.1, (outcome, client, ours)
    assert client == ours == document["server_counts"]
    assert document["counts_agree"] is True
    assert client["answered"] > 0
    assert client["shed"] > 0
    with record.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {outcome: Counter(row["outcome"] for row in rows)[outcome] for outcome in OUTCOMES} == client
    assert sum(document["series"]["sent"]) == len(rows) == sent


def test_samples_of_a_pipeline_are_sent_and_scored_and_reported(serve: Serve, tmp_path: Path) -> None:
    server = serve("examples/digits")
    report = tmp_path / "run.html"
    document = replay(
        *(server.url, "--trace", "even:rate=40,seconds=1", "--pipeline", "examples/digits"),
        *("--slo-ms", "5000", "--report", str(report)),
    )
    (phase,) = document["phases"]
    assert (phase["sent"], phase["rate_per_s"], phase["seconds"]) == (40, 40.0, 1.0)
    assert phase["accuracy"] > 0.5
    assert document["pipeline"] == "digits"
    assert "digits: replay of even:rate=40,seconds=1" in report.read_text()
    assert document["commands"][0]["line"].startswith(f"triscale replay {server.url} --trace even:rate=40,seconds=1 ")


def test_a_deadline_reaches_the_server(serve: Serve, echo: Echo, body: str) -> None:
    """A hundredth of the time that the model takes: the server, whose own objective is generous, answers none."""
    server = serve(echo(slo_ms=5000, sleep_ms=200))
    document = replay(
        server.url, "--trace", "even:rate=20,seconds=0.5", "--payload", body, "--deadline-ms", "2", "--slo-ms", "5000"
    )
    assert document["deadline_ms"] == 2.0
    assert counts(document)["answered"] == 0
    assert counts(document) == {outcome: server.outcomes()[outcome] for outcome in OUTCOMES}


def test_tls_and_a_token_are_spoken(serve: Serve, echo: Echo, body: str) -> None:
    server = serve(echo(), "--tls-cert", str(CERTIFICATE), "--tls-key", str(CERTIFICATE), "--token", "secret")
    load = ("--trace", "even:rate=40,seconds=0.5", "--payload", body)
    document = replay(server.url, *load, "--cacert", str(CERTIFICATE), "--token", "secret")
    assert counts(document)["answered"] == document["phases"][0]["sent"] == 20
    assert "secret" not in json.dumps(document)
    ended = subprocess.run(
        command(server.url, *load, "--insecure"), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "wants to know who asks (HTTP 401" in ended.stderr
    assert "give --token" in ended.stderr


def test_ctrl_c_ends_the_load_and_still_reports(serve: Serve, echo: Echo, body: str) -> None:
    server = serve(echo())
    process = subprocess.Popen(
        command(server.url, "--trace", "poisson:rate=50,seconds=3600", "--payload", body),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " sent, " in line and " 0 sent, " not in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    document = json.loads(out)
    assert document["stopped"] is True
    assert counts(document)["answered"] == document["phases"][0]["sent"] > 0
    assert counts(document) == {outcome: server.outcomes()[outcome] for outcome in OUTCOMES}


class Plain(BaseHTTPRequestHandler):
    """A server of the protocol by the standard library: JSON only, and in its own ways.

    Its model adds one to `x`. Every fifth request is told to come back later, every seventh that it took too long.
    """

    protocol_version = "HTTP/1.1"
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v2":
            self.reply(200, {"name": "plain", "version": "1", "extensions": []})
        elif self.path == "/v2/models/plus-one":
            tensor = {"name": "x", "datatype": "INT32", "shape": [-1, 2]}
            self.reply(200, {"name": "plus-one", "platform": "none", "inputs": [tensor], "outputs": [tensor]})
        else:
            self.reply(404, {"error": "what?"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v2/repository/index":
            self.reply(200, [{"name": "plus-one", "version": "1", "state": "READY"}])
            return
        with self.lock:
            self.seen["infer"] += 1
            number = self.seen["infer"]
        try:
            (tensor,) = json.loads(body)["inputs"]
            values = [value + 1 for value in tensor["data"]]
        except (ValueError, KeyError, TypeError) as error:
            self.reply(400, {"error": f"not JSON that I know: {error!r}"})
        else:
            if number % 5 == 0:
                self.reply(429, {"error": "too many"}, {"Retry-After": "1"})
            elif number % 7 == 0:
                self.reply(503, {"error": "Request timeout expired"})
            else:
                outputs = [{"name": "x", "datatype": "INT32", "shape": tensor["shape"], "data": values}]
                self.reply(200, {"model_name": "plus-one", "outputs": outputs})

    def reply(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        with self.lock:
            self.seen[str(status)] += self.path.endswith("/infer")
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status == 200 and self.protocol_version == "HTTP/1.1":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif status != 200:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Quick(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


@pytest.fixture(params=["HTTP/1.1", "HTTP/1.0"])
def plain(request: pytest.FixtureRequest) -> Iterator[tuple[str, Counter[str]]]:
    """(address, what it saw) of the other server, which closes every connection in its older version."""
    handler = type(
        "Handler", (Plain,), {"protocol_version": request.param, "seen": Counter(), "lock": threading.Lock()}
    )
    server = Quick(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_of_others_is_replayed_against(plain: tuple[str, Counter[str]]) -> None:
    """JSON only, chunked or closing, refusing some: found out, tolerated, and counted as it counts."""
    url, seen = plain
    document = replay(url, "--trace", "poisson:rate=120,seconds=1", "--synthetic", "--slo-ms", "60000")
    client = counts(document)
    assert document["pipeline"] == "plus-one"
    assert seen["infer"] == document["phases"][0]["sent"] > 50
    assert client == {
        "answered": seen["200"],
        "late": 0,
        "dropped": seen["503"],
        "shed": seen["429"],
        "failed": 0,
        "cancelled": 0,
    }
    assert client["answered"] > client["shed"] > 0 < client["dropped"]
    assert document["counts_agree"] is None


def test_what_a_server_of_others_refuses_is_told_in_its_own_words(
    plain: tuple[str, Counter[str]], tmp_path: Path
) -> None:
    url, seen = plain
    body = tmp_path / "body.json"
    body.write_text('{"inputs": [{"name": "x", "datatype": "INT32", "shape": [1]}]}')
    document = replay(url, "--trace", "even:rate=20,seconds=0.5", "--payload", str(body), "--slo-ms", "60000")
    assert counts(document)["failed"] == seen["400"] == 10
    assert (
        "10 requests failed (http_400); the first one with: not JSON that I know: KeyError('data')"
        in (document["problems"])
    )
