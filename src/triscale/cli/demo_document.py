"""The demo's document: the client's result, what the server counted, where it ran, and what to try next."""

from __future__ import annotations

import datetime
import itertools
import platform
import shlex
from collections.abc import Sequence
from typing import Any

import msgspec

from triscale.cli.serve import Ready
from triscale.cli.server_metrics import ServerCounts, StageCounts
from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome
from triscale.observe.wording import percent
from triscale.profiler.machine import this_machine
from triscale.traces.results import ReplayResult

__all__ = ["demo_document", "without_images"]

_VARIANTS = 3
"""Most variants of a stage that are named, the most used ones."""


def demo_document(
    pipeline: Pipeline,
    path: str,
    ready: Ready,
    result: ReplayResult,
    history: Sequence[ServerCounts],
    started: float,
    trouble: str = "",
) -> dict[str, Any]:
    """JSON values of a demo. `history` are the server's counts, from before the first request to after the last;
    `started` is the monotonic second at which the first phase began. `trouble` says why the last of them is missing.
    """
    before, after = history[0], history[-1]
    server = {name: after.outcomes[name] - before.outcomes[name] for name in after.outcomes}
    client = {outcome.label: sum(getattr(phase, outcome.label) for phase in result.phases) for outcome in Outcome}
    agree = None if trouble else server == client and after.live == 0
    result = msgspec.structs.replace(result, counts_agree=agree)
    document: dict[str, Any] = msgspec.to_builtins(result)
    problems = [*result.problems, *_deaths(history), *([trouble] if trouble else [])]
    if agree is False:
        problems.append(_difference(server, client, after.live))
    document |= {
        "title": f"{pipeline.name}: demo",
        "problems": problems,
        "created": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "server_counts": server,
        "plan": _plan(ready),
        "stages": [_stage(name, history, started) for name in after.stages],
        "machine": {**msgspec.to_builtins(this_machine()), "os": f"{platform.system()} {platform.release()}"},
        "commands": _commands(pipeline, path),
    }
    return document


def without_images(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the pictures, which are for the HTML report."""
    samples = [{**sample, "image": ""} for sample in document["samples"]]
    return {**document, "samples": samples}


def _plan(ready: Ready) -> dict[str, Any]:
    variants = ", ".join(f"{stage} {name}" for stage, name in ready.variants.items())
    return {
        "capacity_per_s": ready.capacity_per_s or None,
        "cores": ready.cores,
        "accuracy": ready.accuracy,
        "variants": ready.variants,
        "reason": f"{variants}: {ready.reason}",
    }


def _difference(server: dict[str, int], client: dict[str, int], live: int) -> str:
    unlike = [f"{name} {server[name]} and {client[name]}" for name in server if server[name] != client[name]]
    pending = [f"{live} still in the server"] if live else []
    return f"server and client count differently (server, then client): {', '.join(unlike + pending)}"


def _stage(name: str, history: Sequence[ServerCounts], started: float) -> dict[str, Any]:
    first = history[0].stages.get(name, StageCounts())
    last = history[-1].stages[name]
    seconds = history[-1].at - history[0].at
    batches = last.batches - first.batches
    ran = {variant: count - first.items.get(variant, 0) for variant, count in last.items.items()}
    items = sum(ran.values())
    used = sorted((variant for variant in ran if ran[variant]), key=lambda variant: -ran[variant])[:_VARIANTS]
    return {
        "name": name,
        "variants": [_used(variant, ran[variant] / items, alone=len(used) == 1) for variant in used],
        "cores": (last.busy_core_s - first.busy_core_s) / seconds if seconds > 0 else None,
        "items": items,
        "batch_mean": items / batches if batches else None,
        "queue_ms": 1000.0 * (last.queue_s - first.queue_s) / batches if batches else None,
        "service_ms": 1000.0 * (last.service_s - first.service_s) / batches if batches else None,
        "cores_series": _cores_series(name, history, started),
    }


def _used(variant: str, share: float, *, alone: bool) -> str:
    return variant if alone else f"{variant} {percent(share)}"


def _cores_series(name: str, history: Sequence[ServerCounts], started: float) -> list[tuple[float, float]]:
    series = []
    for before, now in itertools.pairwise(history):
        if name in before.stages and now.at > before.at >= started - 1.0:
            cores = (now.stages[name].busy_core_s - before.stages[name].busy_core_s) / (now.at - before.at)
            series.append((max(0.0, (before.at + now.at) / 2 - started), cores))
    return series


def _deaths(history: Sequence[ServerCounts]) -> list[str]:
    """What became of the replicas that died under the load; nothing when none did."""
    exits = history[-1].replica_exits - history[0].replica_exits
    if exits <= 0:
        return []
    again = history[-1].requeued - history[0].requeued
    who = "a replica died and was replaced" if exits == 1 else f"{exits} replicas died and were replaced"
    return [f"{who}; {again} items were run again because of it"]


def _commands(pipeline: Pipeline, path: str) -> list[dict[str, str]]:
    url = f"http://127.0.0.1:8000/v2/models/{pipeline.name}"
    commands = [{"does": "Serve it yourself:", "line": f"triscale serve {shlex.quote(path)}"}]
    if len(pipeline.inputs) == 1:
        ((name, spec),) = pipeline.inputs.items()
        if spec.datatype == "BYTES":
            headers = "-H 'Accept: application/json' -H 'Inference-Header-Content-Length: 0'"
            line = f"curl -s {url}/infer {headers} --data-binary @FILE"
            commands.append({"does": f"then send a file of your own as {name!r}:", "line": line})
            return commands
    commands.append({"does": "then ask what it takes and answers:", "line": f"curl -s {url}"})
    return commands
