"""Recorded bodies of infer requests, read from files as they were sent.

A file holds the JSON of one request, or JSON lines of several, or one request in the binary form: JSON with the tensors
behind it. Where the JSON ends need not be told: it is read, and the sizes that it gives its tensors are checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from triscale.errors import ConfigError
from triscale.traces.payload import PayloadFiles
from triscale.traces.template import Body

__all__ = ["read_bodies"]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw(b"")


class _Request(msgspec.Struct):
    inputs: list[_Tensor]


_decode = msgspec.json.Decoder(_Request).decode


def read_bodies(payload: PayloadFiles) -> tuple[Body, ...]:
    """The bodies in all files, in order; ConfigError, with file and line, for what is no infer request."""
    bodies = tuple(body for path in payload.paths for body in _bodies(path, payload.header_length))
    if not bodies:
        raise ConfigError("payload: no file is named, so there is nothing to send")
    return bodies


def _bodies(path: str, header_length: int | None) -> Iterator[Body]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"payload {path}: cannot be read: {error.strerror}") from None
    if header_length == 0:
        yield Body(b"", content, binary=True)
        return
    if not content.strip():
        raise ConfigError(f"payload {path}: is empty; it holds the body of an infer request")
    end = _end_of_json(path, content) if header_length is None else header_length
    if end > len(content):
        raise ConfigError(f"payload {path}: its JSON cannot end at byte {end}: the file has {len(content)} bytes")
    head, raw = content[:end], content[end:]
    claimed = _binary_bytes(path, 1, head)
    if claimed == len(raw) and raw:
        yield Body(head, raw, binary=True)
    elif claimed or header_length is not None:
        raise ConfigError(
            f"payload {path}: its inputs claim {claimed} bytes of binary data, but {len(raw)} follow the JSON; "
            "record the whole body, or correct --header-length"
        )
    else:
        yield from _lines(path, head, raw)


def _lines(path: str, first: bytes, others: bytes) -> Iterator[Body]:
    """All in JSON: one value that may take several lines, then one a line."""
    yield Body(first.strip())
    done = first.count(b"\n")
    for number, line in enumerate(others.split(b"\n"), done + 1):
        if text := line.strip():
            if _binary_bytes(path, number, text):
                raise ConfigError(f"payload {path}:{number}: claims binary data, which JSON lines cannot hold")
            yield Body(text)


def _end_of_json(path: str, content: bytes) -> int:
    """Where the first JSON value ends."""
    try:
        # One character a byte: JSON's own signs are ASCII, and only positions are asked for.
        start = len(content) - len(content.lstrip(b" \t\r\n"))
        return json.JSONDecoder(strict=False).raw_decode(content.decode("latin-1"), start)[1]
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"payload {path}:{error.lineno}: is not the JSON of an infer request: {error.msg}; "
            "for one raw tensor without JSON give --header-length 0"
        ) from None


def _binary_bytes(path: str, line: int, head: bytes) -> int:
    """How many bytes of binary tensors the JSON of a request claims; ConfigError where it is none."""
    try:
        request = _decode(head)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"payload {path}:{line}: is not an infer request: {error}; "
            'one looks like {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}'
        ) from None
    if not request.inputs:
        raise ConfigError(f"payload {path}:{line}: has no inputs; an infer request has one at least")
    sizes = [tensor.parameters.get("binary_data_size", 0) for tensor in request.inputs]
    return sum(size for size in sizes if isinstance(size, int))
