"""The `onnx` runtime: a plain ONNX file, served directly with ONNX Runtime.

An item's tensors are the model's inputs, by name. Items of equal shapes run together, along the first axis: a tensor
with as many dimensions as the model's input brings its own batch axis, one with a dimension less gets one. Every
output is split along that axis again, and goes to the client at a leaf, to every child stage otherwise. Options:

- `emit: {child: [output, ...]}` - which outputs each child gets; where it is given, the others go to the client.
- `providers: [...]` - ONNX Runtime's execution providers, most wanted first; the CPU's by default.

One session serves all lanes at once (`sessions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from triscale.core.model import Data, Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.runtimes.sessions import LiveSession, session

__all__ = ["LiveSession", "OnnxModel", "build", "session"]

Array: TypeAlias = "npt.NDArray[np.generic]"

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(string)": np.object_,
}


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    emit: dict[str, list[str]] | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)


def build(variant: Variant, children: Sequence[str], roots: Sequence[str]) -> Model:
    """A model of the variant's file, looked for in `roots` unless its path is absolute."""
    candidates = [Path(root) / variant.model for root in roots] or [Path(variant.model)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise ModelError(f"there is no file {variant.model!r}; looked for {', '.join(map(str, candidates))}")
    return OnnxModel(path, children)


class OnnxModel(Model):
    """Runs one ONNX file."""

    def __init__(self, path: Path, children: Sequence[str]) -> None:
        self._path = path
        self._children = children

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Make the session, and check the options against it."""
        try:
            self._options = msgspec.convert(options, _Options)
        except msgspec.ValidationError as error:
            raise ModelError(f"its options are wrong: {error}") from None
        self._session = LiveSession(self._path, resources.threads, self._options.providers)
        self._inputs = [_Input(given) for given in self._session.get_inputs()]
        self._outputs = [given.name for given in self._session.get_outputs()]
        emit = self._options.emit
        self._emit = dict.fromkeys(self._children, self._outputs) if emit is None else emit
        for child, names in self._emit.items():
            if child not in self._children:
                raise ModelError(
                    f"option emit names {child!r}, which is not a child of the stage; "
                    f"its children are: {', '.join(self._children) or 'none'}"
                )
            for name in names:
                if name not in self._outputs:
                    raise ModelError(
                        f"option emit.{child} names the output {name!r}, which the model does not have; "
                        f"its outputs are: {', '.join(self._outputs)}"
                    )
        emitted = {name for names in self._emit.values() for name in names}
        self._to_client = [name for name in self._outputs if name not in emitted]

    def warmup(self) -> None:
        """Run one item of zeros, every free dimension 1, if the model takes that."""
        self._warm_up(self._session)

    def _warm_up(self, which: Any) -> None:
        zeros: dict[str, Array] = {given.name: given.zeros() for given in self._inputs}
        try:
            which.run(None, zeros)
        except Exception as error:  # noqa: BLE001 - a model may well need larger extents; its first batch is slower then
            print(f"not warmed up: {error}", flush=True)  # noqa: T201 - the parent logs it

    def prepare_threads(self, threads: int) -> None:
        """Make a session of so many threads beside the one in use."""
        made = self._session.prepare(threads)
        if made is not None:
            self._warm_up(made)

    def set_threads(self, threads: int) -> None:
        """Change over to it."""
        self._session.use(threads)

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Run the items in groups of equal shapes."""
        results: dict[int, Result | Rejected] = {}
        groups: dict[object, list[_Entry]] = {}
        for index, item in enumerate(batch):
            try:
                entry = _Entry(index, self._inputs, _merged(item))
            except ValueError as error:
                results[index] = Rejected(str(error))
                continue
            fixed = any(given.fixed for given in self._inputs)
            groups.setdefault(index if fixed else entry.shapes, []).append(entry)
        for group in groups.values():
            for entry, outputs in zip(group, self._run(group), strict=True):
                results[entry.index] = self._result(outputs)
        return [results[index] for index in range(len(batch))]

    def _run(self, group: Sequence[_Entry]) -> list[dict[str, Array]]:
        """The outputs of each of a group of items that fit together."""
        columns = zip(*(entry.tensors for entry in group), strict=True)
        feed = {
            given.name: np.concatenate(column) if len(group) > 1 else column[0]
            for given, column in zip(self._inputs, columns, strict=True)
        }
        ends = np.cumsum([entry.rows for entry in group])
        outputs: list[dict[str, Array]] = [{} for _ in group]
        for name, array in zip(self._outputs, self._session.run(None, feed), strict=True):
            if len(group) > 1 and (np.ndim(array) == 0 or len(array) != ends[-1]):
                raise ModelError(
                    f"output {name!r} has shape {list(np.shape(array))} for a batch of {ends[-1]} rows: its first axis "
                    "is not the batch; set max_batch: 1"
                )
            split = np.split(array, ends[:-1]) if len(group) > 1 else [np.asarray(array)]
            for entry, own, rows in zip(group, outputs, split, strict=True):
                own[name] = rows[0] if entry.bare and rows.ndim and len(rows) == 1 else rows
        return outputs

    def _result(self, outputs: Mapping[str, Array]) -> Result:
        client = {name: outputs[name] for name in self._to_client}
        return Result(
            outputs=client or None,
            items={child: [{name: outputs[name] for name in names}] for child, names in self._emit.items()},
        )


def _merged(item: Item) -> Data:
    """An item's values; at a joining stage those of all its parts, where later ones overwrite earlier ones."""
    if not item.parts:
        return item.data
    merged: dict[str, Any] = {}
    for part in item.parts:
        merged |= part
    return merged


class _Entry:
    """One item, ready to be run: its tensors with a batch axis."""

    __slots__ = ("bare", "index", "rows", "shapes", "tensors")

    def __init__(self, index: int, inputs: Sequence[_Input], data: Data) -> None:
        self.index = index
        self.tensors = [given.take(data) for given in inputs]
        self.shapes = tuple(tensor.shape[1:] for tensor in self.tensors)
        first = self.tensors[0] if self.tensors else None
        self.rows = len(first) if first is not None and first.ndim else 1
        self.bare = first is not None and np.ndim(data[inputs[0].name]) < first.ndim  # type: ignore[arg-type]
        """Whether it came without a batch axis, and is to be answered without."""


class _Input:
    """One input of the model."""

    def __init__(self, given: Any) -> None:
        self.name: str = given.name
        self.shape: list[int | str | None] = given.shape
        self.rank = len(self.shape)
        self.kind: str = given.type
        self.dtype = _DTYPES.get(given.type)
        self.fixed = self.rank == 0 or isinstance(self.shape[0], int)
        """Whether its first axis cannot hold several items."""

    def zeros(self) -> Array:
        """A smallest tensor of the right shape."""
        shape = [extent if isinstance(extent, int) else 1 for extent in self.shape]
        return np.full(shape, "", object) if self.dtype is np.object_ else np.zeros(shape, self.dtype)

    def take(self, data: Data) -> Array:
        """The item's tensor with a batch axis; ValueError when it is missing or does not fit."""
        value = data.get(self.name)
        if not isinstance(value, np.ndarray):
            raise ValueError(f"tensor {self.name!r} is missing; the item has: {', '.join(data) or 'nothing'}")
        if self.dtype is np.object_ and value.dtype == np.object_:
            # Strings arrive as the bytes of a BYTES tensor.
            texts = [text.decode() if isinstance(text, bytes) else text for text in value.ravel()]
            value = np.array(texts, np.object_).reshape(value.shape)
        if value.dtype != self.dtype:
            raise ValueError(f"tensor {self.name!r} is of type {value.dtype}, but the model takes {self.kind}")
        rows = value[np.newaxis] if value.ndim == self.rank - 1 else value
        fits = rows.ndim == self.rank and all(
            not isinstance(want, int) or want == has for want, has in zip(self.shape, rows.shape, strict=True)
        )
        if not fits:
            shape = ", ".join("?" if not isinstance(extent, int) else str(extent) for extent in self.shape)
            raise ValueError(f"tensor {self.name!r} has shape {list(value.shape)}, but the model takes [{shape}]")
        return rows
