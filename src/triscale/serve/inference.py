"""The infer route of one pipeline: a request's bytes become a `Call`, its `Reply` becomes a response.

Every response says how the request ended in headers (`triscale-outcome`, and where there is one `triscale-reason` and
`triscale-stage`), so that clients can count outcomes without reading bodies. A request that is refused before it
becomes a call counts as failed (rejected), one that comes while the server is not ready as shed (no_capacity).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome, Reason
from triscale.errors import InvalidRequest, ModelError, NotReady, RequestError, WireError
from triscale.serve.deadline import deadline_of
from triscale.serve.exchange import Exchange
from triscale.serve.gather import OutputSchema
from triscale.serve.http_response import JSON, OCTETS, error_headers, json_body
from triscale.serve.inference_json import RestRequest, decode, encode
from triscale.serve.inference_protocol import InferResponse, Parameters
from triscale.serve.rows import InputSchema, raw_input
from triscale.serve.service import Call, Reply, Service

__all__ = ["InferRoute"]

_ANSWERED = b"triscale-outcome: answered\r\n"
_LATE = b"triscale-outcome: late\r\n"
_FAILED = b"triscale-outcome: failed\r\n"

_STATUS: Mapping[Outcome, int] = {
    Outcome.ANSWERED: 200,
    Outcome.LATE: 200,
    Outcome.DROPPED: 504,
    Outcome.SHED: 429,
    Outcome.FAILED: 500,
    Outcome.CANCELLED: 499,
}
_STATUS_BY_REASON: Mapping[Reason, int] = {Reason.REJECTED: 400, Reason.SHUTDOWN: 503}


class InferRoute:
    """Answers the infer requests of one pipeline."""

    __slots__ = ("inputs", "outputs", "pipeline", "service", "slo_s")

    def __init__(self, pipeline: Pipeline, service: Service) -> None:
        self.pipeline = pipeline
        self.service = service
        self.slo_s = pipeline.slo_s
        self.inputs = InputSchema(pipeline)
        self.outputs = OutputSchema(pipeline)

    def handle(self, exchange: Exchange) -> None:
        """Submit the request; the exchange is answered when the service says how it ended."""
        try:
            _Inference(self, exchange).start()
        except NotReady as error:
            _refuse(exchange, error, Outcome.SHED, Reason.NO_CAPACITY)
        except RequestError as error:
            _refuse(exchange, error, Outcome.FAILED, Reason.REJECTED)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here is answered
            exchange.crash(error, _FAILED)

    def decode(self, exchange: Exchange) -> RestRequest:
        """The request in an exchange's body; InvalidRequest when there is none."""
        value = exchange.headers.get(b"inference-header-content-length")
        if value is None:
            return decode(exchange.body)
        if not value.isdigit() or len(value) > 12:
            raise InvalidRequest(
                f"header Inference-Header-Content-Length is {value.decode('latin-1')!r}; give the length of the JSON"
            )
        length = int(value)
        if length == 0:
            # As in Triton, raw bytes are answered in kind; but a person with curl can ask for something to read.
            readable = b"application/json" in exchange.headers.get(b"accept", b"")
            return RestRequest(inputs=[raw_input(self.pipeline, exchange.body)], binary=not readable)
        return decode(exchange.body, length)


class _Inference:
    """One infer request in progress."""

    __slots__ = ("_deadline", "_done", "_exchange", "_handle", "_request", "_route")

    _request: RestRequest
    _deadline: float
    _handle: int

    def __init__(self, route: InferRoute, exchange: Exchange) -> None:
        self._route = route
        self._exchange = exchange
        self._done = False

    def start(self) -> None:
        route = self._route
        exchange = self._exchange
        headers = exchange.headers
        self._request = request = route.decode(exchange)
        if request.outputs:
            route.outputs.check_wanted(request.outputs)
        request_id = headers.get(b"x-request-id")
        trace = headers.get(b"traceparent")
        self._deadline = deadline_of(exchange.arrived, route.slo_s, headers, request.timeout_us)
        call = Call(
            route.inputs.rows(request.inputs),
            exchange.arrived,
            self._deadline,
            self._finish,
            request.id if request_id is None else request_id.decode("latin-1"),
            "" if trace is None else trace.decode("latin-1"),
            "" if trace is None else headers.get(b"tracestate", b"").decode("latin-1"),
        )
        self._handle = route.service.submit(route.pipeline.name, call)
        if not self._done:
            exchange.on_gone = self._cancel

    def _cancel(self) -> None:
        self._route.service.cancel(self._handle)

    def _finish(self, reply: Reply) -> None:
        """Called by the service, which must not see an exception of ours."""
        self._done = True
        exchange = self._exchange
        exchange.on_gone = None
        try:
            if reply.outcome is Outcome.ANSWERED or reply.outcome is Outcome.LATE:
                self._answer(reply)
            else:
                self._explain(reply)
        except InvalidRequest as error:
            _refuse(exchange, error, Outcome.FAILED, Reason.REJECTED)
        except (ModelError, WireError) as error:
            _refuse(exchange, RequestError(str(error)), Outcome.FAILED, Reason.MODEL_ERROR)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here is answered
            exchange.crash(error, _FAILED)

    def _answer(self, reply: Reply) -> None:
        request = self._request
        route = self._route
        late = reply.outcome is Outcome.LATE
        response = InferResponse(
            model_name=route.pipeline.name,
            outputs=route.outputs.gather(reply.outputs, request.outputs),
            parameters=Parameters(
                triscale_outcome="late" if late else "answered",
                triscale_accuracy=reply.accuracy,
                triscale_slack_ms=int((self._deadline - reply.finished) * 1e6) / 1e3,
                triscale_variants=";".join(map("=".join, reply.variants.items())),
                triscale_partial=reply.partial,
            ),
            id=request.id,
        )
        body, raw = encode(response, request)
        exchange = self._exchange
        headers = _LATE if late else _ANSWERED
        if reply.traceparent:
            headers += _traceparent(reply)
        if b"x-request-id" in exchange.headers:
            headers += _request_id(exchange)
        if raw or _has_binary(request):
            headers += b"inference-header-content-length: %d\r\n" % len(body)
            exchange.respond(200, body, OCTETS, headers, raw)
        else:
            exchange.respond(200, body, JSON, headers)

    def _explain(self, reply: Reply) -> None:
        document: dict[str, object] = {"error": reply.message or f"the request was {reply.outcome.label}"}
        headers = b""
        if reply.outcome is Outcome.SHED and reply.reason is not Reason.TOO_TIGHT:
            headers = b"retry-after: %d\r\n" % max(1, math.ceil(reply.retry_after_s))
            document["retry_after_ms"] = round(reply.retry_after_s * 1e3, 3)
        elif reply.reason is Reason.SHUTDOWN:
            headers = b"retry-after: 1\r\n"
        if reply.traceparent:
            headers += _traceparent(reply)
        status = _STATUS_BY_REASON.get(reply.reason, _STATUS[reply.outcome])
        if self._request.id:
            document["id"] = self._request.id
        _respond(self._exchange, status, document, reply.outcome, reply.reason, reply.stage, headers)


def _has_binary(request: RestRequest) -> bool:
    return request.binary or any(request.binary_outputs.values())


def _refuse(exchange: Exchange, error: RequestError, outcome: Outcome, reason: Reason) -> None:
    _respond(exchange, error.status, {"error": str(error)}, outcome, reason, "", error_headers(error))


def _respond(
    exchange: Exchange,
    status: int,
    document: dict[str, object],
    outcome: Outcome,
    reason: Reason,
    stage: str,
    headers: bytes,
) -> None:
    headers += b"triscale-outcome: %b\r\n" % outcome.label.encode()
    document["outcome"] = outcome.label
    if reason:
        headers += b"triscale-reason: %b\r\n" % reason.value.encode()
        document["reason"] = reason.value
    if stage:
        headers += b"triscale-stage: %b\r\n" % stage.encode()
        document["stage"] = stage
    if b"x-request-id" in exchange.headers:
        headers += _request_id(exchange)
    exchange.respond(status, json_body(document), JSON, headers)


def _traceparent(reply: Reply) -> bytes:
    return b"traceparent: %b\r\n" % reply.traceparent.encode()


def _request_id(exchange: Exchange) -> bytes:
    return b"x-request-id: %b\r\n" % exchange.headers[b"x-request-id"]
