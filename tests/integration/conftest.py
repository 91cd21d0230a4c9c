"""Real servers for the tests: `triscale serve` as a process of its own, and plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


class Server:
    """One `triscale serve` process."""

    def __init__(self, pipeline: Path | str, *arguments: str, cwd: Path = REPOSITORY) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "triscale",
                "serve",
                str(pipeline),
                "--port",
                "0",
                "--metrics-port",
                "0",
                "--json",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate(timeout=20)
            raise AssertionError(f"the server did not start: {errors}")
        self.ready = json.loads(line)
        self.url: str = self.ready["url"]
        self.name: str = self.ready["pipeline"]

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """(status, headers, decoded body)."""
        address = urlsplit(self.url)
        assert address.hostname
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        try:
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            raw = response.read()
            return response.status, response.headers, json.loads(raw) if raw else None
        finally:
            connection.close()

    def infer(
        self, data: list[Any], datatype: str = "FP32", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """Send one tensor `x`."""
        tensor = {"name": "x", "shape": [len(data)], "datatype": datatype, "data": data}
        return self.request("POST", f"/v2/models/{self.name}/infer", {"inputs": [tensor]}, headers)

    def metrics(self) -> str:
        """The metrics page."""
        address = urlsplit(self.ready["metrics_url"])
        assert address.hostname
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        try:
            connection.request("GET", address.path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def outcomes(self) -> Counter[str]:
        """The server's own count of requests by outcome."""
        found: Counter[str] = Counter()
        for line in self.metrics().splitlines():
            if line.startswith("triscale_requests_total{"):
                labels, value = line.rsplit(" ", 1)
                found[labels.split('outcome="')[1].split('"')[0]] = int(float(value))
        return found

    def replicas(self) -> list[int]:
        """Process ids of the replicas."""
        return [pid for pid in children(self.process.pid) if "triscale.replica" in command(pid)]

    def deciders(self) -> list[int]:
        """Process ids of what decides: one, or none while it is being replaced."""
        return [pid for pid in children(self.process.pid) if "triscale.control.decider_process" in command(pid)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it; what it wrote to standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return errors


def children(pid: int) -> list[int]:
    """Direct child processes."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def command(pid: int) -> list[str]:
    """What a process runs; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, and ends them whatever the test did."""
    started: list[Server] = []

    def start(pipeline: Path | str, *arguments: str, **options: Any) -> Server:
        server = Server(pipeline, *arguments, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        try:
            os.killpg(server.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        server.process.communicate(timeout=20)


MODELS = '''
import os, signal, threading, time
import numpy as np
import triscale

class Echo(triscale.Model):
    """Gives back `x`, after `sleep_ms`; does as the first element says: 666 raises, 667 exits, 668 never returns."""
    def load(self, options, resources):
        self.sleep = float(options.get("sleep_ms", 0)) / 1000
        self.count = int(options.get("results", 1))
        if options.get("fail"):
            raise RuntimeError("the weights are missing")
        print("hello from the model", flush=True)

    def predict(self, batch):
        for item in batch:
            first = float(np.ravel(item["x"])[0]) if np.size(item["x"]) else 0.0
            if first == 666: raise ValueError("the devil's number")
            if first == 667: os._exit(3)
            if first == 668: threading.Event().wait()
        if self.sleep: time.sleep(self.sleep)
        return [self.answer(item) for item in batch] * self.count

    def answer(self, item):
        if np.size(item["x"]) and float(np.ravel(item["x"])[0]) == 400:
            return triscale.Rejected("400 is not a number we like")
        return triscale.Result(outputs={"x": item["x"]})

class Split(triscale.Model):
    """Emits one item per element."""
    def predict(self, batch):
        return [self.split(np.ravel(item["x"])) for item in batch]

    def split(self, values):
        return triscale.Result(items={"work": [{"x": np.array([value], np.float32)} for value in values]})
'''


@pytest.fixture
def echo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a one-stage pipeline around `Echo` (or with `split`, two stages) and returns its file."""

    def write(slo_ms: float = 2000, extra: str = "", split: bool = False, **options: object) -> Path:
        (tmp_path / "models.py").write_text(MODELS)
        shown = ", ".join(f"{key}: {value}" for key, value in options.items())
        variant = f'{{name: only, model: "models:Echo", options: {{{shown}}}, max_batch: 8}}'
        if split:
            stages = f"""\
              split:
                variants: [{{name: only, model: "models:Split"}}]
              work:
                after: split
                variants: [{variant}]
            """
        else:
            stages = f"""\
              work:
                variants: [{variant}]
            """
        file = tmp_path / "pipeline.yaml"
        head = f"name: echo\nslo_ms: {slo_ms}\n{extra}\nstages:\n"
        file.write_text(head + textwrap.indent(textwrap.dedent(stages), "  "))
        return file

    return write
