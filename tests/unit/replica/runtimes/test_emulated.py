"""The emulated runtime: it costs what its table says, and emits what its fan-out says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.core.model import Item, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.runtimes import build
from triscale.replica.runtimes.emulated import interpolate

TABLE = {1: 10.0, 4: 16.0, 8: 32.0}


@pytest.mark.parametrize(
    ("batch", "latency"),
    [(1, 10.0), (2, 12.0), (4, 16.0), (6, 24.0), (8, 32.0), (10, 40.0)],
)
def test_latency_is_linear_between_the_entries_and_along_the_last_slope_beyond(batch: int, latency: float) -> None:
    assert interpolate(TABLE, batch) == pytest.approx(latency)


def test_one_entry_holds_for_every_batch() -> None:
    assert interpolate({4: 7.0}, 1) == interpolate({4: 7.0}, 100) == 7.0


def test_below_the_first_entry_latency_is_never_less_than_the_least() -> None:
    assert interpolate({8: 10.0, 16: 40.0}, 1) == 10.0


def test_a_falling_end_of_the_table_does_not_make_large_batches_free() -> None:
    assert interpolate({1: 10.0, 2: 9.0}, 100) == 9.0


def emulated(monkeypatch: pytest.MonkeyPatch, threads: int = 1, **options: object) -> tuple[object, list[float]]:
    slept: list[float] = []
    monkeypatch.setattr("triscale.replica.runtimes.emulated.time.sleep", slept.append)
    variant = Variant(name="v", runtime="emulated", latency_ms=TABLE, load_ms=250.0)
    model = build(variant, (), ())
    model.load(options, Resources(threads=threads))
    model.predict([Item({"i": i}) for i in range(4)])
    model.set_threads(4)
    model.predict([Item({})])
    return model, slept


def test_it_sleeps_for_loading_and_for_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    _, slept = emulated(monkeypatch, threads=2)
    assert slept == pytest.approx([0.25, 0.016, 0.010])


def test_threads_divide_the_latency_of_a_parallel_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _, slept = emulated(monkeypatch, threads=2, parallel=True)
    assert slept == pytest.approx([0.25, 0.008, 0.0025])


def test_an_unknown_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "the emulated runtime has no option 'paralel'; its options are: parallel, by_threads"
    with pytest.raises(ModelError, match=message):
        emulated(monkeypatch, paralel=True)


@pytest.mark.parametrize("keys", [int, str], ids=["as numbers", "as text, having travelled as JSON"])
def test_a_table_by_threads_says_what_more_of_them_take(
    monkeypatch: pytest.MonkeyPatch, keys: Callable[[int], object]
) -> None:
    table = {keys(2): {keys(1): 7.0, keys(4): 10.0}, keys(4): {keys(1): 5.0, keys(4): 8.0}}
    _, slept = emulated(monkeypatch, threads=2, by_threads=table)
    assert slept == pytest.approx([0.25, 0.010, 0.005])


def test_a_number_of_threads_that_is_not_stated_takes_as_long_as_the_next_lower_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, slept = emulated(monkeypatch, threads=1, by_threads={2: {1: 7.0}, 8: {1: 2.0}})
    assert slept == pytest.approx([0.25, 0.016, 0.007])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by_threads": {2: {1: 7.0}}, "parallel": True}, "both say what threads do; leave one out"),
        ({"by_threads": {"two": {1: 7.0}}}, r"is threads -> batch size -> milliseconds, as in \{2: \{1: 35.0\}\}"),
        ({"by_threads": {2: {}}}, "needs at least one batch size from 1 on"),
        ({"by_threads": {0: {1: 1.0}}}, "for numbers of threads from 1 on"),
        ({"by_threads": {2: {1: 0.0}}}, "with milliseconds above 0"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        emulated(monkeypatch, **options)  # type: ignore[arg-type]


def test_at_a_leaf_the_client_gets_back_what_it_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(Variant(name="v", runtime="emulated", latency_ms={1: 0.001}), (), ())
    assert model.predict([Item({"i": 3}), Item({}, parts=({"j": 4}, {"j": 5}))]) == [
        Result(outputs={"i": 3}),
        Result(outputs={"j": 4}),
    ]


@given(st.floats(0, 5, allow_nan=False), st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_fan_out_is_exact_in_the_mean_however_items_are_batched(fan_out: float, batches: list[int]) -> None:
    variant = Variant(name="v", runtime="emulated", latency_ms={1: 1e-6}, fan_out={"a": fan_out})
    model = build(variant, ("a", "b"), ())
    emitted = {"a": 0, "b": 0}
    for size in batches:
        for result in model.predict([Item({})] * size):
            assert isinstance(result, Result)
            assert result.outputs is None
            for child in emitted:
                emitted[child] += len(result.items[child])
    total = sum(batches)
    assert emitted["b"] == total, "a child without a stated fan-out gets each item once"
    assert abs(emitted["a"] - total * fan_out) < 1 + 1e-6
