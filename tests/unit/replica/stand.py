"""A replica's session in a thread of the test, on one end of a socket pair; the test plays the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

from triscale.core.cluster import ReplicaId, ReplicaSpec
from triscale.core.model import Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import WireError
from triscale.replica.config import ReplicaConfig
from triscale.replica.connection import Connection
from triscale.replica.residents import Residents
from triscale.replica.server import Session
from triscale.wire.frames import Beat, Frame, FrameReader, Hello, Message, Ready, Run, Unload, Unloaded, encode
from triscale.wire.payload import pack

WAIT = 10.0


class Gate(Model):
    """Ends its batches when told to, and notes what happens to it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.threads = 1
        self.told: dict[int, int] = {}
        self.prepares = threading.Event()
        self.prepares.set()
        self.log: list[str] = []

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        assert self.told[threading.get_ident()] == self.threads
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.open.wait(WAIT)
        with self.lock:
            self.inside -= 1
        return [Result(outputs=item.data) for item in batch]

    def prepare_threads(self, threads: int) -> None:
        self.log.append(f"prepare_threads({threads})")
        if threads == 7:
            raise MemoryError("seven")
        assert self.prepares.wait(WAIT)

    def set_threads(self, threads: int) -> None:
        if threads == 13:
            raise ValueError("thirteen")
        self.told[threading.get_ident()] = threads
        if threads != self.threads:
            self.threads = threads
            self.log.append(f"set_threads({threads}) with {self.inside} inside")

    def close(self) -> None:
        self.log.append(f"close with {self.inside} inside")


class Echo(Model):
    """Gives everything back, to the client and to the child."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return [Result(outputs=item.data, items={"next": [item.data]}) for item in batch]


class Stand:
    """A session and the server's end of its socket."""

    def __init__(self, lanes: int, models: dict[str, Model], token: str, max_body: int) -> None:
        mine, its = socket.socketpair()
        self.sock = mine
        self.sock.settimeout(WAIT)
        self.reader = FrameReader()
        self.frames: list[Frame] = []
        self.pins: list[tuple[int, ...]] = []
        self.pin_error: OSError | None = None
        self.on_pin: Callable[[int], None] = lambda _count: None
        names = tuple(models)
        config = ReplicaConfig(
            spec=ReplicaSpec(id=ReplicaId("s-1"), stage="s", variants=names, lanes=lanes),
            variants=tuple(Variant(name=name, model="m:M") for name in names),
            token=token,
            max_body=max_body,
            beat_s=0.02,
        )
        self.residents = Residents("s", config.variants, ("next",), (), Resources(lanes=lanes))
        for name, model in models.items():
            self.residents.adopt(name, f"variant {name} of stage s (m:M)", model, 0.5, 1)
        self.session = Session(config, self.residents, Connection(its, max_body), self._pin)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.session.serve()
        except WireError as error:
            self.error = error

    def _pin(self, cpus: Collection[int]) -> None:
        if self.pin_error is not None:
            raise self.pin_error
        self.pins.append(tuple(cpus))
        self.on_pin(len(cpus))

    def send(self, message: Message, body: bytes = b"") -> None:
        self.sock.sendall(b"".join(bytes(piece) for piece in encode(message, [body], len(body))))

    def run(self, batch: int, variant: str = "v", **values: Any) -> None:
        payload = pack(values)
        self.send(Run(batch, variant, [[(payload.head, payload.nbytes, -1)]]), bytes(payload.body()))

    def receive(self, kind: type[Any]) -> Any:
        """The next message of a kind; others are kept for later, but for beats."""
        return self.receive_frame(kind)[0]

    def receive_frame(self, kind: type[Any]) -> tuple[Any, memoryview]:
        while True:
            for index, (message, body) in enumerate(self.frames):
                if isinstance(message, kind):
                    del self.frames[index]
                    return message, body
            data = self.sock.recv(65536)
            assert data, f"the session ended before a {kind.__name__}"
            self.frames = [frame for frame in self.frames if not isinstance(frame[0], Beat)]
            self.frames += self.reader.feed(data)

    def arrived(self) -> list[Message]:
        """Whatever arrives next, but for beats; waits for something."""
        self.frames += self.reader.feed(self.sock.recv(65536))
        found: list[Message] = [message for message, _ in self.frames if not isinstance(message, Beat)]
        self.frames = []
        return found

    def sync(self) -> None:
        """Return when everything sent so far was acted on."""
        self.send(Unload("no such variant"))
        self.receive(Unloaded)

    def greet(self) -> Ready:
        self.send(Hello())
        ready = self.receive(Ready)
        assert isinstance(ready, Ready)
        return ready

    def ended(self) -> bool:
        """Whether the session closes the connection (and its thread ends)."""
        while self.sock.recv(65536):
            pass
        self.thread.join(WAIT)
        return not self.thread.is_alive()

    def close(self) -> None:
        self.sock.close()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        self.session.settle()
