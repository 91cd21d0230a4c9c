"""Sessions whose threads change: made beside the old one, taken into use between batches, the old one let go."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.replica.runtimes import onnx_files as files
from triscale.core.model import Item, Resources, Result
from triscale.replica.runtimes import sessions
from triscale.replica.runtimes.onnx import OnnxModel
from triscale.replica.runtimes.sessions import LiveSession, session


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """y = x @ x, large enough for ONNX Runtime to divide among threads."""
    path = tmp_path / "squares.onnx"
    matrix = ("N", "N")
    path.write_bytes(
        files.model(
            [files.node("MatMul", ["x", "x"], ["y"])],
            [files.value("x", files.FLOAT, matrix)],
            [files.value("y", files.FLOAT, matrix)],
        )
    )
    return path


def options_of(which: Any) -> tuple[int, int, str]:
    found = which.get_session_options()
    return (
        found.intra_op_num_threads,
        found.inter_op_num_threads,
        found.get_session_config_entry("session.intra_op.allow_spinning"),
    )


def test_a_session_has_one_thread_unless_told_otherwise_and_never_spins(squares: Path) -> None:
    assert options_of(session(squares)) == (1, 1, "0")
    assert options_of(session(squares, 3)) == (3, 1, "0")


def test_what_was_prepared_is_used_and_the_old_session_let_go(squares: Path) -> None:
    live = LiveSession(squares)
    old = weakref.ref(live._current)
    made = live.prepare(2)
    assert options_of(made) == (2, 1, "0")
    assert live.threads == 1, "until it is used"
    live.use(2)
    assert live._current is made
    gc.collect()
    assert old() is None


def test_answers_are_the_same_before_and_after(squares: Path) -> None:
    live = LiveSession(squares)
    x = np.random.default_rng(1).random((256, 256), np.float32)
    [before] = live.run(None, {"x": x})
    live.prepare(2)
    live.use(2)
    [after] = live.run(None, {"x": x})
    assert np.array_equal(before, after)


def test_a_batch_that_runs_keeps_its_session_until_it_is_done(squares: Path) -> None:
    live = LiveSession(squares)
    old = live._current
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        def run(self, names: Any, feed: Any) -> Any:
            entered.set()
            assert go_on.wait(10)
            return old.run(names, feed)

    live._current = Slow()
    found: list[Any] = []
    lane = threading.Thread(target=lambda: found.append(live.run(None, {"x": np.eye(2, dtype=np.float32)})))
    lane.start()
    assert entered.wait(10)
    live.prepare(2)
    live.use(2)
    go_on.set()
    lane.join()
    assert found[0][0].tolist() == [[1, 0], [0, 1]]


def test_preparing_for_the_number_in_use_lets_go_of_what_was_made(squares: Path) -> None:
    live = LiveSession(squares)
    made = weakref.ref(live.prepare(2))
    assert made() is not None
    assert live.prepare(2) is None, "it is there already"
    assert live.prepare(1) is None
    gc.collect()
    assert made() is None


def test_without_preparation_the_session_is_made_at_once(squares: Path) -> None:
    live = LiveSession(squares)
    live.use(2)
    assert options_of(live._current)[0] == 2


def test_batches_go_on_while_a_session_is_made(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnnxModel(squares, ())
    model.load({}, Resources())
    go_on, making = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        making.set()
        assert go_on.wait(10)
        return session(*arguments)

    monkeypatch.setattr(sessions, "session", slow)
    preparing = threading.Thread(target=model.prepare_threads, args=(2,))
    preparing.start()
    assert making.wait(10)
    x = np.eye(2, dtype=np.float32)
    [result] = model.predict([Item({"x": x})])
    assert isinstance(result, Result)
    model.set_threads(1)  # as every lane does that has not run yet
    go_on.set()
    preparing.join()
    model.set_threads(2)
    assert model._session.threads == 2
