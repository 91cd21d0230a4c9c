"""What the control loop and the metrics cost: at rest, and of the front end's time at full load.

    python -m benchmarks.idle [--seconds S] [--slices N]

The server process and the process in which its autoscaler decides are measured, replicas are not. The policy is
`triscale`, and the server is scraped every second.

- At rest, on an emulated pipeline of two stages: both processes, from two seconds after the server is ready. Beside it
  the same with a static plan that nobody scrapes and that needs nobody to decide.
- At full load, on the identity pipeline over 32 kept-alive connections, both processes on core 0, load from core 1.
  What deciding takes is the CPU time of its process, and of threads of the server if it has any. What else control and
  metrics take is on the server's main thread and does not depend on the load, so it is what that thread takes at rest.
  Both together are the share of the front end's time: of that thread's and the decider's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.closed_loop import closed_loop, post
from benchmarks.support.process import (
    core_for_server,
    decider_of,
    free_port,
    pinned_server,
    resident_bytes,
    thread_cpu_seconds,
)

MOST_AT_REST = 0.02
"""Of a core."""
MOST_AT_LOAD = 0.05
"""Of the front end's CPU time."""
_CONNECTIONS = 32
_SETTLE_S = 2.0
_RESTING_S = 10.0
_WARM_UP_S = 5.0
_PIPELINE = """
name: rest
slo_ms: 500
stages:
  detect:
    variants:
      - {name: large, runtime: emulated, accuracy: 0.95, latency_ms: {1: 40, 8: 200}, max_batch: 8}
      - {name: small, runtime: emulated, accuracy: 0.85, latency_ms: {1: 10, 8: 50}, max_batch: 8}
  read:
    after: detect
    variants:
      - {name: large, runtime: emulated, accuracy: 0.97, latency_ms: {1: 20, 8: 90}, max_batch: 8}
      - {name: small, runtime: emulated, accuracy: 0.90, latency_ms: {1: 5, 8: 25}, max_batch: 8}
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """A loaded server; CPU seconds per second."""

    requests_per_s: float
    main: float
    """Of the thread that serves, and looks, acts and renders besides."""
    deciding: float
    """Of the process that decides, and of threads beside the main one."""
    resting: float
    """Of the main thread without requests."""

    @property
    def share(self) -> float:
        """Part of the front end's CPU time that control and metrics take."""
        return (self.deciding + self.resting) / (self.main + self.deciding)


@contextlib.contextmanager
def served(pipeline: str, policy: str, core: int | None, *more: str) -> Iterator[tuple[int, int, int]]:
    """(process id, port, metrics port) of a server with this policy."""
    port, metrics = free_port(), free_port()
    command = [sys.executable, "-m", "triscale", "serve", pipeline, "--policy", policy]
    command += ["--port", str(port), "--metrics-port", str(metrics), *more]
    with pinned_server(command, port, core) as pid:
        yield pid, port, metrics


@contextlib.contextmanager
def scraped(metrics_port: int) -> Iterator[None]:
    """Read the metrics every second, as Prometheus would."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(1.0):
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5.0) as response:
                response.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Rest:
    """A server without requests; parts of a core."""

    server: float
    deciding: float
    """Of the process that decides; 0 where there is none."""
    deciding_bytes: int
    """Its memory."""

    @property
    def total(self) -> float:
        """Of both."""
        return self.server + self.deciding


def spent(pid: int) -> tuple[float, float]:
    """CPU seconds so far of a server's main thread, and of all that may decide: its other threads, its decider."""
    main, others = thread_cpu_seconds(pid)
    decider = decider_of(pid)
    return main, others + (sum(thread_cpu_seconds(decider)) if decider is not None else 0.0)


def at_rest(pipeline: str, policy: str, core: int | None, seconds: float, *, scrape: bool) -> Rest:
    """What a server without requests takes."""
    with served(pipeline, policy, core, "--cores", "2") as (pid, _, metrics):
        time.sleep(_SETTLE_S)
        with scraped(metrics) if scrape else contextlib.nullcontext():
            began, before = time.monotonic(), spent(pid)
            time.sleep(seconds)
            took = time.monotonic() - began
            main, deciding = ((now - then) / took for now, then in zip(spent(pid), before, strict=True))
            decider = decider_of(pid)
            return Rest(main, deciding, resident_bytes(decider) if decider is not None else 0)


def at_load(profile: Path, core: int | None, seconds: float, slices: int) -> list[Slice]:
    """What a loaded server and its decider take, after a warm-up."""
    tensor = {"name": "input", "shape": [16], "datatype": "FP32", "data": [0.1 * i for i in range(16)]}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = post("/v2/models/identity/infer", body, {"content-type": "application/json"})
    # A long objective: on a busy machine a request may wait for its turn, and none should be dropped for it.
    more = ("--profile", str(profile), "--cores", "1", "--set", "slo_ms=5000")
    found = []
    with served("examples/identity", "triscale", core, *more) as (pid, port, metrics), scraped(metrics):
        time.sleep(_SETTLE_S)
        before = spent(pid)
        time.sleep(_RESTING_S)
        resting = (spent(pid)[0] - before[0]) / _RESTING_S
        closed_loop(port, request, _CONNECTIONS, _WARM_UP_S)
        for _ in range(slices):
            before = spent(pid)
            load = closed_loop(port, request, _CONNECTIONS, seconds)
            main, deciding = (now - then for now, then in zip(spent(pid), before, strict=True))
            found.append(Slice(load.per_s, main / load.seconds, deciding / load.seconds, resting))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print both figures; the number of goals that were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the rest")
    parser.add_argument("--slice", type=float, default=3.0, help="length of a slice at full load")
    parser.add_argument("--slices", type=int, default=8, help="slices at full load")
    options = parser.parse_args(argv)
    with core_for_server() as core, tempfile.TemporaryDirectory() as folder:
        pipeline = Path(folder) / "pipeline.yaml"
        pipeline.write_text(_PIPELINE)
        rest = at_rest(str(pipeline), "triscale", core, options.seconds, scrape=True)
        bare = at_rest(str(pipeline), "static", core, options.seconds, scrape=False)
        profile = Path(folder) / "profile.json"
        profiling = (sys.executable, "-m", "triscale", "profile", "examples/identity", "--budget", "2", "--json")
        subprocess.run((*profiling, "--out", str(profile)), check=True, stdout=subprocess.DEVNULL)
        slices = at_load(profile, core, options.slice, options.slices)
    share = statistics.median(each.share for each in slices)
    print(
        f"  at rest       {rest.total:6.2%} of a core, server ({rest.server:.2%}) and decider ({rest.deciding:.2%}), "
        f"scraped every second (goal {MOST_AT_REST:.0%})"
    )
    print(f"                {bare.total:6.2%} with a static plan, not scraped; no decider")
    print(f"                {rest.deciding_bytes / 1e6:.0f} MB are resident in the decider")
    print(
        f"  at full load  {share:6.2%} of the CPU time of server and decider (goal {MOST_AT_LOAD:.0%}), "
        "the median of the slices:"
    )
    for each in slices:
        print(
            f"                {each.share:6.2%}  {each.requests_per_s:8,.0f} requests/s; ms of CPU per second: main "
            f"{1e3 * each.main:.0f} (at rest {1e3 * each.resting:.1f}), deciding {1e3 * each.deciding:.1f}"
        )
    return (rest.total > MOST_AT_REST) + (share > MOST_AT_LOAD)


if __name__ == "__main__":
    sys.exit(main())
