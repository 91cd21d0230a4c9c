"""Payloads in frames: small ones inline, large ones in the arena, and no disagreement goes unnoticed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import WireError
from triscale.wire.arena import Inbox, Outbox, create_arena
from triscale.wire.parts import ARENA_FROM, PartReader, PartWriter
from triscale.wire.payload import Payload, pack, unpack

sizes = st.one_of(st.integers(0, 200), st.sampled_from([ARENA_FROM - 1, ARENA_FROM, 3 * ARENA_FROM]))


def payload_of(size: int, fill: int) -> Payload:
    return pack({"x": np.full(size, fill, np.uint8), "n": fill})


@settings(deadline=None)
@given(st.lists(sizes, max_size=8), st.sampled_from([None, 4096, 16 * ARENA_FROM]))
def test_what_is_put_is_taken_whatever_the_arena_holds(wanted: list[int], arena: int | None) -> None:
    outbox = inbox = None
    if arena is not None:
        fd = create_arena(arena)
        outbox, inbox = Outbox(fd), Inbox(fd)
        os.close(fd)
    writer = PartWriter(outbox)
    placed = [writer.put(payload_of(size, i)) for i, size in enumerate(wanted)]
    body = b"".join(writer.buffers)
    assert len(body) == writer.nbytes
    reader = PartReader(memoryview(body), inbox)
    for i, (part, size) in enumerate(zip(placed, wanted, strict=True)):
        values = unpack(reader.take(part))
        assert isinstance(values["x"], np.ndarray)
        assert values["x"].tolist() == [i] * size
        assert values["n"] == i
    reader.finish()


def test_only_large_payloads_go_through_the_arena() -> None:
    fd = create_arena(16 * ARENA_FROM)
    outbox = Outbox(fd)
    os.close(fd)
    writer = PartWriter(outbox)
    assert writer.put(Payload(b"", (b"x" * (ARENA_FROM - 1),), ARENA_FROM - 1))[2] == -1
    assert writer.put(Payload(b"", (b"x" * ARENA_FROM,), ARENA_FROM))[2] == 0
    assert writer.nbytes == ARENA_FROM - 1


def test_what_is_discarded_is_taken_back() -> None:
    fd = create_arena(2 * ARENA_FROM)
    outbox = Outbox(fd)
    os.close(fd)
    writer = PartWriter(outbox)
    for _ in range(4):  # two in the arena, two inline
        writer.put(Payload(b"", (b"x" * ARENA_FROM,), ARENA_FROM))
    assert (outbox.used, writer.nbytes) == (2, 2 * ARENA_FROM)
    writer.discard()
    assert (outbox.used, writer.nbytes, writer.buffers) == (0, 0, [])


def test_a_payload_longer_than_its_frame_is_refused() -> None:
    reader = PartReader(memoryview(b"12345"), None)
    with pytest.raises(WireError, match="claims 6 bytes where 5 are left in its frame"):
        reader.take((b"", 6, -1))


def test_left_over_bytes_are_refused() -> None:
    reader = PartReader(memoryview(b"12345"), None)
    reader.take((b"", 3, -1))
    with pytest.raises(WireError, match="2 bytes are left over"):
        reader.finish()


def test_a_slot_without_an_arena_is_refused() -> None:
    with pytest.raises(WireError, match="in an arena, but this connection has none"):
        PartReader(memoryview(b""), None).take((b"", 6, 0))
