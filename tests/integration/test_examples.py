"""The examples served for real, asked by clients that are not ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import tritonclient.http

from examples.ocr.pages import samples, score
from tests.integration.conftest import REPOSITORY, Serve, Server

pytestmark = pytest.mark.processes


@pytest.fixture
def ocr(serve: Serve) -> Server:
    # The deadline is generous: what is tested here is the reading.
    return serve(REPOSITORY / "examples" / "ocr", "--set", "slo_ms=60000")


Read = Callable[[bytes], dict[str, Any]]


@pytest.fixture
def read(ocr: Server) -> Read:
    """Send a page with Triton's client: the outputs by name."""
    client = tritonclient.http.InferenceServerClient(ocr.url.removeprefix("http://"))

    def send(image: bytes) -> dict[str, Any]:
        page = tritonclient.http.InferInput("image", [1], "BYTES")
        page.set_data_from_numpy(np.array([image], dtype=object))
        result = client.infer("ocr", [page])
        return {name: result.as_numpy(name) for name in ("text", "score", "box")}

    return send


def test_tritonclient_sends_pages_and_gets_their_text(read: Read) -> None:
    scores = []
    for sample in samples(4, seed=11):
        outputs = read(bytes(sample.inputs["image"]))  # type: ignore[arg-type]
        lines = len(outputs["text"])
        assert outputs["score"].shape == (lines,)
        assert outputs["box"].shape == (lines, 4, 2)
        scores.append(score(sample.truth, outputs))
    assert max(scores) > 0.9
    assert sum(scores) / len(scores) > 0.5, scores


def test_a_page_without_text_is_answered_with_nothing(read: Read) -> None:
    blank = cv2.imencode(".jpg", np.full((400, 300, 3), 255, np.uint8))[1].tobytes()
    outputs = read(blank)
    assert outputs["text"].shape == (0,)
    assert outputs["box"].shape == (0, 4, 2)


def test_what_is_no_image_is_the_clients_mistake(ocr: Server) -> None:
    status, headers, body = ocr.request(
        "POST", "/v2/models/ocr/infer", b"GIF89a, or so", {"Inference-Header-Content-Length": "0"}
    )
    assert (status, headers["triscale-reason"], headers["triscale-stage"]) == (400, "rejected", "detect")
    assert body["error"].startswith("rejected at stage 'detect': ")
    assert ocr.replicas(), "no replica died of it"


def test_curl_can_ask_for_something_to_read(ocr: Server) -> None:
    (sample,) = samples(1, seed=11)
    headers = {"Inference-Header-Content-Length": "0", "Accept": "application/json"}
    status, _, body = ocr.request("POST", "/v2/models/ocr/infer", sample.inputs["image"], headers)
    assert status == 200
    assert {output["name"] for output in body["outputs"]} == {"text", "score", "box"}


def test_the_quick_start_of_the_readme(serve: Serve) -> None:
    server = serve(REPOSITORY / "examples" / "digits")
    made = subprocess.run(
        [sys.executable, "-m", "examples.digits.strips", "--seed", "1", "--json"],
        capture_output=True,
        cwd=REPOSITORY,
        check=True,
        timeout=60,
    )
    status, _, body = server.request("POST", "/v2/models/digits/infer", made.stdout)
    assert status == 200
    digits = next(output for output in body["outputs"] if output["name"] == "digit")
    assert digits["shape"] == [6], "the strip of seed 1 has six digits"
