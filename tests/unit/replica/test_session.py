"""A replica's session, from the server's end of the socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.replica.stand import WAIT, Echo, Gate, Stand
from triscale.core.model import Item, Model, Rejected, Result
from triscale.errors import WireError
from triscale.wire import frames
from triscale.wire.arena import Inbox, Outbox, create_arena
from triscale.wire.frames import (
    Beat,
    Done,
    Drain,
    Failed,
    Fatal,
    Hello,
    Load,
    Loaded,
    Ready,
    Resize,
    Resized,
    Run,
    Stop,
)
from triscale.wire.parts import PartReader, PartWriter
from triscale.wire.payload import pack, unpack

Make = Callable[..., Stand]


def resize(stand: Stand, serial: int, lanes: int, threads: int = 1, cpus: list[int] | None = None) -> None:
    stand.send(Resize(serial, lanes, threads, cpus or []))


def test_hello_is_answered_with_what_the_replica_is(make_stand: Make) -> None:
    ready = make_stand(lanes=3, greet=False).greet()
    assert (ready.variants, ready.lanes, ready.threads, ready.pid) == ({"v": 0.5}, 3, 1, os.getpid())
    assert (ready.children, ready.arena) == (1, False)
    assert ready.rss > 2**20


def test_a_batch_is_run_and_answered(make_stand: Make) -> None:
    stand = make_stand()
    stand.run(7, x=np.arange(4, dtype=np.int16), text="hi")
    done, body = stand.receive_frame(Done)
    assert done.batch == 7
    assert 0 <= done.service_s < WAIT
    [(output, [[child]])] = done.items
    reader = PartReader(body, None)
    values = unpack(reader.take(output))
    assert isinstance(values["x"], np.ndarray)
    assert (values["x"].tolist(), values["text"]) == ([0, 1, 2, 3], "hi")
    assert unpack(reader.take(child)).keys() == {"x", "text"}
    reader.finish()


def test_a_variant_that_is_not_resident_is_said_to_be(make_stand: Make) -> None:
    stand = make_stand()
    stand.run(1, variant="w")
    failed = stand.receive(Failed)
    assert (failed.batch, failed.kind) == (1, "not_resident")
    assert failed.message == "variant 'w' is not resident in replica s-1; it holds: v"


def test_a_models_mistake_fails_its_batch_and_the_next_one_runs(make_stand: Make) -> None:
    class Picky(Model):
        def predict(self, batch: list[Item]) -> list[Result | Rejected]:
            return [] if batch[0]["bad"] else [Result()]

    stand = make_stand(models={"v": Picky()})
    stand.run(1, bad=True)
    failed = stand.receive(Failed)
    assert (failed.batch, failed.kind) == (1, "model_error")
    assert failed.message == "variant v of stage s (m:M): predict returned 0 results for 1 items"
    stand.run(2, bad=False)
    assert stand.receive(Done).batch == 2


def test_results_over_the_limit_fail_the_batch_and_not_the_connection(make_stand: Make) -> None:
    stand = make_stand(max_body=1000)
    stand.run(1, x=b"x" * 600)
    assert stand.receive(Failed).message == "variant v of stage s (m:M): results of 1200 bytes exceed the limit of 1000"
    stand.run(2, x=b"x" * 400)
    assert stand.receive(Done).batch == 2


def test_more_results_than_a_frame_holds_fail_the_batch_and_not_the_connection(
    make_stand: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Emits(Model):
        def predict(self, batch: list[Item]) -> list[Result | Rejected]:
            return [Result(items={"next": [{"i": i} for i in range(int(str(batch[0]["n"])))]})]

    monkeypatch.setattr(frames, "MAX_HEADER", 10_000)
    stand = make_stand(models={"v": Emits()})
    stand.run(1, n=5000)
    message = stand.receive(Failed).message
    assert message.startswith("the results of variant v cannot be sent: a Done frame's header of ")
    assert message.endswith("use smaller batches or emit fewer items")
    stand.run(2, n=5)
    assert stand.receive(Done).batch == 2


def test_batches_never_exceed_the_lanes_while_they_grow_and_shrink(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate})
    for batch in range(12):
        stand.run(batch)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=4)
    assert stand.receive(Resized) == Resized(1, 4, 1)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    assert gate.most == 4
    resize(stand, 2, lanes=1)
    gate.open.set()
    assert stand.receive(Resized) == Resized(2, 1, 1)
    assert gate.most == 4
    gate.most = 0
    assert {stand.receive(Done).batch for _ in range(12)} == set(range(12))
    assert gate.most <= 1


def test_a_shrink_is_reported_when_the_batches_of_closed_lanes_are_done(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate})
    stand.run(1)
    stand.run(2)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=1, cpus=[0])
    stand.sync()
    assert stand.pins == [], "processors are given back last"
    gate.open.set()
    assert stand.receive(Resized) == Resized(1, 1, 1)
    assert stand.pins == [(0,)]


def test_growing_takes_processors_before_lanes_open(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(models={"v": gate})
    stand.run(1)
    assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=3, cpus=[0, 1])
    assert stand.receive(Resized) == Resized(1, 3, 1)
    assert stand.pins == [(0, 1)]


def test_threads_change_between_batches(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate})
    stand.run(1)
    assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=1, threads=4)
    while gate.log != ["prepare_threads(4)"]:
        stand.sync()
    stand.run(2)
    stand.sync()
    gate.open.set()
    assert stand.receive(Resized) == Resized(1, 1, 4)
    assert gate.log == ["prepare_threads(4)", "set_threads(4) with 0 inside"]
    assert [stand.receive(Done).batch for _ in range(2)] == [1, 2]


def test_every_thread_that_runs_batches_tells_the_model_how_many_threads_to_use(make_stand: Make, gate: Gate) -> None:
    """Else a library that keeps the number per thread would use the old one in all lanes but one."""
    stand = make_stand(lanes=3, models={"v": gate})
    resize(stand, 1, lanes=3, threads=2)
    stand.receive(Resized)
    for batch in range(3):
        stand.run(batch)
    for _ in range(3):
        assert gate.entered.acquire(timeout=WAIT)
    gate.open.set()
    assert {stand.receive(Done).batch for _ in range(3)} == {0, 1, 2}, "and Gate looks whether it was told"
    assert list(gate.told.values()).count(2) >= 3


def test_batches_are_served_while_models_get_ready_for_other_threads(make_stand: Make, gate: Gate) -> None:
    gate.prepares.clear()
    gate.open.set()
    stand = make_stand(models={"v": gate})
    resize(stand, 1, lanes=2, threads=2)
    for batch in range(5):
        stand.run(batch)
        assert stand.receive(Done).batch == batch
    assert gate.threads == 1
    gate.prepares.set()
    assert stand.receive(Resized) == Resized(1, 2, 2)
    assert gate.threads == 2


def preparing(make_stand: Make, gate: Gate) -> Stand:
    """A replica that was asked for two threads as resize 1, and whose model is preparing for them."""
    gate.prepares.clear()
    gate.open.set()
    stand = make_stand(models={"v": gate})
    resize(stand, 1, lanes=1, threads=2)
    while gate.log != ["prepare_threads(2)"]:
        stand.sync()
    return stand


def test_a_change_of_threads_that_is_called_off_is_let_go(make_stand: Make, gate: Gate) -> None:
    stand = preparing(make_stand, gate)
    resize(stand, 2, lanes=3)
    assert stand.receive(Resized) == Resized(2, 3, 1), "it does not wait for the older one"
    gate.prepares.set()
    while gate.log != ["prepare_threads(2)", "prepare_threads(1)"]:
        stand.sync()
    stand.run(1)
    assert stand.receive(Done).batch == 1
    assert gate.threads == 1


def test_more_lanes_may_be_asked_for_while_threads_change(make_stand: Make, gate: Gate) -> None:
    stand = preparing(make_stand, gate)
    resize(stand, 2, lanes=2, threads=2)
    stand.sync()
    gate.prepares.set()
    assert stand.receive(Resized) == Resized(2, 2, 2)
    assert gate.log.count("prepare_threads(2)") == 1, "what is ready is not made again"


def test_lanes_that_an_older_target_closed_serve_until_threads_change(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate})
    for batch in range(4):
        stand.run(batch)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=1)
    gate.prepares.clear()
    resize(stand, 2, lanes=1, threads=2)
    stand.sync()
    gate.open.set()
    assert {stand.receive(Done).batch for _ in range(4)} == set(range(4))
    gate.prepares.set()
    assert stand.receive(Resized) == Resized(2, 1, 2)


def test_the_newest_target_wins(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate})
    stand.run(1)
    stand.run(2)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    resize(stand, 1, lanes=1, threads=2)
    resize(stand, 2, lanes=3)
    assert stand.receive(Resized) == Resized(2, 3, 1)
    stand.run(3)
    assert gate.entered.acquire(timeout=WAIT)
    gate.open.set()
    for _ in range(3):
        stand.receive(Done)
    assert gate.threads == 1


@pytest.mark.parametrize("lanes", [1, 4])
def test_processors_that_cannot_be_had_are_reported(make_stand: Make, lanes: int) -> None:
    stand = make_stand(lanes=2)
    stand.pin_error = OSError(22, "Invalid argument")
    resize(stand, 1, lanes=lanes, cpus=[99])
    resized = stand.receive(Resized)
    assert resized.error == "cannot run on processors 99: [Errno 22] Invalid argument"
    assert resized.lanes == (2 if lanes == 4 else 1), "without the cores it does not grow"
    stand.run(1)
    assert stand.receive(Done).batch == 1


def test_a_model_that_refuses_threads_keeps_what_it_has(make_stand: Make, gate: Gate) -> None:
    gate.open.set()
    stand = make_stand(lanes=2, models={"v": gate})
    resize(stand, 1, lanes=1, threads=13)
    message = "variant v of stage s (m:M): set_threads(13) raised ValueError: thirteen"
    assert stand.receive(Resized) == Resized(1, 2, 1, message)
    stand.run(1)
    assert stand.receive(Done).batch == 1


def test_a_model_that_cannot_get_ready_keeps_what_it_has(make_stand: Make, gate: Gate) -> None:
    gate.open.set()
    stand = make_stand(lanes=2, models={"v": gate})
    resize(stand, 1, lanes=1, threads=7)
    message = "variant v of stage s (m:M): prepare_threads(7) raised MemoryError: seven"
    assert stand.receive(Resized) == Resized(1, 2, 1, message)
    assert gate.log == ["prepare_threads(7)", "prepare_threads(1)"]
    stand.run(1)
    assert stand.receive(Done).batch == 1


def test_no_lanes_at_all_is_refused(make_stand: Make) -> None:
    stand = make_stand()
    resize(stand, 1, lanes=0)
    assert stand.receive(Resized) == Resized(1, 1, 1, "a replica needs at least 1 lane of 1 thread, not 0 of 1")


def test_beats_tell_how_many_lanes_are_busy(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=3, models={"v": gate})
    assert stand.receive(Beat).busy == 0
    stand.run(1)
    stand.run(2)
    for _ in range(2):
        assert gate.entered.acquire(timeout=WAIT)
    beats = (stand.receive(Beat) for _ in range(500))
    assert next(beat for beat in beats if beat.busy == 2).rss > 2**20


def test_drain_finishes_what_was_received_and_ends(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(models={"v": gate})
    for batch in range(3):
        stand.run(batch)
    stand.send(Drain())
    gate.open.set()
    assert [stand.receive(Done).batch for _ in range(3)] == [0, 1, 2]
    assert stand.ended()
    assert stand.session.drained


def test_draining_an_idle_replica_ends_it_at_once(make_stand: Make) -> None:
    stand = make_stand()
    stand.send(Drain())
    assert stand.ended()
    assert stand.session.drained


def test_stop_does_not_wait_for_batches(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(models={"v": gate})
    stand.run(1)
    assert gate.entered.acquire(timeout=WAIT)
    stand.send(Stop())
    assert stand.ended()
    assert stand.session.stopped
    assert not stand.session.drained


def test_the_servers_end_is_the_sessions_end(make_stand: Make) -> None:
    stand = make_stand()
    stand.sock.shutdown(socket.SHUT_WR)
    assert stand.ended()
    assert not stand.session.stopped


def test_unload_waits_for_the_variants_batches(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(lanes=2, models={"v": gate, "w": Echo()})
    stand.run(1)
    assert gate.entered.acquire(timeout=WAIT)
    stand.send(frames.Unload("v"))
    stand.run(3)
    assert stand.receive(Failed).kind == "not_resident"
    stand.run(2, variant="w")
    assert stand.receive(Done).batch == 2
    assert gate.log == []
    gate.open.set()
    unloaded = stand.receive(frames.Unloaded)
    assert (unloaded.variant, unloaded.error) == ("v", "")
    assert gate.log == ["close with 0 inside"]


def test_batches_that_were_received_before_an_unload_are_run(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(models={"v": gate})
    for batch in range(3):
        stand.run(batch)
    stand.send(frames.Unload("v"))
    gate.open.set()
    assert [stand.receive(Done).batch for _ in range(3)] == [0, 1, 2]
    assert stand.receive(frames.Unloaded).error == ""
    assert gate.log == ["close with 0 inside"]


def test_batches_of_a_server_that_left_do_not_keep_a_variant(make_stand: Make, gate: Gate) -> None:
    stand = make_stand(models={"v": gate})
    for batch in range(3):
        stand.run(batch)
    stand.sync()
    stand.sock.shutdown(socket.SHUT_WR)
    assert stand.ended()
    gate.open.set()
    stand.session.settle()
    stand.residents.release(stand.residents.withdraw("v"))
    assert gate.log == ["close with 0 inside"]


def test_what_is_not_resident_cannot_be_unloaded(make_stand: Make) -> None:
    stand = make_stand()
    stand.send(frames.Unload("w"))
    assert stand.receive(frames.Unloaded).error == "variant 'w' of stage s is not resident"


def test_a_variant_that_the_stage_does_not_have_cannot_be_loaded(make_stand: Make) -> None:
    stand = make_stand()
    stand.send(Load("x"))
    loaded = stand.receive(Loaded)
    assert (loaded.variant, loaded.error) == ("x", "stage s has no variant 'x'; its variants are: v")


def test_a_wrong_token_is_refused(make_stand: Make) -> None:
    stand = make_stand(token="secret", greet=False)
    stand.send(Hello("guess"))
    assert "the peer's token is not the one that this replica was configured with" in stand.receive(Fatal).message
    assert stand.ended()
    assert isinstance(stand.error, WireError)


def test_the_right_token_is_accepted(make_stand: Make) -> None:
    stand = make_stand(token="secret", greet=False)
    stand.send(Hello("secret"))
    assert stand.receive(Ready).lanes == 1


def test_who_does_not_say_hello_is_refused(make_stand: Make) -> None:
    stand = make_stand(greet=False)
    stand.send(Drain())
    assert "the peer's first frame is Drain, not Hello" in stand.receive(Fatal).message
    assert stand.ended()


@pytest.mark.parametrize(
    ("bytes_sent", "message"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the peer is not triscale"),
        (b"".join(frames.encode(Beat(0, 0))), "the server sent Beat, which is a replica's message"),
        (b"".join(frames.encode(Run(1, "v", [[(b"", 5, -1)]]))), "claims 5 bytes where 0 are left"),
        (b"".join(frames.encode(Run(1, "v", [[]]))), "batch 1 has an item without parts"),
        (b"".join(frames.encode(frames.Free([0]))), "freed arena slots, but this connection has no arena"),
    ],
)
def test_what_makes_no_sense_ends_the_connection_with_a_reason(
    make_stand: Make, bytes_sent: bytes, message: str
) -> None:
    stand = make_stand()
    stand.sock.sendall(bytes_sent)
    assert message in stand.receive(Fatal).message
    assert stand.ended()


def test_large_payloads_go_through_shared_memory_both_ways_and_every_slot_comes_back(make_stand: Make) -> None:
    stand = make_stand(greet=False)
    fds = [create_arena(2**22), create_arena(2**22)]
    outbox, inbox = Outbox(fds[0]), Inbox(fds[1])
    socket.send_fds(stand.sock, [bytes(frames.encode(Hello())[0])], fds)
    for fd in fds:
        os.close(fd)
    assert stand.receive(Ready).arena
    freed: list[int] = []
    for batch in range(20):
        writer = PartWriter(outbox)
        part = writer.put(pack({"x": np.full(300_000, batch, np.uint8)}))
        stand.send(Run(batch, "v", [[part]], freed))
        done, body = stand.receive_frame(Done)
        [(output, [[child]])] = done.items
        assert len(body) == 0
        for sent in (output, child):
            values = unpack(PartReader(body, inbox).take(sent))
            assert isinstance(values["x"], np.ndarray)
            assert (values["x"] == batch).all()
            del values
        outbox.free(done.freed)
        freed = inbox.take_freed()
        assert len(freed) == 2
    # A slot that was not yet free when its answer left comes with a beat.
    for _ in range(5):
        outbox.free(stand.receive(Beat).freed)
    assert outbox.used == 0


def test_an_answer_larger_than_the_sockets_buffer_arrives_whole(make_stand: Make) -> None:
    stand = make_stand(max_body=2**25)
    blob = os.urandom(5_000_000)
    threading.Thread(target=stand.run, args=(1,), kwargs={"x": blob}).start()
    done, body = stand.receive_frame(Done)
    [(output, _)] = done.items
    assert unpack(PartReader(body, None).take(output))["x"] == blob
