"""NVIDIA's own client against the server: what it sends is understood, what it gets it understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.integration.http.conftest import Serve
from tests.unit.serve.conftest import FakeService, declare, echo, payload, pipeline
from triscale.core.request import Outcome, Reason
from triscale.serve.routes import InferenceApi
from triscale.serve.service import Reply

ARRAYS = [
    np.array([[True, False]]),
    *[np.array([[1, 2], [3, 4]], f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)],
    *[np.array([[0.5, -2.0]], f"f{size}") for size in (2, 4, 8)],
    np.array([[b"one", b""], [b"three", b"f\xc3\xb6ur"]], object),
]


@pytest.fixture
def service() -> FakeService:
    """Model `any` gives back whatever it gets, `m` is declared, `batched` takes rows."""
    found = FakeService(
        pipeline(name="any"),
        pipeline({"x": declare("FP32", -1, 2)}, {"x": declare("FP32", -1, 2)}),
        pipeline({"x": declare("FP32", 2)}, {"x": declare("FP32", 2)}, name="batched", max_batch_size=8),
    )
    found.reply = echo
    return found


@pytest.fixture
def client(serve: Serve, service: FakeService) -> Iterator[Any]:
    found = triton.InferenceServerClient(f"127.0.0.1:{serve(InferenceApi(service)).port}", concurrency=4)
    yield found
    found.close()


def tensor(array: Any, *, binary: bool = True, name: str = "x") -> Any:
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array, binary_data=binary)
    return found


ONE = np.array([[1.5, 2.5]], np.float32)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_every_datatype_comes_back(client: Any, array: Any, binary_in: bool, binary_out: bool | None) -> None:
    outputs = None if binary_out is None else [triton.InferRequestedOutput("x", binary_data=binary_out)]
    found = client.infer("any", [tensor(array, binary=binary_in)], outputs=outputs).as_numpy("x")
    if array.dtype == object and binary_out is False:
        found = np.vectorize(lambda text: text.encode(), otypes=[object])(found)
    assert np.array_equal(found, array)


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 50_000])
def test_compressed_both_ways(client: Any, request_coding: str | None, response_coding: str | None, size: int) -> None:
    array = np.zeros((size, 2), np.float32)
    result = client.infer(
        "m",
        [tensor(array)],
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    assert np.array_equal(result.as_numpy("x"), array)


def test_a_batch_is_cut_and_put_together_again(client: Any, service: FakeService) -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(client.infer("batched", [tensor(array)]).as_numpy("x"), array)
    assert len(service.calls[0].rows) == 3


def test_ids_timeouts_and_parameters(client: Any, service: FakeService) -> None:
    result = client.infer(
        "m",
        [tensor(ONE)],
        request_id="42",
        priority=1,
        timeout=250_000,
        headers={"x-request-id": "r1"},
        parameters={"k": "v"},
    )
    (call,) = service.calls
    assert result.get_response()["id"] == "42"
    assert result.get_response()["parameters"]["triscale_variants"] == "s=only"
    assert call.request_id == "r1"
    assert call.deadline - call.arrived == pytest.approx(0.25)


def test_many_at_once(client: Any) -> None:
    arrays = [np.full((1, 2), number, np.float32) for number in range(32)]
    waiting = [client.async_infer("m", [tensor(array)]) for array in arrays]
    for array, one in zip(arrays, waiting, strict=True):
        assert np.array_equal(one.get_result().as_numpy("x"), array)


def test_several_inputs_and_chosen_outputs(client: Any, service: FakeService) -> None:
    outputs = [triton.InferRequestedOutput("b"), triton.InferRequestedOutput("a", binary_data=False)]
    result = client.infer("any", [tensor(ONE, name="a"), tensor(ONE + 1, binary=False, name="b")], outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["b", "a"]
    assert np.array_equal(result.as_numpy("a"), ONE)
    assert np.array_equal(result.as_numpy("b"), ONE + 1)


def test_strings_that_a_model_emits(client: Any, service: FakeService) -> None:
    service.reply = lambda call: Reply(Outcome.ANSWERED, 0.0, [[payload(t="one"), payload(t="two")]])
    assert client.infer("any", [tensor(ONE)]).as_numpy("t").tolist() == [b"one", b"two"]


def test_what_the_server_says_of_itself(client: Any, service: FakeService) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "triscale"
    assert client.get_model_metadata("m", "1")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert client.get_model_config("batched")["max_batch_size"] == 8
    assert [model["name"] for model in client.get_model_repository_index()] == ["any", "m", "batched"]
    assert len(client.get_inference_statistics()["model_stats"]) == 3
    assert client.get_inference_statistics("m")["model_stats"][0]["name"] == "m"
    service.is_ready = False
    assert not client.is_server_ready()
    assert not client.is_model_ready("m")


@pytest.mark.parametrize(
    ("model", "array", "status", "message"),
    [
        ("nothing", ONE, "404", "there is no model 'nothing' here; the models are: any, m, batched"),
        (
            "m",
            ONE.astype(np.int32),
            "400",
            "input 'x' of model 'm' has datatype INT32, where FP32 is declared; convert it",
        ),
        ("m", ONE[0], "400", r"input 'x' of model 'm' has shape \[2\], where \[-1, 2\] is declared"),
    ],
)
def test_errors_reach_the_caller_in_words(client: Any, model: str, array: Any, status: str, message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as raised:
        client.infer(model, [tensor(array)])
    assert raised.value.status() == status


def test_overload_reaches_the_caller_as_429(client: Any, service: FakeService) -> None:
    service.reply = lambda call: Reply(
        Outcome.SHED, 0.0, reason=Reason.OVERLOADED, message="too much; try again in 0.1 s", retry_after_s=0.1
    )
    with pytest.raises(InferenceServerException, match="too much") as raised:
        client.infer("m", [tensor(ONE)])
    assert raised.value.status() == "429"
