"""Models that do every wrong thing a model can do. Imported by replica processes, never by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from triscale import Item, Model, Rejected, Resources, Result


class Echo(Model):
    """Gives everything back."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return [Result(outputs=item.data) for item in batch]


class Sleeps(Model):
    """Takes as long as the item says, and tells how many batches ran with it at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            inside = self.inside
        time.sleep(float(str(batch[0]["seconds"])))
        with self.lock:
            self.inside -= 1
        return [Result({"inside": inside, "cpus": list(os.sched_getaffinity(0))}) for _ in batch]


class Raises(Model):
    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        raise ValueError("no digits in sight")


class WrongCount(Model):
    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return []


class Never(Model):
    """Never returns."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        threading.Event().wait()
        return []


class Exits(Model):
    """Takes the process with it, in the way that the item says."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        how = str(batch[0]["how"])
        if how == "code":
            print("good bye, cruel world", flush=True)
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, how))
        threading.Event().wait()
        return []


class Alarms(Model):
    """Uses a signal of its own."""

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        self.rung = threading.Event()
        signal.signal(signal.SIGALRM, lambda *_: self.rung.set())

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return [Result({"rung": self.rung.wait(10)}) for _ in batch]


class Prints(Model):
    """Writes to both standard streams all the time, bytes that look like a frame among it."""

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        print("loading from standard output")

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        sys.stdout.buffer.write(b"TRI\x01\x00\x00\x00\xff not a frame\n")
        print("to standard error", file=sys.stderr)
        return [Result(outputs=item.data) for item in batch]


class Spawns(Model):
    """Leaves a process of its own behind, and tells its id."""

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        process = subprocess.Popen(["sleep", "1000"])
        return [Result({"pid": process.pid}) for _ in batch]


class SlowLoad(Model):
    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        print("reading weights", flush=True)
        time.sleep(1000)


class FailsToLoad(Model):
    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        raise FileNotFoundError(f"no weights at {options['path']}")


class ExitsInLoad(Model):
    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        print("last line of a dying model", flush=True)
        os._exit(7)


class SlowClose(Model):
    """Closes in its own time, and leaves a file to prove it."""

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        self.path = os.environ.get("TRISCALE_TEST_CLOSED", "")

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return [Result() for _ in batch]

    def close(self) -> None:
        if self.path:
            Path(self.path).write_text("closed")


class Meters(Model):
    """Tells how many threads run at the time, and on how many processors they may."""

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        self.lock = threading.Lock()
        self.threads = resources.threads
        self.using = 0

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        with self.lock:
            mine = self.threads
            self.using += mine
            found = {"using": self.using, "cores": len(os.sched_getaffinity(0))}
        time.sleep(0.0005)
        with self.lock:
            self.using -= mine
        return [Result(found) for _ in batch]


class Large(Model):
    """Holds 64 MiB."""

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        self.weights = b"x" * 2**26

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return [Result({"bytes": len(self.weights)}) for _ in batch]
