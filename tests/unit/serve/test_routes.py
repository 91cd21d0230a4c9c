from __future__ import annotations

from typing import Any

import pytest

import triscale
from tests.unit.serve.conftest import FakeService, Link, declare, pipeline, request_bytes
from triscale.serve.metrics_route import MetricsApi
from triscale.serve.routes import InferenceApi

METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "triscale_pipeline",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
}


@pytest.mark.parametrize(
    ("target", "document"),
    [
        (
            "/v2",
            {
                "name": "triscale",
                "version": triscale.__version__,
                "extensions": [
                    "binary_tensor_data",
                    "parameters",
                    "schedule_policy",
                    "model_configuration",
                    "statistics",
                ],
            },
        ),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/livez", {"live": True}),
        ("/healthz", {"live": True}),
        ("/readyz", {"ready": True}),
        ("/v2/models", {"models": ["m"]}),
        ("/v2/models/m", METADATA),
        ("/v2/models/m/versions/1", METADATA),
        ("/v2/models/m/ready", {"name": "m", "ready": True}),
        ("/v2/models/m/versions/1/ready", {"name": "m", "ready": True}),
    ],
)
@pytest.mark.parametrize("form", ["{}", "{}/", "{}?a=b/c", "http://host:8000{}"])
def test_what_is_where(door: Link, target: str, document: object, form: str) -> None:
    response = door.request("GET", form.format(target))
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.json == document


def test_a_name_may_be_percent_encoded(door: Link) -> None:
    assert door.request("GET", "/v2/models/%6D").json == METADATA


def test_metadata_of_a_batched_pipeline_begins_with_the_batch(door: Link, service: FakeService) -> None:
    service.pipelines["m"] = pipeline({"x": declare("FP32", 2)}, {"y": declare("BYTES", 1)}, max_batch_size=8)
    document = door.request("GET", "/v2/models/m").json
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert document["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [-1, 1]}]


def test_the_configuration_is_triton_s(door: Link, service: FakeService) -> None:
    service.pipelines["m"] = pipeline({"x": declare("FP32", 2)}, {"y": declare("BYTES", 1)}, max_batch_size=8)
    assert door.request("GET", "/v2/models/m/config").json == {
        "name": "m",
        "platform": "triscale_pipeline",
        "backend": "triscale",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
        "output": [{"name": "y", "data_type": "TYPE_STRING", "dims": [1]}],
        "parameters": {"slo_ms": {"string_value": "1000"}},
    }


def none(count: int = 0, ns: int = 0) -> dict[str, int]:
    return {"count": count, "ns": ns}


def test_statistics_are_triton_s(door: Link, service: FakeService) -> None:
    service.totals = {
        "last_request_s": 1700000000.123,
        "rows": 7,
        "batches": 3,
        "success": {"count": 6, "seconds": 0.6},
        "fail": {"count": 1, "seconds": 0.001},
        "queue": {"count": 6, "seconds": 0.1},
        "compute_infer": {"count": 6, "seconds": 0.4},
        "batch_sizes": {4: {"count": 1, "seconds": 0.2}, 1: {"count": 2, "seconds": 0.1}},
    }
    expected: dict[str, Any] = {
        "name": "m",
        "version": "1",
        "last_inference": 1700000000123,
        "inference_count": 7,
        "execution_count": 3,
        "inference_stats": {
            "success": none(6, 600_000_000),
            "fail": none(1, 1_000_000),
            "queue": none(6, 100_000_000),
            "compute_input": none(),
            "compute_infer": none(6, 400_000_000),
            "compute_output": none(),
            "cache_hit": none(),
            "cache_miss": none(),
        },
        "batch_stats": [
            {"batch_size": 1, "compute_input": none(2), "compute_infer": none(2, 10**8), "compute_output": none(2)},
            {"batch_size": 4, "compute_input": none(1), "compute_infer": none(1, 2 * 10**8), "compute_output": none(1)},
        ],
    }
    for target in ("/v2/models/stats", "/v2/models/m/stats", "/v2/models/m/versions/1/stats"):
        assert door.request("GET", target).json == {"model_stats": [expected]}


def test_nothing_counted_is_zero_everywhere(door: Link) -> None:
    (found,) = door.request("GET", "/v2/models/m/stats").json["model_stats"]
    assert (found["inference_count"], found["last_inference"], found["batch_stats"]) == (0, 0, [])
    assert set(map(str, found["inference_stats"].values())) == {str(none())}


def test_the_index_lists_what_is_served_and_whether_it_is_ready(door: Link, service: FakeService) -> None:
    ready = {"name": "m", "version": "1", "state": "READY", "reason": ""}
    assert door.request("POST", "/v2/repository/index").json == [ready]
    assert door.request("POST", "/v2/repository/index", b'{"ready": true}').json == [ready]
    service.is_ready = False
    (entry,) = door.request("POST", "/v2/repository/index", b"{}").json
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "starting, draining or without capacity")
    assert door.request("POST", "/v2/repository/index", b'{"ready": true}').json == []
    response = door.request("POST", "/v2/repository/index", b"[")
    assert (response.status, response.error.startswith("the body is not valid: ")) == (400, True)


@pytest.mark.parametrize("target", ["/v2/health/ready", "/readyz", "/v2/models/m/ready"])
def test_not_ready_is_503_with_a_body_that_both_kinds_of_client_understand(
    door: Link, service: FakeService, target: str
) -> None:
    service.is_ready = False
    response = door.request("GET", target)
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert response.json["ready"] is False
    assert response.error == "not ready: starting, draining, or a stage has no replica; try again soon"
    assert door.request("GET", "/v2/health/live").status == 200


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/", "there is nothing at '/'; models are at /v2/models"),
        ("/v1/models/m:predict", "there is nothing at '/v1/models/m:predict'"),
        ("/v2/models/m/explain", "there is nothing at '/v2/models/m/explain'"),
        ("/v2/models/m/infer/more", "there is nothing at"),
        ("/v2/models/m/versions", "there is nothing at"),
        ("/metrics", "there is nothing at '/metrics'"),
        ("/v2/models/z", "there is no model 'z' here; the models are: m"),
        ("/v2/models/z/infer", "there is no model 'z' here; the models are: m"),
        ("/v2/models/m/versions/2", "model 'm' has no version '2'; it has version 1"),
        ("/v2/models/m/versions/x/infer", "model 'm' has no version 'x'; it has version 1"),
        ("*", "there is nothing at '*'"),
        ("/%ff%00/../x", "there is nothing at"),
    ],
)
def test_what_is_not_there_is_404_with_a_word_on_what_is(door: Link, target: str, error: str) -> None:
    response = door.request("POST", target, b"{}")
    assert response.status == 404
    assert response.error.startswith(error)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/v2/models/m/infer", "POST"),
        ("HEAD", "/v2/models/m/infer", "POST"),
        ("DELETE", "/v2/models/m", "GET, HEAD"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
    ],
)
def test_the_wrong_method_is_405_with_the_right_ones(door: Link, method: str, target: str, allow: str) -> None:
    door.send(request_bytes(method, target))
    written = bytes(door.transport.written)
    assert written.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert f"\r\nallow: {allow}\r\n".encode() in written


def test_the_wrong_method_stays_wrong_after_the_right_one(door: Link) -> None:
    body = {"inputs": [{"name": "x", "shape": [0, 2], "datatype": "FP32", "data": []}]}
    assert door.infer(body).status == 200
    assert door.request("GET", "/v2/models/m/infer").status == 405


def test_a_large_body_to_nowhere_is_refused_before_it_is_sent(door: Link) -> None:
    door.send(request_bytes("POST", "/v2/models/z/infer", headers={"content-length": "1000000"}))
    assert (door.response.status, door.response.headers["connection"]) == (404, "close")


def test_so_is_one_without_a_token(service: FakeService) -> None:
    door = Link(InferenceApi(service, token="secret"))
    door.send(request_bytes("POST", "/v2/models/m/infer", headers={"content-length": "1000000"}))
    assert (door.response.status, door.response.headers["connection"]) == (401, "close")


def test_probes_need_no_token_and_everything_else_does(service: FakeService) -> None:
    door = Link(InferenceApi(service, token="secret"))
    for target in ("/v2/health/live", "/v2/health/ready", "/livez", "/readyz", "/healthz"):
        assert door.request("GET", target).status == 200
    for target in ("/v2", "/v2/models", "/v2/models/m", "/nowhere"):
        assert door.request("GET", target).status == 401


def test_no_end_of_targets_is_remembered(service: FakeService) -> None:
    api = InferenceApi(service)
    door = Link(api)
    for number in range(1100):
        door.send(request_bytes("POST", f"/v2/models/m/infer?n={number}", b"{}"))
        door.transport.written.clear()
    assert len(api._infer) <= 1024
    assert len(set(map(id, api._infer.values()))) == 1


class TestMetrics:
    def metrics(self) -> Link:
        return Link(MetricsApi(lambda accept: (f"for {accept}".encode(), "text/plain; version=1.0.0")))

    def test_are_rendered_as_the_client_accepts_them(self) -> None:
        response = self.metrics().request("GET", "/metrics?x=y", headers={"accept": "application/openmetrics-text"})
        assert (response.status, response.headers["content-type"]) == (200, "text/plain; version=1.0.0")
        assert response.body == b"for application/openmetrics-text"

    def test_are_all_that_is_there(self) -> None:
        door = self.metrics()
        assert (door.request("GET", "/v2").status, door.request("POST", "/metrics", b"x").status) == (404, 405)
