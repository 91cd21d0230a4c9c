"""Frames: whatever way the stream is cut, the same messages come out; what is not a frame is refused at once."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import WireError
from triscale.wire import frames
from triscale.wire.frames import Done, Frame, FrameReader, Message, Run, encode

heads = st.binary(max_size=40)
parts = st.tuples(heads, st.integers(0, 2**40), st.integers(-1, 2**40))
numbers = st.integers(0, 2**62)
texts = st.text(max_size=20)
seconds = st.floats(0, 1e6)
messages = st.one_of(
    st.builds(frames.Hello, texts),
    st.builds(Run, numbers, texts, st.lists(st.lists(parts, max_size=3), max_size=4), st.lists(numbers, max_size=3)),
    st.builds(frames.Resize, numbers, numbers, numbers, st.lists(numbers, max_size=3)),
    st.builds(frames.Load, texts),
    st.builds(frames.Unload, texts),
    st.just(frames.Drain()),
    st.just(frames.Stop()),
    st.builds(frames.Free, st.lists(numbers, max_size=4)),
    st.builds(
        frames.Ready,
        st.dictionaries(texts, seconds, max_size=3),
        numbers,
        numbers,
        numbers,
        numbers,
        numbers,
        st.booleans(),
    ),
    st.builds(
        Done,
        numbers,
        seconds,
        st.lists(st.one_of(texts, st.tuples(st.none() | parts, st.lists(st.lists(parts, max_size=2), max_size=2)))),
        st.lists(numbers, max_size=3),
    ),
    st.builds(frames.Failed, numbers, texts, texts),
    st.builds(frames.Beat, numbers, numbers),
    st.builds(frames.Resized, numbers, numbers, numbers, texts),
    st.builds(frames.Loaded, texts, seconds, numbers, texts),
    st.builds(frames.Unloaded, texts, numbers, texts),
    st.builds(frames.Fatal, texts),
)
bodies = st.one_of(st.binary(max_size=300), st.sampled_from([70_000, 200_000]).map(lambda size: b"\x5a" * size))


def stream_of(sent: list[tuple[Message, bytes]]) -> bytes:
    return b"".join(bytes(piece) for message, body in sent for piece in encode(message, [body], len(body)))


def plain(received: list[Frame]) -> list[tuple[Message, bytes]]:
    return [(message, bytes(body)) for message, body in received]


@given(st.lists(st.tuples(messages, bodies), max_size=5), st.data())
def test_any_chunking_gives_the_same_messages(sent: list[tuple[Message, bytes]], data: st.DataObject) -> None:
    stream = stream_of(sent)
    reader = FrameReader()
    received: list[Frame] = []
    at = 0
    while at < len(stream):
        size = data.draw(st.one_of(st.integers(1, 20), st.integers(1, 100_000)))
        received += reader.feed(stream[at : at + size])
        at += size
    assert plain(received) == sent
    assert not reader.inside


@given(st.lists(st.tuples(messages, bodies), min_size=1, max_size=3), st.data())
def test_a_stream_that_is_cut_short_is_known_to_be(sent: list[tuple[Message, bytes]], data: st.DataObject) -> None:
    stream = stream_of(sent)
    reader = FrameReader()
    cut = data.draw(st.integers(1, len(stream) - 1))
    received = plain(reader.feed(stream[:cut]))
    assert received == sent[: len(received)]
    assert reader.inside == (stream_of(sent[: len(received)]) != stream[:cut])


@given(st.binary(min_size=16, max_size=200))
def test_garbage_is_a_wire_error_or_waits_for_more_but_never_a_message(garbage: bytes) -> None:
    try:
        received = FrameReader().feed(garbage)
    except WireError:
        return
    assert received == []


@given(messages, bodies, st.integers(0, 15), st.integers(1, 255))
def test_a_damaged_prefix_never_yields_the_message(message: Message, body: bytes, at: int, flip: int) -> None:
    damaged = bytearray(stream_of([(message, body)]))
    damaged[at] ^= flip
    try:
        received = plain(FrameReader(max_body=2**20).feed(damaged))
    except WireError:
        return
    assert received != [(message, body)]


def test_large_bodies_are_received_in_place() -> None:
    reader = FrameReader()
    stream = stream_of([(frames.Drain(), b"x" * 300_000)])
    assert reader.feed(stream[:100]) == []
    room = reader.buffer()
    rest = stream[100:]
    assert len(room) == len(rest)
    room[:] = rest
    [(_, body)] = reader.received(len(rest))
    assert body.obj is room.obj
    assert body.readonly


def test_a_header_larger_than_the_scratch_buffer_is_read() -> None:
    message = Run(1, "v", [[(b"h" * 30, 8, -1)] for _ in range(5_000)])
    stream = stream_of([(message, b"tail"), (frames.Stop(), b"")])
    reader = FrameReader()
    received = [frame for at in range(0, len(stream), 7_001) for frame in reader.feed(stream[at : at + 7_001])]
    assert plain(received) == [(message, b"tail"), (frames.Stop(), b"")]


def test_another_protocol_is_refused_by_name() -> None:
    with pytest.raises(WireError, match=r"starts with b'GET' instead of b'TRI': the peer is not triscale"):
        FrameReader().feed(b"GET / HTTP/1.1\r\n\r\n")


def test_another_version_is_refused_with_both_numbers() -> None:
    stream = bytearray(stream_of([(frames.Stop(), b"")]))
    stream[3] = 9
    with pytest.raises(WireError, match="the peer speaks version 9 of the frames, this side speaks 1"):
        FrameReader().feed(stream)


def test_an_oversize_body_is_refused_before_it_arrives() -> None:
    stream = stream_of([(frames.Stop(), b"x" * 101)])
    with pytest.raises(WireError, match="body of 101 bytes exceeds the limit of 100"):
        FrameReader(max_body=100).feed(stream[:16])


def test_an_oversize_header_is_refused_before_it_arrives() -> None:
    prefix = struct.pack("<3sBIQ", b"TRI", frames.VERSION, frames.MAX_HEADER + 1, 0)
    with pytest.raises(WireError, match="header of 16777217 bytes exceeds the limit of 16777216"):
        FrameReader().feed(prefix)


def test_a_header_that_no_reader_takes_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_HEADER", 1000)
    assert encode(Run(1, "v", [[(b"h", 8, -1)]] * 100))
    with pytest.raises(
        WireError, match=r"a Run frame's header of \d+ bytes exceeds the limit of 1000; use smaller batches"
    ):
        encode(Run(1, "v", [[(b"h", 8, -1)]] * 1000))


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x92\x02", b"\x91\xcc\xc8", b"\x80"])
def test_a_truncated_or_unknown_header_is_refused(header: bytes) -> None:
    prefix = struct.pack("<3sBIQ", b"TRI", frames.VERSION, len(header), 0)
    with pytest.raises(WireError, match="a frame's header is not a known message"):
        FrameReader().feed(prefix + header)


def test_a_body_is_sent_as_the_buffers_it_came_in() -> None:
    first, second = b"a" * 10, memoryview(b"b" * 20)
    _, *rest = encode(frames.Drain(), [first, second], 30)
    assert rest[0] is first
    assert rest[1] is second
