"""What one request costs the server, beside the same endpoint written with FastAPI and pydantic.

An identity model, a tensor of 16 floats, in JSON and in the binary form, over 32 kept-alive connections and over one.
Three contenders in one run: `triscale serve` complete (door, dispatcher, replica process, metrics), its front door
alone with the model in-process, and FastAPI on uvicorn with the model in-process. Server on core 0, load generator on
core 1, one after the other. The figure to compare is CPU time per request of the server's whole process tree: requests
per second and latencies also tell what else the machine does.

    python -m benchmarks.front_door [--seconds S] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.closed_loop import Load, Request, closed_loop, post
from benchmarks.support.process import core_for_server, cpu_seconds, fetch_json, free_port, pinned_server

FLOORS = {"triscale serve": 1.3, "front door alone": 3.0}
"""FastAPI's CPU time per JSON request over ours, at least."""
_ELEMENTS = 16
_CONNECTIONS = (32, 1)
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure. `{port}` in the command stands for the port that it is to listen on."""

    name: str
    command: tuple[str, ...]
    model: str = "identity"
    binary_route: str = "infer"


@dataclass(frozen=True, slots=True)
class Figures:
    """The best slice of one contender in one setting: the one with the least CPU time per request."""

    load: Load
    cpu_us: float


def requests(contender: Contender, port: int) -> dict[str, Request]:
    """The same request in both forms, made for the model's one input."""
    metadata = fetch_json(port, f"/v2/models/{contender.model}")
    tensor = metadata["inputs"][0]
    shape = [1 if extent == -1 else extent for extent in tensor["shape"][:-1]] + [_ELEMENTS]
    values = [0.1 * index for index in range(_ELEMENTS)]
    head = {"name": tensor["name"], "shape": shape, "datatype": "FP32"}
    target = f"/v2/models/{contender.model}/"
    document = json.dumps({"inputs": [{**head, "data": values}]}).encode()
    sized = {**head, "parameters": {"binary_data_size": 4 * _ELEMENTS}}
    binary = json.dumps({"inputs": [sized], "parameters": {"binary_data_output": True}}).encode()
    raw = struct.pack(f"<{_ELEMENTS}f", *values)
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(binary))}
    return {
        "json": post(f"{target}infer", document, {"content-type": "application/json"}),
        "binary": post(target + contender.binary_route, binary + raw, headers),
    }


def measure(contender: Contender, core: int | None, seconds: float, repeats: int) -> dict[str, Figures]:
    """The figures of every setting, by its name."""
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in contender.command]
    found: dict[str, Figures] = {}
    with pinned_server(command, port, core) as pid:
        for form, request in requests(contender, port).items():
            for connections in _CONNECTIONS:
                closed_loop(port, request, connections, _WARM_UP_S)
                slices = []
                for _ in range(repeats):
                    before = cpu_seconds(pid)
                    load = closed_loop(port, request, connections, seconds)
                    slices.append(Figures(load, 1e6 * (cpu_seconds(pid) - before) / load.requests))
                found[f"{form} c{connections}"] = min(slices, key=lambda figures: figures.cpu_us)
    return found


def table(figures: dict[str, dict[str, Figures]]) -> None:
    """Print all contenders, and the first one's lead over each of the others."""
    print(
        f"{'':34}{'requests/s':>12}{'CPU us/req':>12}{'p50 us':>10}{'p99 us':>10}{'CPU ratio':>11}{'req/s ratio':>13}"
    )
    names = list(figures)
    for setting, first in figures[names[0]].items():
        for name in names:
            found = figures[name][setting]
            print(
                f"{name + ', ' + setting:34}{found.load.per_s:12,.0f}{found.cpu_us:12.1f}"
                f"{found.load.quantile(0.5) * 1e6:10.0f}{found.load.quantile(0.99) * 1e6:10.0f}"
                f"{found.cpu_us / first.cpu_us:10.1f}x{first.load.per_s / found.load.per_s:12.1f}x"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the number of floors that were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one slice")
    parser.add_argument("--repeats", type=int, default=3, help="slices per setting, of which the cheapest counts")
    options = parser.parse_args(argv)
    door = (sys.executable, "-m", "benchmarks.support.identity_triscale", "{port}")
    fastapi = (sys.executable, "-m", "benchmarks.support.identity_fastapi", "{port}")
    with core_for_server() as core, tempfile.TemporaryDirectory() as folder:
        contenders = [
            Contender("triscale serve", _serve_identity(Path(folder) / "profile.json")),
            Contender("front door alone", door),
            Contender("fastapi", fastapi, binary_route="infer_binary"),
        ]
        figures = {c.name: measure(c, core, options.seconds, options.repeats) for c in contenders}
    table(figures)
    missed = 0
    for name, floor in FLOORS.items():
        ratio = figures["fastapi"]["json c32"].cpu_us / figures[name]["json c32"].cpu_us
        print(f"  FastAPI takes {ratio:.1f} times the CPU time per JSON request of {name} (floor {floor:g})")
        missed += ratio < floor
    return missed


def _serve_identity(profile: Path) -> tuple[str, ...]:
    """The command of a complete server, with latencies measured first, as a user would."""
    triscale = (sys.executable, "-m", "triscale")
    pipeline = "examples/identity"
    profiling = (*triscale, "profile", pipeline, "--budget", "2", "--json", "--out", str(profile))
    subprocess.run(profiling, check=True, stdout=subprocess.DEVNULL)
    return (*triscale, "serve", pipeline, "--profile", str(profile), "--port", "{port}", "--metrics-port", "0")


if __name__ == "__main__":
    sys.exit(main())
