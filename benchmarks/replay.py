"""How many requests one load generator sends in a second, and what one costs it.

Against a server that answers at once (`support/answering.py`) on core 0, the load generator on core 1. Even arrivals
at rising rates, binary tensors of 16 floats, the best of several runs at each rate: the one that was least behind. The
figure to compare is CPU time per request; the highest rate at which it stayed on time, by its own measure, also tells
what else the machine does. Beside it, where they are installed, `wrk` and `hey` on the same server: closed-loop, so
their figure is what the server gives to so many connections; they send no tensor or 4 numbers in JSON, and keep no
record of a request.

    python -m benchmarks.replay [--seconds S] [--repeats N] [--rates R,R,...]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.support.process import cpu_seconds, free_port, pinned_server
from triscale.traces.job import Job
from triscale.traces.launch import ReplayProcess
from triscale.traces.messages import Finished, Progress
from triscale.traces.payload import Synthetic, TensorMetadata
from triscale.traces.results import ReplayResult
from triscale.traces.spec import parse_trace

FLOOR_PER_CPU_S = 20_000
"""Requests that one second of CPU time sends, at the rate where one is cheapest, at least."""
_RATES = (2_000.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0, 30_000.0)
_CONNECTIONS = 64
_BODY = b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [4], "data": [0, 1, 2, 3]}]}'


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    result: ReplayResult
    per_s: float
    """Requests sent per second, in the middle of the run."""
    cpu_us: float


async def run(port: int, rate: float, seconds: float, core: int | None) -> Figures:
    """Replay even arrivals of one rate."""
    tensor = TensorMetadata(name="input", datatype="FP32", shape=(16,))
    job = Job(
        url=f"http://127.0.0.1:{port}",
        model="identity",
        slo_ms=100.0,
        trace=parse_trace(f"even:rate={rate},seconds={seconds}"),
        payload=Synthetic(inputs=(tensor,)),
        keep_answers=0,
    )
    marks: list[tuple[float, int, float]] = []
    async with ReplayProcess(job) as generator:
        if core is not None:
            os.sched_setaffinity(generator.pid, {core})
        async for message in generator:
            if isinstance(message, Progress) and message.at_s < seconds:
                marks.append((message.at_s, message.phases[0].sent, cpu_seconds(generator.pid)))
            elif isinstance(message, Finished):
                result = message.result
    (start, before, spent), (end, sent, used) = marks[0], marks[-1]
    return Figures(result, (sent - before) / (end - start), 1e6 * (used - spent) / (sent - before))


def others(port: int, seconds: float) -> dict[str, float]:
    """Requests/s of the closed-loop tools that are installed, on the same server."""
    url = f"http://127.0.0.1:{port}/v2/models/identity/infer"
    found: dict[str, float] = {}
    for tool, run_it in _TOOLS.items():
        if shutil.which(tool):
            text = subprocess.run(run_it(url, seconds), capture_output=True, text=True, check=True).stdout
            match = re.search(r"Requests/sec:\s*([\d.]+)", text)
            found[tool] = float(match[1]) if match else 0.0
    return found


_TOOLS: dict[str, Callable[[str, float], list[str]]] = {
    "wrk": lambda url, seconds: ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{max(1, round(seconds))}s", url],
    "hey": lambda url, seconds: [
        *("hey", "-z", f"{seconds:g}s", "-c", str(_CONNECTIONS), "-m", "POST"),
        *("-T", "application/json", "-d", _BODY.decode(), url),
    ],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when the floor was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--repeats", type=int, default=2, help="runs per rate, of which the best counts")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in _RATES), help="requests/s to try")
    options = parser.parse_args(argv)
    rates = sorted(float(rate) for rate in options.rates.split(","))
    allowed = sorted(os.sched_getaffinity(0))
    server, client = (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)
    port = free_port()
    command = (sys.executable, "-m", "benchmarks.support.answering", str(port))
    best, cheapest = 0.0, math.inf
    header = ("wanted/s", "sent/s", "CPU us/req", "behind p99", "latency p50", "latency p99", "connections")
    print("".join(f"{name:>13}" for name in header))
    with pinned_server(command, port, server):
        for rate in rates:
            runs = [asyncio.run(run(port, rate, options.seconds, client)) for _ in range(options.repeats)]
            figures = min(runs, key=lambda figures: figures.result.phases[0].behind_ms.p99 or 0.0)
            (phase,) = figures.result.phases
            print(
                f"{rate:13,.0f}{figures.per_s:13,.0f}{figures.cpu_us:13.1f}{phase.behind_ms.p99 or 0.0:10.2f} ms"
                f"{phase.latency_ms.p50 or 0.0:10.2f} ms{phase.latency_ms.p99 or 0.0:10.2f} ms"
                f"{figures.result.connections:13}{'' if figures.result.kept_up else '   did not keep up'}"
            )
            if figures.result.kept_up and phase.answered == phase.sent:
                best = max(best, figures.per_s)
                cheapest = min(cheapest, figures.cpu_us)
        for tool, per_s in others(port, options.seconds).items():
            ratio = f"; replay sent {best / per_s:.2f} times as many" if per_s and best else ""
            print(f"  {tool}, closed loop, {_CONNECTIONS} connections: {per_s:,.0f} requests/s{ratio}")
    per_cpu_s = 1e6 / cheapest
    print(f"  one process sent {best:,.0f} requests/s on time")
    print(f"  a second of CPU time sends {per_cpu_s:,.0f} requests (floor {FLOOR_PER_CPU_S:,})")
    return int(per_cpu_s < FLOOR_PER_CPU_S)


if __name__ == "__main__":
    sys.exit(main())
