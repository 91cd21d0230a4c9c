"""One batch through one model: payloads to items, `predict`, and results back to payloads, the contract checked.

A model's mistake never ends the replica: it becomes a `ModelError` whose text names the model and the rule.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from triscale.core.model import Item, Rejected, Result
from triscale.errors import ModelError, WireError
from triscale.replica.residents import Resident
from triscale.wire.payload import Payload, pack, unpack

__all__ = ["Packed", "predict"]

_LONGEST = 2000
"""Characters of an exception's text that travel; all of it is in the log."""

Packed: TypeAlias = tuple[Payload | None, list[list[Payload]]] | str
"""What becomes of one item: (output, per child the emitted items), or why it was rejected."""


def predict(
    resident: Resident, children: Sequence[str], batch: Sequence[Sequence[Payload]], join: bool
) -> list[Packed]:
    """Run one batch; ModelError when the model raises or breaks its contract.

    An item whose bytes cannot be read (a client's malformed tensor) is rejected without bothering the model.
    """
    items: list[Item] = []
    unreadable: dict[int, str] = {}
    for index, parts in enumerate(batch):
        try:
            items.append(Item({}, tuple(map(unpack, parts))) if join else Item(unpack(parts[0])))
        except WireError as error:
            unreadable[index] = str(error)
    packed = _call(resident, children, items) if items else []
    for index, reason in unreadable.items():  # ascending, so each lands where it was
        packed.insert(index, reason)
    return packed


def _call(resident: Resident, children: Sequence[str], items: list[Item]) -> list[Packed]:
    try:
        results = resident.model.predict(items)
    except BaseException as error:  # noqa: BLE001 - whatever the model raises, SystemExit included, is the batch's end only
        traceback.print_exc()
        raise ModelError(f"{resident.title}: {_last_line(error)}") from None
    if not isinstance(results, list):
        raise ModelError(
            f"{resident.title}: predict must return a list with one Result or Rejected for each of its {len(items)} "
            f"items, but returned {_a(results)}"
        )
    if len(results) != len(items):
        raise ModelError(f"{resident.title}: predict returned {len(results)} results for {len(items)} items")
    return [_pack(resident, children, index, result) for index, result in enumerate(results)]


def _pack(resident: Resident, children: Sequence[str], index: int, result: object) -> Packed:
    if isinstance(result, Rejected):
        return str(result.reason)
    if not isinstance(result, Result):
        raise ModelError(f"{resident.title}: result {index} is {_a(result)} instead of a Result or a Rejected")
    output = None
    if result.outputs is not None:
        output = _pack_data(resident, result.outputs, f"outputs of result {index}")
    if not result.items:
        return output, [[] for _ in children]
    if not isinstance(result.items, Mapping):
        raise ModelError(f"{resident.title}: items of result {index} is {_a(result.items)} instead of a dict")
    for child in result.items:
        if child not in children:
            known = ", ".join(children) or "none; it is a leaf"
            raise ModelError(
                f"{resident.title}: result {index} has items for {child!r}, which is not a child of the stage; "
                f"its children are: {known}"
            )
    emitted: list[list[Payload]] = []
    for child in children:
        items = result.items.get(child, ())
        if not isinstance(items, list | tuple):
            raise ModelError(
                f"{resident.title}: items for {child!r} of result {index} is {_a(items)} instead of a list"
            )
        emitted.append([_pack_data(resident, item, f"an item for {child!r} of result {index}") for item in items])
    return output, emitted


def _pack_data(resident: Resident, data: object, what: str) -> Payload:
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise ModelError(f"{resident.title}: {what} is {_a(data)} instead of a dict of named values")
    try:
        return pack(data)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{resident.title}: {what} cannot be sent: {error}") from None


def _last_line(error: BaseException) -> str:
    """The exception as a traceback's end shows it, with the innermost place it came through."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f" (line {frames[-1].lineno} of {frames[-1].filename}, in {frames[-1].name})" if frames else ""
    return f"predict raised {type(error).__name__}: {str(error)[:_LONGEST]}{where}"


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}" if value is not None else "None"
