"""Arenas: slots never overlap, nothing leaks, and no slot is used again while anybody looks at it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from triscale.errors import WireError
from triscale.wire.arena import Allocator, Inbox, Outbox, create_arena
from triscale.wire.payload import pack, unpack

PAGE = 4096


class AllocatorMachine(RuleBasedStateMachine):
    """Any sequence of takes and returns."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 64 * PAGE
        self.allocator = Allocator(self.size)
        self.slots: dict[int, int] = {}

    @rule(nbytes=st.integers(1, 20 * PAGE))
    def allocate(self, nbytes: int) -> None:
        offset = self.allocator.allocate(nbytes)
        if offset < 0:
            pages = -(-nbytes // PAGE)
            taken = {page for at, size in self.slots.items() for page in range(at // PAGE, -(-(at + size) // PAGE))}
            free_runs = "".join("x" if page in taken else "." for page in range(64)).split("x")
            assert max(map(len, free_runs)) < pages, "refused although there was room"
            return
        for at, size in self.slots.items():
            assert offset + nbytes <= at or at + size <= offset, "slots overlap"
        assert offset + nbytes <= self.size
        self.slots[offset] = nbytes

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.slots)))
        del self.slots[offset]
        self.allocator.free(offset)

    @invariant()
    def counts(self) -> None:
        assert self.allocator.used == len(self.slots)

    def teardown(self) -> None:
        for offset in self.slots:
            self.allocator.free(offset)
        assert self.allocator.allocate(self.size) == 0, "the whole arena is one slot again"


TestAllocator = AllocatorMachine.TestCase


@given(st.integers(-5, 200))
def test_what_is_not_in_use_cannot_be_freed(offset: int) -> None:
    allocator = Allocator(64 * PAGE)
    assert allocator.allocate(PAGE) == 0
    if offset == 0:
        allocator.free(0)
    with pytest.raises(WireError, match=f"freed arena slot {offset}, which is not in use"):
        allocator.free(offset)


@pytest.fixture
def ends() -> Iterator[tuple[Outbox, Inbox]]:
    fd = create_arena(16 * PAGE)
    try:
        yield Outbox(fd), Inbox(fd)
    finally:
        os.close(fd)


def test_bytes_arrive_read_only(ends: tuple[Outbox, Inbox]) -> None:
    outbox, inbox = ends
    offset = outbox.put([b"abc", memoryview(b"defg")], 7)
    view = inbox.view(offset, 7)
    assert bytes(view) == b"abcdefg"
    assert view.readonly


def test_a_slot_is_given_back_when_the_last_view_of_it_is_gone(ends: tuple[Outbox, Inbox]) -> None:
    outbox, inbox = ends
    payload = pack({"x": np.arange(1000, dtype=np.float32), "y": b"tail"})
    offset = outbox.put(payload.buffers, payload.nbytes)
    view = inbox.view(offset, payload.nbytes)
    payload.buffers = (view,)
    kept = unpack(payload)["x"]
    assert isinstance(kept, np.ndarray)
    corner = kept[10:20]
    del payload, view, kept
    assert inbox.take_freed() == []
    assert corner.tolist() == list(range(10, 20))
    del corner
    assert inbox.take_freed() == [offset]
    assert inbox.take_freed() == []
    outbox.free([offset])
    assert outbox.used == 0


def test_a_full_arena_takes_no_more_until_slots_come_back(ends: tuple[Outbox, Inbox]) -> None:
    outbox, inbox = ends
    first = outbox.put([b"x" * 10 * PAGE], 10 * PAGE)
    assert outbox.put([b"y" * 10 * PAGE], 10 * PAGE) == -1
    view = inbox.view(first, 10 * PAGE)
    del view
    outbox.free(inbox.take_freed())
    assert outbox.put([b"y" * 10 * PAGE], 10 * PAGE) == first


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 4), (0, -1), (16 * PAGE, 1), (15 * PAGE, PAGE + 1)])
def test_a_slot_outside_the_arena_is_refused(ends: tuple[Outbox, Inbox], offset: int, nbytes: int) -> None:
    with pytest.raises(WireError, match="which is not free or does not exist"):
        ends[1].view(offset, nbytes)


def test_a_slot_that_is_still_looked_at_cannot_be_sent_again(ends: tuple[Outbox, Inbox]) -> None:
    view = ends[1].view(0, 10)
    with pytest.raises(WireError, match="arena slot 0, which is not free"):
        ends[1].view(0, 10)
    del view


def test_the_memory_cannot_be_shrunk_under_a_reader() -> None:
    fd = create_arena(PAGE)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def test_views_outlive_their_arena() -> None:
    fd = create_arena(PAGE)
    outbox, inbox = Outbox(fd), Inbox(fd)
    os.close(fd)
    view = inbox.view(outbox.put([b"still here"], 10), 10)
    del outbox, inbox
    gc.collect()
    assert bytes(view) == b"still here"
