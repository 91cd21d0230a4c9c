"""ONNX Runtime sessions fit for lanes: for the `onnx` runtime, and for authors of models who use ONNX Runtime.

Several lanes call one session's `run` at once, with one intra-op thread each unless told otherwise. Threads do not
spin while they wait: they would take the cores of the other lanes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triscale.errors import ModelError

__all__ = ["LiveSession", "session"]

_CPU = ("CPUExecutionProvider",)


def session(path: str | Path, threads: int = 1, providers: Sequence[str] = _CPU) -> Any:
    """An `onnxruntime.InferenceSession`; ModelError when it cannot be made. Its threads stay as many as they are."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"ONNX Runtime cannot be imported ({error}); install it with: pip install triscale[onnx]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its exceptions have no common base but this one
        raise ModelError(f"ONNX Runtime cannot load {path}: {error}") from error


class LiveSession:
    """A session whose threads can change while lanes use it: a second one is made, and takes over between batches.

    `prepare` makes it and `use` changes over, for a model's `prepare_threads` and `set_threads`. Until then both are
    in memory; a batch that runs keeps the old one until it is done.
    """

    def __init__(self, path: str | Path, threads: int = 1, providers: Sequence[str] = _CPU) -> None:
        self._path = path
        self._providers = providers
        self._current = session(path, threads, providers)
        self._next: Any = None
        self._threads = threads
        self._next_threads = 0
        self._changing = threading.Lock()

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """`InferenceSession.run`, on the session that is in use now."""
        found: list[Any] = self._current.run(names, feed)
        return found

    def get_inputs(self) -> list[Any]:
        """The model's inputs, as ONNX Runtime describes them."""
        found: list[Any] = self._current.get_inputs()
        return found

    def get_outputs(self) -> list[Any]:
        """The model's outputs, likewise."""
        found: list[Any] = self._current.get_outputs()
        return found

    @property
    def threads(self) -> int:
        """Intra-op threads of the session that is in use."""
        return self._threads

    def prepare(self, threads: int) -> Any:
        """Make a session of so many threads, to be warmed up and used later; None where nothing had to be made.

        With the number in use, the one that was made is let go.
        """
        with self._changing:
            if threads in (self._threads, self._next_threads):
                if threads == self._threads:
                    self._next, self._next_threads = None, 0
                return None
            self._next = None  # not three at a time
            self._next = session(self._path, threads, self._providers)
            self._next_threads = threads
            return self._next

    def use(self, threads: int) -> None:
        """Change over, which is quick where `prepare` came before."""
        if threads == self._threads:
            return
        with self._changing:
            if threads != self._threads:
                ready = self._next if threads == self._next_threads else None
                self._current = ready or session(self._path, threads, self._providers)
                self._threads = threads
                self._next, self._next_threads = None, 0
