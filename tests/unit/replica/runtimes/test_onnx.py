"""The onnx runtime, on files of a few bytes: y = a + b and s = the sum of y, or strings passed through."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.replica.runtimes import onnx_files as files
from triscale.core.model import Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.runtimes import build
from triscale.replica.runtimes.onnx import OnnxModel, session


@pytest.fixture
def adder(tmp_path: Path) -> Path:
    """Takes a and b of shape [N, M]; gives y = a + b and z = a * b."""
    path = tmp_path / "adder.onnx"
    matrix = ("N", "M")
    path.write_bytes(
        files.model(
            [files.node("Add", ["a", "b"], ["y"]), files.node("Mul", ["a", "b"], ["z"])],
            [files.value("a", files.FLOAT, matrix), files.value("b", files.FLOAT, matrix)],
            [files.value("y", files.FLOAT, matrix), files.value("z", files.FLOAT, matrix)],
        )
    )
    return path


def single(
    tmp_path: Path, operator: str, shape: Sequence[int | str], out: Sequence[int | str], kind: int = files.FLOAT
) -> Path:
    path = tmp_path / "single.onnx"
    path.write_bytes(
        files.model(
            [files.node(operator, ["x"], ["y"])], [files.value("x", kind, shape)], [files.value("y", kind, out)]
        )
    )
    return path


def load(path: Path, children: tuple[str, ...] = (), **options: object) -> Model:
    model = OnnxModel(path, children)
    model.load(options, Resources())
    model.warmup()
    return model


def floats(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def outputs(results: list[Result | Rejected]) -> list[dict[str, Any]]:
    assert all(isinstance(result, Result) for result in results)
    return [dict(result.outputs or {}) for result in results if isinstance(result, Result)]


def test_items_of_equal_shape_run_together_and_get_their_own_rows(adder: Path) -> None:
    model = load(adder)
    runs: list[tuple[int, ...]] = []
    inner = model._session.run  # type: ignore[attr-defined]

    class Counting:
        def run(self, names: None, feed: dict[str, Any]) -> Any:
            runs.append(feed["a"].shape)
            return inner(names, feed)

    model._session = Counting()  # type: ignore[attr-defined]
    batch = [Item({"a": floats(i, 1), "b": floats(10, i)}) for i in range(3)]
    batch.insert(1, Item({"a": floats(1, 2, 3), "b": floats(1, 1, 1)}))
    found = outputs(model.predict(batch))
    assert sorted(runs) == [(1, 3), (3, 2)]
    assert [entry["y"].tolist() for entry in found] == [[10, 1], [2, 3, 4], [11, 2], [12, 3]]
    assert [entry["z"].tolist() for entry in found] == [[0, 0], [1, 2, 3], [10, 1], [20, 2]]


def test_items_that_bring_a_batch_axis_keep_it(adder: Path) -> None:
    model = load(adder)
    rows = np.ones((2, 2), np.float32)
    with_axis, without = outputs(model.predict([Item({"a": rows, "b": rows}), Item({"a": rows[0], "b": rows[0]})]))
    assert with_axis["y"].tolist() == [[2, 2], [2, 2]]
    assert without["y"].tolist() == [2, 2]


def test_a_fixed_first_axis_is_run_item_by_item(tmp_path: Path) -> None:
    model = load(single(tmp_path, "Neg", [1, 2], [1, 2]))
    found = outputs(model.predict([Item({"x": floats(i, i)}) for i in range(3)]))
    assert [entry["y"].tolist() for entry in found] == [[0, 0], [-1, -1], [-2, -2]]


def test_scalars_and_strings_are_served(tmp_path: Path) -> None:
    scalar = load(single(tmp_path, "Neg", [], []))
    assert [entry["y"].item() for entry in outputs(scalar.predict([Item({"x": np.array(2, np.float32)})] * 2))] == [
        -2,
        -2,
    ]
    strings = load(single(tmp_path, "Identity", ["N"], ["N"], files.STRING))
    batch = [Item({"x": np.array([b"caf\xc3\xa9", "b"], object)}), Item({"x": np.array([b"c"], object)})]
    assert [entry["y"].tolist() for entry in outputs(strings.predict(batch))] == [["café", "b"], ["c"]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"a": floats(1)}, "tensor 'b' is missing; the item has: a"),
        ({"a": floats(1), "b": 3}, "tensor 'b' is missing; the item has: a, b"),
        ({}, "tensor 'a' is missing; the item has: nothing"),
        ({"a": np.zeros(1), "b": floats(1)}, "tensor 'a' is of type float64, but the model takes tensor(float)"),
        (
            {"a": np.zeros((1, 1, 1), np.float32), "b": floats(1)},
            "tensor 'a' has shape [1, 1, 1], but the model takes [?, ?]",
        ),
    ],
)
def test_an_item_that_does_not_fit_is_rejected_alone(adder: Path, data: dict[str, Any], reason: str) -> None:
    good = Item({"a": floats(1), "b": floats(2)})
    first, second = load(adder).predict([Item(data), good])
    assert first == Rejected(reason)
    assert isinstance(second, Result)


def test_a_fixed_extent_is_checked(tmp_path: Path) -> None:
    model = load(single(tmp_path, "Neg", ["N", 3], ["N", 3]))
    assert model.predict([Item({"x": floats(1, 2)})]) == [
        Rejected("tensor 'x' has shape [2], but the model takes [?, 3]")
    ]


def test_an_output_that_is_not_batched_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "shape.onnx"
    path.write_bytes(
        files.model(
            [files.node("Shape", ["x"], ["y"])],
            [files.value("x", files.FLOAT, ["N", "M"])],
            [files.value("y", files.INT64, [2])],
        )
    )
    model = load(path)
    assert outputs(model.predict([Item({"x": floats(1, 2, 3)})]))[0]["y"].tolist() == [1, 3]
    with pytest.raises(ModelError, match=r"output 'y' has shape \[2\] for a batch of 3 rows: .* set max_batch: 1"):
        model.predict([Item({"x": floats(1, 2)})] * 3)


def test_without_options_every_child_gets_every_output_and_the_client_none(adder: Path) -> None:
    [result] = load(adder, ("l", "r")).predict([Item({"a": floats(1), "b": floats(2)})])
    assert isinstance(result, Result)
    assert result.outputs is None
    assert {child: [sorted(item) for item in items] for child, items in result.items.items()} == {
        "l": [["y", "z"]],
        "r": [["y", "z"]],
    }


def test_emit_chooses_and_the_client_gets_the_rest(adder: Path) -> None:
    [result] = load(adder, ("l", "r"), emit={"l": ["y"]}).predict([Item({"a": floats(1), "b": floats(2)})])
    assert isinstance(result, Result)
    assert result.outputs is not None
    assert sorted(result.outputs) == ["z"]
    assert {child: [sorted(item) for item in items] for child, items in result.items.items()} == {"l": [["y"]]}


def test_a_joining_stage_takes_its_inputs_from_all_parts(adder: Path) -> None:
    [found] = outputs(load(adder).predict([Item({}, parts=({"a": floats(1)}, {"b": floats(2)}))]))
    assert found["y"].tolist() == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emit": {"x": ["y"]}}, "option emit names 'x', which is not a child of the stage; its children are: l"),
        (
            {"emit": {"l": ["q"]}},
            "option emit.l names the output 'q', which the model does not have; its outputs are: y, z",
        ),
        ({"emit": ["y"]}, r"its options are wrong: Expected `object | null`, got `array` - at `$.emit`"),
        ({"threads": 2}, "its options are wrong: Object contains unknown field `threads`"),
    ],
)
def test_wrong_options_are_refused_at_load(adder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        OnnxModel(adder, ("l",)).load(options, Resources())
    assert message in str(caught.value)


def test_the_file_is_looked_for_in_every_root(adder: Path, tmp_path: Path) -> None:
    variant = Variant(name="v", runtime="onnx", model="adder.onnx")
    assert isinstance(build(variant, (), ("/nowhere", str(tmp_path))), OnnxModel)
    with pytest.raises(
        ModelError, match=r"there is no file 'adder.onnx'; looked for /nowhere/adder.onnx, /no/adder.onnx"
    ):
        build(variant, (), ("/nowhere", "/no"))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load .*broken\.onnx: "):
        session(path)


def test_without_onnx_runtime_the_extra_is_named(adder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"install it with: pip install triscale\[onnx\]"):
        session(adder)


def test_threads_change_while_lanes_run_and_no_answer_does(adder: Path) -> None:
    model = load(adder)
    found: list[list[float]] = []
    stop = threading.Event()

    def lane(number: int) -> None:
        while not stop.is_set():
            [entry] = outputs(model.predict([Item({"a": floats(number), "b": floats(number)})]))
            found.append([number, *entry["y"].tolist(), *entry["z"].tolist()])

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(3)]
    for thread in lanes:
        thread.start()
    for threads in (2, 1, 2):
        seen = len(found)
        model.prepare_threads(threads)
        model.set_threads(threads)
        while len(found) < seen + 10:
            assert all(thread.is_alive() for thread in lanes)
    stop.set()
    for thread in lanes:
        thread.join()
    assert {tuple(entry) for entry in found} == {(n, 2 * n, n * n) for n in range(3)}
