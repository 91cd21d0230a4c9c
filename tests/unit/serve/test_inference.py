"""From an infer request to a call, and from how it ended to a response."""

from __future__ import annotations

import gc
import json
import logging
from typing import Any

import numpy as np
import pytest

from tests.unit.serve.conftest import (
    FakeService,
    Link,
    answered,
    declare,
    echo,
    payload,
    pipeline,
    read_responses,
    request_bytes,
)
from triscale.core.request import Outcome, Reason
from triscale.serve.routes import InferenceApi
from triscale.serve.service import Call, Reply

BODY: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]}]}


class TestTheCall:
    def test_carries_the_tensors_the_time_and_the_deadline(self, door: Link, service: FakeService) -> None:
        trace = {"traceparent": "00-a-b-01", "tracestate": "vendor=1"}
        door.infer(BODY, {"x-request-id": "r1", **trace, "triscale-timeout-ms": "250"})
        (call,) = service.calls
        assert service.inputs()["x"].tolist() == [[1.5, 2.5]]
        assert (call.arrived, call.deadline) == (100.0, 100.25)
        assert (call.request_id, call.traceparent, call.tracestate) == ("r1", "00-a-b-01", "vendor=1")

    def test_has_the_objective_as_its_deadline_when_the_client_says_nothing(
        self, door: Link, service: FakeService
    ) -> None:
        door.infer(BODY)
        assert service.calls[0].deadline == 101.0

    def test_takes_its_id_from_the_body_when_no_header_has_one(self, door: Link, service: FakeService) -> None:
        response = door.infer({**BODY, "id": "b1"})
        assert (service.calls[0].request_id, response.json["id"]) == ("b1", "b1")
        assert "x-request-id" not in response.headers

    def test_gets_the_timeout_of_the_body_in_microseconds(self, door: Link, service: FakeService) -> None:
        door.infer({**BODY, "parameters": {"timeout": 250_000, "priority": 1}})
        assert service.calls[0].deadline == 100.25

    def test_takes_raw_tensors_behind_the_json(self, door: Link, service: FakeService) -> None:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
        door.infer({"inputs": [tensor]}, raw=np.array([3, 4], np.float32).tobytes())
        assert service.inputs()["x"].tolist() == [[3.0, 4.0]]

    def test_takes_a_body_that_is_nothing_but_the_tensor(self, door: Link, service: FakeService) -> None:
        raw = np.array([1, 2, 3, 4], np.float32).tobytes()
        response = door.infer(raw, {"inference-header-content-length": "0"})
        assert service.inputs()["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
        length = int(response.headers["inference-header-content-length"])
        assert response.body[length:] == raw


class TestTheAnswer:
    @pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.DROPPED])
    def test_names_its_span_where_requests_are_traced(self, door: Link, service: FakeService, outcome: Outcome) -> None:
        service.reply = lambda call: answered(*[[row] for row in call.rows], outcome=outcome, traceparent="00-c-d-01")
        assert door.infer(BODY).headers["traceparent"] == "00-c-d-01"

    def test_has_no_trace_where_they_are_not(self, door: Link) -> None:
        assert "traceparent" not in door.infer(BODY, {"traceparent": "00-a-b-01"}).headers

    def test_in_json(self, door: Link) -> None:
        response = door.infer({**BODY, "id": ""}, {"x-request-id": "r1"})
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert (response.headers["x-request-id"], response.headers["triscale-outcome"]) == ("r1", "answered")
        assert response.json == {
            "model_name": "m",
            "model_version": "1",
            "parameters": {
                "triscale_outcome": "answered",
                "triscale_accuracy": 1.0,
                "triscale_slack_ms": 1000.0,
                "triscale_variants": "s=only",
            },
            "outputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]}],
        }

    @pytest.mark.parametrize(
        "wish",
        [
            {"parameters": {"binary_data_output": True}},
            {"outputs": [{"name": "x", "parameters": {"binary_data": True}}]},
        ],
    )
    def test_in_binary(self, door: Link, wish: dict[str, object]) -> None:
        response = door.infer({**BODY, **wish})
        assert response.headers["content-type"] == "application/octet-stream"
        length = int(response.headers["inference-header-content-length"])
        document = json.loads(response.body[:length])
        assert document["outputs"][0]["parameters"] == {"binary_data_size": 8}
        assert np.frombuffer(response.body[length:], np.float32).tolist() == [1.5, 2.5]

    def test_an_empty_binary_output_is_still_binary(self, door: Link, service: FakeService) -> None:
        service.reply = lambda call: answered([])
        response = door.infer({**BODY, "parameters": {"binary_data_output": True}})
        assert int(response.headers["inference-header-content-length"]) == len(response.body)

    def test_late_is_an_answer_that_says_so(self, door: Link, service: FakeService) -> None:
        service.reply = lambda call: answered([payload(x=1.0)], outcome=Outcome.LATE, finished=101.5, partial=2)
        service.pipelines["m"] = pipeline(outputs={"x": declare("FP32", -1)})
        response = door.infer(BODY)
        assert (response.status, response.headers["triscale-outcome"]) == (200, "late")
        parameters = response.json["parameters"]
        assert (parameters["triscale_outcome"], parameters["triscale_slack_ms"]) == ("late", -500.0)
        assert parameters["triscale_partial"] == 2

    def test_may_come_later(self, door: Link, service: FakeService) -> None:
        service.reply = lambda call: None
        with pytest.raises(ValueError, match="not enough values"):
            door.infer(BODY)
        service.calls[0].on_done(answered(*[[row] for row in service.calls[0].rows]))
        assert door.response.json["outputs"][0]["data"] == [1.5, 2.5]

    def test_of_a_batch_is_a_batch(self, door: Link, service: FakeService) -> None:
        service.pipelines["m"] = pipeline({"x": declare("FP32", 2)}, {"x": declare("FP32", 2)}, max_batch_size=8)
        body = {"inputs": [{"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]}
        output = door.infer(body).json["outputs"][0]
        assert len(service.calls[0].rows) == 3
        assert (output["shape"], output["data"]) == ([3, 2], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("outcome", "reason", "status"),
    [
        (Outcome.DROPPED, Reason.PREDICTED_LATE, 504),
        (Outcome.DROPPED, Reason.EXPIRED, 504),
        (Outcome.SHED, Reason.OVERLOADED, 429),
        (Outcome.SHED, Reason.PLAN_SHEDS, 429),
        (Outcome.SHED, Reason.QUEUE_FULL, 429),
        (Outcome.SHED, Reason.NO_CAPACITY, 429),
        (Outcome.SHED, Reason.TOO_TIGHT, 429),
        (Outcome.FAILED, Reason.MODEL_ERROR, 500),
        (Outcome.FAILED, Reason.REPLICA_LOST, 500),
        (Outcome.FAILED, Reason.REJECTED, 400),
        (Outcome.FAILED, Reason.SHUTDOWN, 503),
        (Outcome.CANCELLED, Reason.CLIENT_GONE, 499),
    ],
)
def test_every_end_has_its_status_headers_and_words(
    door: Link, service: FakeService, outcome: Outcome, reason: Reason, status: int
) -> None:
    service.reply = lambda call: Reply(
        outcome, 100.0, reason=reason, stage="s", message="what happened, and what to do", retry_after_s=1.2
    )
    response = door.infer({**BODY, "id": "7"}, {"x-request-id": "r1"})
    assert response.status == status
    assert response.headers["triscale-outcome"] == outcome.label
    assert response.headers["triscale-reason"] == reason.value
    assert (response.headers["triscale-stage"], response.headers["x-request-id"]) == ("s", "r1")
    expected = {
        "error": "what happened, and what to do",
        "outcome": outcome.label,
        "reason": reason.value,
        "stage": "s",
        "id": "7",
    }
    retry_after = response.headers.get("retry-after")
    if outcome is Outcome.SHED and reason is not Reason.TOO_TIGHT:
        assert retry_after == "2"
        expected["retry_after_ms"] = 1200.0  # type: ignore[assignment]
    else:
        assert retry_after == ("1" if reason is Reason.SHUTDOWN else None)
    assert response.json == expected


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.001, "1"), (1.0, "1"), (1.001, "2"), (59.5, "60")])
def test_retry_after_is_rounded_up_to_whole_seconds(
    door: Link, service: FakeService, seconds: float, header: str
) -> None:
    service.reply = lambda call: Reply(Outcome.SHED, 0.0, reason=Reason.OVERLOADED, retry_after_s=seconds)
    assert door.infer(BODY).headers["retry-after"] == header


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"{", {}, "the request is not valid: Input data was truncated"),
        ({"inputs": []}, {}, r"the request has no inputs; model 'm' takes x (FP32 [-1, 2])"),
        ({**BODY, "outputs": [{"name": "z"}]}, {}, "output 'z' is not one of model 'm'; its outputs are x"),
        (BODY, {"triscale-timeout-ms": "soon"}, "header triscale-timeout-ms is 'soon'; give a number of milliseconds"),
        (BODY, {"grpc-timeout": "1"}, "header grpc-timeout is '1'; give up to 8 digits"),
        (BODY, {"inference-header-content-length": "x"}, "header Inference-Header-Content-Length is 'x'; give the"),
        (BODY, {"inference-header-content-length": "-1"}, "header Inference-Header-Content-Length is '-1'"),
        (BODY, {"inference-header-content-length": "9" * 13}, "header Inference-Header-Content-Length is '9999"),
        (
            BODY,
            {"inference-header-content-length": "999"},
            "header Inference-Header-Content-Length is 999, but the body",
        ),
        (b"1234567", {"inference-header-content-length": "0"}, "a raw body of 7 bytes does not make input 'x'"),
    ],
)
def test_a_bad_request_never_becomes_a_call(
    door: Link, service: FakeService, body: object, headers: dict[str, str], error: str
) -> None:
    response = door.infer(body, {"x-request-id": "r1", **headers})
    assert response.status == 400
    assert response.error.startswith(error)
    assert (response.headers["triscale-outcome"], response.headers["triscale-reason"]) == ("failed", "rejected")
    assert (response.json["outcome"], response.headers["x-request-id"]) == ("failed", "r1")
    assert service.calls == []
    assert door.infer(BODY).status == 200


def test_a_server_that_is_not_ready_says_when_to_come_again(door: Link, service: FakeService) -> None:
    service.is_ready = False
    response = door.infer(BODY)
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert (response.headers["triscale-outcome"], response.headers["triscale-reason"]) == ("shed", "no_capacity")
    assert response.error == "the server is starting; try again soon"


def test_outputs_that_break_the_declaration_are_the_model_s_mistake(door: Link, service: FakeService) -> None:
    service.reply = lambda call: answered([payload(x="words")])
    response = door.infer(BODY)
    assert (response.status, response.headers["triscale-reason"]) == (500, "model_error")
    assert response.error == "output 'x' is declared as FP32, but a model emitted a string"


def test_outputs_that_json_cannot_hold_are_the_client_s_choice(door: Link, service: FakeService) -> None:
    service.pipelines["m"] = pipeline(outputs={"x": declare("BYTES", -1)})
    service.reply = lambda call: answered([payload(x=b"\xff")])
    response = door.infer(BODY)
    assert response.status == 400
    assert "ask for it with parameters.binary_data true" in response.error


def test_a_surprise_while_answering_does_not_reach_the_service(
    door: Link, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.reply = lambda call: None
    with pytest.raises(ValueError, match="not enough values"):
        door.infer(BODY)
    with caplog.at_level(logging.ERROR):
        service.calls[0].on_done(answered([object()]))  # type: ignore[list-item]
    assert (door.response.status, door.response.headers["triscale-outcome"]) == (500, "failed")
    assert door.response.json["id"] in caplog.text


def test_nor_does_one_while_submitting_end_the_connection(
    door: Link, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: Call) -> None:
        raise RuntimeError("out of order")

    service.reply = fail
    response = door.infer(BODY)
    assert (response.status, response.headers["triscale-outcome"]) == (500, "failed")
    assert "out of order" in caplog.text
    service.reply = echo
    assert door.infer(BODY).status == 200


class TestClientsThatLeave:
    def held(self, door: Link, service: FakeService) -> Call:
        service.reply = lambda call: None
        with pytest.raises(ValueError, match="not enough values"):
            door.infer(BODY)
        return service.calls[-1]

    def test_cancel_what_they_asked_for(self, door: Link, service: FakeService) -> None:
        self.held(door, service)
        self.held(door, service)
        door.hang_up()
        assert service.cancelled == [0, 1]

    def test_but_not_what_is_answered(self, door: Link, service: FakeService) -> None:
        door.infer(BODY)
        self.held(door, service).on_done(Reply(Outcome.DROPPED, 0.0, reason=Reason.EXPIRED))
        door.hang_up()
        assert service.cancelled == []

    def test_and_an_answer_that_comes_all_the_same_harms_nobody(self, door: Link, service: FakeService) -> None:
        call = self.held(door, service)
        door.hang_up()
        call.on_done(answered([payload(x=1.0)]))
        assert read_responses(bytes(door.transport.written)) == []


@pytest.mark.parametrize("later", [False, True])
def test_a_request_that_is_done_leaves_nothing_for_the_garbage_collector(
    door: Link, service: FakeService, later: bool
) -> None:
    request = request_bytes("POST", "/v2/models/m/infer", json.dumps(BODY).encode())
    service.reply = lambda call: None if later else echo(call)

    def run() -> None:
        for _ in range(20):
            door.send(request)
            call = service.calls.pop()
            if later:
                call.on_done(echo(call))

    run()
    gc.collect()
    gc.disable()
    try:
        run()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_pipeline_that_is_replaced_is_served_by_its_new_declaration(door: Link, service: FakeService) -> None:
    assert door.infer(BODY).status == 200
    service.pipelines["m"] = pipeline({"other": declare("FP32", 1)})
    assert "input 'x' is not one of model 'm'" in door.infer(BODY).error
    del service.pipelines["m"]
    assert door.infer(BODY).status == 404


def test_a_token_is_asked_for(service: FakeService) -> None:
    door = Link(InferenceApi(service, token="secret"))
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
        response = door.infer(BODY, headers)
        assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.error == "this server wants a token; send the header `Authorization: Bearer <token>`"
    for scheme in ("Bearer", "bearer"):
        assert door.infer(BODY, {"authorization": f"{scheme} secret"}).status == 200
    assert door.infer(BODY).status == 401
    assert len(service.calls) == 2
