"""What holds over thousands of resizes under load: running threads never exceed the cores, no batch is lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.unit.replica.stand import Stand
from triscale.core.model import Item, Rejected, Result
from triscale.core.pipeline import Variant
from triscale.replica.runtimes.emulated import Emulated
from triscale.wire.frames import Done, Message, Resize, Resized

RESIZES = 2000
IN_FLIGHT = 16


class Meter(Emulated):
    """An emulated model that counts the threads that run, and compares them with the cores granted at each change."""

    def __init__(self, granted: int) -> None:
        super().__init__(Variant(name="v", runtime="emulated", latency_ms={1: 0.3}), ("next",))
        self.granted = granted
        self.using = 0
        self.threads = 1
        self.most = 0
        self.changes: set[int] = set()
        self.broken: list[str] = []
        self.lock = threading.Lock()

    def grant(self, cores: int) -> None:
        """The replica moves to so many processors."""
        with self.lock:
            self.granted = cores
            self.check()

    def check(self) -> None:
        if self.using > self.granted:
            self.broken.append(f"{self.using} threads run on {self.granted} cores")

    def set_threads(self, threads: int) -> None:
        with self.lock:
            if threads != self.threads and self.using:
                self.broken.append(f"{self.using} threads run while they become {threads}")
            self.threads = threads
            self.changes.add(threads)

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        with self.lock:
            mine = self.threads
            self.using += mine
            self.most = max(self.most, self.using)
            self.check()
        results = super().predict(batch)
        with self.lock:
            self.using -= mine
        return results


class Load:
    """Keeps batches in flight, resizes at random, and notes what comes back."""

    def __init__(self, stand: Stand, rng: random.Random) -> None:
        self.stand = stand
        self.rng = rng
        self.sent = 0
        self.done: Counter[int] = Counter()
        self.targets: list[tuple[int, int]] = [(0, 0)]
        self.answered = 0
        """The serial of the newest resize that was answered."""
        self.answers = 0

    def resize(self, threads: int) -> None:
        """Ask for other lanes of so many threads, or of the same as before, on as many processors as they need."""
        lanes = self.rng.randint(1, 6)
        self.targets.append((lanes, threads))
        self.stand.send(Resize(len(self.targets) - 1, lanes, threads, list(range(lanes * threads))))

    def go_on(self) -> None:
        """Send what is missing, and take in what comes."""
        while self.sent - len(self.done) < IN_FLIGHT:
            self.stand.run(self.sent)
            self.sent += 1
        for message in self.stand.arrived():
            self.take(message)

    def take(self, message: Message) -> None:
        match message:
            case Done(batch=batch):
                self.done[batch] += 1
            case Resized(serial=serial, lanes=lanes, threads=threads, error=error):
                assert serial > self.answered, "an older target was carried out after a newer one"
                assert ((lanes, threads), error) == (self.targets[serial], "")
                self.answered = serial
                self.answers += 1
            case _:
                raise AssertionError(f"unexpected: {message}")


@pytest.mark.parametrize("changing_threads", [0.0, 0.3], ids=["lanes", "lanes-and-threads"])
def test_random_resizes_under_load(make_stand: Callable[..., Stand], changing_threads: float) -> None:
    rng = random.Random(11)
    meter = Meter(granted=2)
    stand = make_stand(lanes=2, models={"v": meter})
    stand.on_pin = meter.grant
    load = Load(stand, rng)
    threads = 1
    while len(load.targets) <= RESIZES:
        if rng.random() < changing_threads:
            threads = rng.randint(1, 3)
        load.resize(threads)
        load.go_on()
        while rng.random() < 0.6 and load.answered < len(load.targets) - 1:
            load.go_on()
    while load.answered < len(load.targets) - 1:
        load.go_on()
    while len(load.done) < load.sent:
        for message in stand.arrived():
            load.take(message)
    assert meter.broken == []
    assert set(load.done.values()) == {1}, "every batch was run and answered once"
    assert load.answers >= RESIZES / 10, "most were not just overtaken"
    assert meter.most >= 5, "it did grow"
    assert meter.granted == len(stand.pins[-1]) == load.targets[-1][0] * load.targets[-1][1]
    assert meter.changes == ({1, 2, 3} if changing_threads else {1})
