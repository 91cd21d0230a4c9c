"""What a pipeline's items made for the client, as the named tensors of one response.

A row's outputs are payloads in the order in which they were emitted. For each output, the values of all of them make
one tensor, as the pipeline declares it: tensors with as many dimensions as declared are joined along the first, those
with one fewer (and single values) are stacked. Bytes, strings and JSON values are elements of a BYTES tensor; JSON
numbers and booleans are elements of the declared datatype. No values make an empty tensor. What is not declared is
inferred. With `max_batch_size` each row's tensors become one row of the response's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from triscale.core.pipeline import Pipeline
from triscale.errors import InvalidRequest, ModelError
from triscale.serve.inference_protocol import OutputTensor
from triscale.serve.pieces import infer_spec, join_pieces, piece_of
from triscale.wire.payload import Buffer, Field, Kind, Payload

__all__ = ["OutputSchema"]

_REMEMBERED = 256
"""How many heads of payloads a schema remembers."""


class _Part(NamedTuple):
    """A tensor inside a payload's body."""

    field: Field
    start: int
    end: int


class OutputSchema:
    """The outputs of one pipeline: gathers payloads into tensors."""

    __slots__ = ("_batched", "_model", "_outputs", "_ready_made")

    def __init__(self, pipeline: Pipeline) -> None:
        self._model = pipeline.name
        self._outputs = pipeline.outputs
        self._batched = pipeline.max_batch_size > 0
        self._ready_made: dict[bytes, tuple[_Part, ...] | None] = {}
        """Heads of payloads seen before: where their tensors are, if those are just as declared; otherwise None."""

    def check_wanted(self, wanted: Iterable[str]) -> None:
        """InvalidRequest for an output that the pipeline does not declare, if it declares any."""
        if self._outputs:
            for name in wanted:
                if name not in self._outputs:
                    raise self._unknown(name, self._outputs)

    def gather(self, rows: Sequence[Sequence[Payload]], wanted: Sequence[str] = ()) -> list[OutputTensor]:
        """The tensors of one response: those of `wanted` in that order, or else all.

        ModelError when values do not make the tensor that is declared; InvalidRequest for an unknown `wanted`.
        """
        tensors = self._gather_ready_made(rows)
        if tensors is None:
            made = [self._row(row) for row in rows]
            tensors = self._stack(made) if self._batched else made[0]
        if not wanted:
            return tensors
        by_name = {tensor.name: tensor for tensor in tensors}
        for name in wanted:
            if name not in by_name:
                raise self._unknown(name, by_name)
        return [by_name[name] for name in wanted]

    def _unknown(self, name: str, known: Iterable[str]) -> InvalidRequest:
        return InvalidRequest(
            f"output {name!r} is not one of model {self._model!r}; its outputs are {', '.join(known) or 'none'}"
        )

    def _gather_ready_made(self, rows: Sequence[Sequence[Payload]]) -> list[OutputTensor] | None:
        """The fast way, where each row is one payload with the same head and no value needs to be touched."""
        if len(rows[0]) != 1:
            return None
        head = rows[0][0].head
        try:
            parts = self._ready_made[head]
        except KeyError:
            parts = self._remember(rows[0][0])
        if parts is None or (len(rows) > 1 and any(len(row) != 1 or row[0].head != head for row in rows)):
            return None
        tensors: list[OutputTensor] = []
        for field, start, end in parts:
            buffers: list[Buffer] = []
            for row in rows:
                if len(parts) == 1:
                    buffers += row[0].buffers
                else:
                    buffers.append(memoryview(row[0].body())[start:end])
            shape = (len(rows), *field.shape) if self._batched else field.shape
            tensors.append(OutputTensor(field.name, field.datatype, shape, buffers))
        return tensors

    def _remember(self, payload: Payload) -> tuple[_Part, ...] | None:
        fields = payload.fields()
        parts: dict[str, _Part] = {}
        at = 0
        for field in fields:
            if self._is_as_declared(field):
                parts[field.name] = _Part(field, at, at + field.nbytes)
            at += field.nbytes
        found: tuple[_Part, ...] | None = None
        if parts and len(parts) == len(fields) and parts.keys() >= self._outputs.keys():
            found = tuple(parts[name] for name in dict.fromkeys((*self._outputs, *parts)))
        if len(self._ready_made) >= _REMEMBERED:
            self._ready_made.clear()
        self._ready_made[payload.head] = found
        return found

    def _is_as_declared(self, field: Field) -> bool:
        if field.kind != Kind.TENSOR:
            return False
        spec = self._outputs.get(field.name)
        if spec is None:
            return len(field.shape) > 0
        return field.datatype == spec.datatype and len(field.shape) == len(spec.shape)

    def _row(self, payloads: Sequence[Payload]) -> list[OutputTensor]:
        """The general way: each value is looked at, and brought into the form that is declared."""
        values: dict[str, list[tuple[Field, memoryview]]] = {name: [] for name in self._outputs}
        for payload in payloads:
            body = memoryview(payload.body())
            at = 0
            for field in payload.fields():
                values.setdefault(field.name, []).append((field, body[at : at + field.nbytes]))
                at += field.nbytes
        tensors: list[OutputTensor] = []
        for name, found in values.items():
            spec = self._outputs.get(name) or infer_spec(found)
            pieces = [piece_of(spec, field, raw) for field, raw in found]
            tensors.append(join_pieces(name, spec, pieces))
        return tensors

    def _stack(self, rows: Sequence[list[OutputTensor]]) -> list[OutputTensor]:
        stacked: list[OutputTensor] = []
        for row, made in enumerate(rows):
            if len(made) != len(rows[0]):
                raise ModelError(
                    f"row {row} made {len(made)} outputs where row 0 made {len(rows[0])}; declare `outputs`"
                )
        for tensors in zip(*rows, strict=True):
            first = tensors[0]
            for row, tensor in enumerate(tensors):
                if (tensor.name, tensor.datatype, tensor.shape) != (first.name, first.datatype, first.shape):
                    raise ModelError(
                        f"output {tensor.name!r} of row {row} has shape {list(tensor.shape)} where row 0 has"
                        f" {list(first.shape)}, so they make no batch; send such rows one request each"
                    )
            buffers = [buffer for tensor in tensors for buffer in tensor.buffers]
            stacked.append(OutputTensor(first.name, first.datatype, (len(rows), *first.shape), buffers))
        return stacked
