"""curl against the server: an HTTP client that tries an upgrade, waits for 100 Continue, and sends in chunks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.integration.http.conftest import ThreadedServer
from tests.unit.serve.conftest import FakeService, declare, pipeline

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

SIZE = 400_000


def curl(
    server: ThreadedServer, *arguments: str, path: str = "/v2/models/m/infer"
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments, f"http://127.0.0.1:{server.port}{path}"],
        capture_output=True,
        timeout=20.0,
        check=True,
    )


@pytest.fixture
def body(tmp_path: Path) -> Path:
    found = tmp_path / "body.json"
    tensor = {"name": "x", "shape": [SIZE // 2, 2], "datatype": "FP32", "data": [0.5] * SIZE}
    found.write_text(json.dumps({"inputs": [tensor]}))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("--http1.1",),
        ("--http1.0",),
        ("--http2",),
        ("--compressed",),
        ("--header", "Transfer-Encoding: chunked"),
        ("--header", "Expect: 100-continue"),
        ("--header", "Expect:"),
        ("--header", "Connection: close"),
    ],
)
def test_a_large_request_in_every_way_that_curl_sends_it(
    server: ThreadedServer, body: Path, arguments: tuple[str, ...]
) -> None:
    found = json.loads(curl(server, *arguments, "--data-binary", f"@{body}").stdout)
    assert found["outputs"][0]["data"] == [0.5] * SIZE


def test_a_raw_tensor_and_a_raw_answer(server: ThreadedServer, tmp_path: Path) -> None:
    array = np.arange(8, dtype=np.float32)
    (tmp_path / "raw").write_bytes(array.tobytes())
    found = curl(
        server,
        "--data-binary",
        f"@{tmp_path / 'raw'}",
        "--header",
        "Content-Type: application/octet-stream",
        "--header",
        "Inference-Header-Content-Length: 0",
    ).stdout
    assert found.endswith(array.tobytes())


def test_an_image_is_sent_as_it_is(server: ThreadedServer, service: FakeService, tmp_path: Path) -> None:
    service.pipelines["m"] = pipeline({"image": declare("BYTES", 1)})
    image = bytes(range(256)) * 1000
    (tmp_path / "image.jpg").write_bytes(image)
    curl(server, "--data-binary", f"@{tmp_path / 'image.jpg'}", "--header", "Inference-Header-Content-Length: 0")
    assert service.inputs() == {"image": image}


def test_head_and_two_requests_on_one_connection(server: ThreadedServer) -> None:
    head = curl(server, "--head", path="/v2/health/live").stdout
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ncontent-length: 13\r\n" in head
    url = f"http://127.0.0.1:{server.port}/v2/health/live"
    verbose = curl(server, "--verbose", url, path="/v2/health/ready").stderr
    assert b"Re-using existing connection" in verbose
