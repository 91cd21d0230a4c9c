"""One batch through a model: a model that breaks its contract is told by name which rule it broke."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from triscale.core.model import Item, Model, Rejected, Result
from triscale.errors import ModelError
from triscale.replica.batch import predict
from triscale.replica.residents import Resident
from triscale.wire.payload import Payload, pack, unpack


class Fake(Model):
    def __init__(self, answer: Callable[[list[Item]], Any]) -> None:
        self.answer = answer

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return self.answer(batch)  # type: ignore[no-any-return]


def run(answer: Callable[[list[Item]], Any], *payloads: Payload, children: tuple[str, ...] = ("next",)) -> list[Any]:
    resident = Resident("variant v of stage s (m:M)", Fake(answer), 0.0)
    return predict(resident, children, [[payload] for payload in payloads], join=False)


def payloads(count: int) -> list[Payload]:
    return [pack({"i": i}) for i in range(count)]


def test_outputs_and_items_come_back_in_order_with_children_in_the_graphs_order() -> None:
    def answer(batch: list[Item]) -> list[Result]:
        return [Result({"i": item["i"]}, {"b": [{"k": 1}, {"k": 2}], "a": []}) for item in batch]

    packed = run(answer, *payloads(2), children=("a", "b", "c"))
    for i, (output, emitted) in enumerate(packed):
        assert unpack(output) == {"i": i}
        assert [[unpack(payload) for payload in child] for child in emitted] == [[], [{"k": 1}, {"k": 2}], []]


def test_a_rejected_item_leaves_its_batch_mates_alone() -> None:
    packed = run(lambda batch: [Result(), Rejected("not a JPEG"), Result()], *payloads(3))
    assert packed == [(None, [[]]), "not a JPEG", (None, [[]])]


def test_an_item_that_cannot_be_read_is_rejected_without_the_model() -> None:
    seen: list[int] = []

    def answer(batch: list[Item]) -> list[Result]:
        seen.append(len(batch))
        return [Result() for _ in batch]

    broken = pack({"x": np.zeros(4, np.float32)})
    broken = Payload(broken.head, [b"short"], 5)
    first, last, middle = pack({}), pack({}), broken
    packed = run(answer, first, middle, last, middle)
    assert seen == [2]
    assert packed[0] == packed[2] == (None, [[]])
    assert packed[1] == packed[3] == "value 'x' claims 16 bytes where 5 are left"


def test_a_batch_of_unreadable_items_does_not_reach_the_model() -> None:
    def answer(batch: list[Item]) -> list[Result]:
        raise AssertionError("must not be called")

    assert len(run(answer, Payload(b"\xc1", [], 0))) == 1


def test_a_joining_stage_gets_all_parts_in_order() -> None:
    def answer(batch: list[Item]) -> list[Result]:
        return [Result({"n": len(item.parts), "first": item.parts[0]["i"], "own": len(item.data)}) for item in batch]

    resident = Resident("t", Fake(answer), 0.0)
    packed: list[Any] = predict(resident, (), [payloads(3)], join=True)
    assert unpack(packed[0][0]) == {"n": 3, "first": 0, "own": 0}


Wrong: Any = Result
"""A Result of what it must not hold."""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda batch: {},
            "predict must return a list with one Result or Rejected for each of its 2 items, but returned a dict",
        ),
        (lambda batch: None, "but returned None"),
        (lambda batch: [Result()], "predict returned 1 results for 2 items"),
        (lambda batch: [Result(), "x"], "result 1 is a str instead of a Result or a Rejected"),
        (lambda batch: [Result(), 1], "result 1 is an int instead of a Result or a Rejected"),
        (lambda batch: [Wrong([]), Result()], "outputs of result 0 is a list instead of a dict of named values"),
        (lambda batch: [Wrong({1: 2}), Result()], "outputs of result 0 is a dict instead of a dict of named values"),
        (lambda batch: [Wrong(items=[1]), Result()], "items of result 0 is a list instead of a dict"),
        (
            lambda batch: [Result(items={"nxt": []}), Result()],
            "result 0 has items for 'nxt', which is not a child of the stage; its children are: next",
        ),
        (
            lambda batch: [Wrong(items={"next": {"a": 1}}), Result()],
            "items for 'next' of result 0 is a dict instead of a list",
        ),
        (
            lambda batch: [Wrong({"o": object()}), Result()],
            "outputs of result 0 cannot be sent: value 'o' of type object cannot be sent",
        ),
        (
            lambda batch: [Result({"z": np.zeros(1, np.complex64)}), Result()],
            "outputs of result 0 cannot be sent: tensors of dtype complex64 cannot be sent",
        ),
    ],
)
def test_a_broken_contract_is_named(answer: Callable[[list[Item]], Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        run(answer, *payloads(2))
    assert str(caught.value).startswith("variant v of stage s (m:M): ")
    assert message in str(caught.value)


def test_a_leaf_that_emits_items_is_told_that_it_is_one() -> None:
    with pytest.raises(ModelError, match="its children are: none; it is a leaf"):
        run(lambda batch: [Result(items={"next": []})], *payloads(1), children=())


def test_an_exception_comes_back_with_its_type_text_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(batch: list[Item]) -> list[Result]:
        raise KeyError("weights")

    with pytest.raises(ModelError) as caught:
        run(answer, *payloads(1))
    text = str(caught.value)
    assert text.startswith("variant v of stage s (m:M): predict raised KeyError: 'weights' (line ")
    assert text.endswith("test_batch.py, in answer)")
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_very_long_exception_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(batch: list[Item]) -> list[Result]:
        raise ValueError("x" * 10**6)

    with pytest.raises(ModelError) as caught:
        run(answer, *payloads(1))
    assert 2000 < len(str(caught.value)) < 3000
    assert len(capsys.readouterr().err) > 10**6, "the log has all of it"


def test_a_model_that_calls_exit_fails_its_batch_only(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(batch: list[Item]) -> list[Result]:
        raise SystemExit(3)

    with pytest.raises(ModelError, match="predict raised SystemExit: 3"):
        run(answer, *payloads(1))
    assert "SystemExit" in capsys.readouterr().err
