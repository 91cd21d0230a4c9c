"""What a real server tells of itself: spans to a collector, decisions to a file, and metrics of all of it."""

from __future__ import annotations

import concurrent.futures
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.conftest import Serve
from tests.integration.test_serve import until

pytestmark = pytest.mark.processes

_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a collector on this machine, and the bodies that were sent to its traces."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_traced_request_reaches_the_collector_before_the_server_ends(
    serve: Serve, echo: Callable[..., Path], collector: tuple[str, list[bytes]]
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the packages of the `otel` extra")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, bodies = collector
    server = serve(echo(split=True), "--otlp-endpoint", url)
    status, headers, _ = server.infer([1.0, 2.0, 3.0], headers={"traceparent": _PARENT})
    assert status == 200
    assert headers["traceparent"].startswith(_PARENT[:36])
    errors = server.stop()
    assert "Traceback" not in errors
    sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    resources = [each for request in sent for each in request.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert {
        attribute.value.string_value
        for resource in resources
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    } == {"triscale/echo"}
    assert {span.trace_id.hex() for span in spans} == {_PARENT[3:35]}
    assert {"infer echo", "stage split", "batch split", "stage work", "queue work", "batch work"} <= {
        span.name for span in spans
    }


def test_a_collector_that_is_not_there_costs_no_request(
    serve: Serve, echo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the packages of the `otel` extra")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    server = serve(echo(), "--otlp-endpoint", "http://127.0.0.1:9")
    assert server.infer([1.0])[0] == 200
    assert "Traceback" not in server.stop()
    assert server.process.returncode == 0


def test_decisions_are_written_to_the_file_and_counted(serve: Serve, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        "name: slow\nslo_ms: 5000\nstages:\n  work:\n    variants:\n"
        "      - {name: only, runtime: emulated, latency_ms: {1: 40}, max_batch: 1}\n"
    )
    log = tmp_path / "decisions.jsonl"
    server = serve(pipeline, "--policy", "triscale", "--cores", "2", "--decision-log", str(log))
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda value: server.infer([float(value)]), range(80)))
    until(lambda: log.exists() and bool(log.read_text().strip()))
    first = json.loads(log.read_text().splitlines()[0])
    assert (first["pipeline"], first["number"], first["policy"]) == ("slow", 1, "triscale")
    assert first["reason"]
    metrics = server.metrics()
    counted = [line for line in metrics.splitlines() if line.startswith("triscale_decisions_total{")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) >= 1
    assert 'triscale_stage_replicas{phase="ready",pipeline="slow",stage="work"} 1.0' in metrics
