"""The demo's document: each run as the client and the server tell it, side by side, and what to try next."""

from __future__ import annotations

import datetime
import itertools
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from triscale.app.ceiling import Yardstick
from triscale.cli.agreement import agreement, deaths, stage_documents
from triscale.cli.demo_control import back_after_s, control_document, drift_at, phase_figures, slowdown
from triscale.cli.demo_load import WARM_UP, counted, surge_index
from triscale.cli.demo_run import RunRecord
from triscale.cli.serve import Ready
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.profiler.machine import this_machine

__all__ = ["demo_document", "run_document", "without_images"]


def demo_document(
    pipeline: Pipeline,
    path: str,
    runs: Sequence[RunRecord],
    ceiling: Ceiling | None = None,
    yardstick: Yardstick | None = None,
) -> dict[str, Any]:
    """JSON values of a demo: the first of its `runs`, with the second one, if there is one, as `against`."""
    document = run_document(runs[0])
    document |= {
        "title": f"{pipeline.name}: demo",
        "created": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "machine": {**msgspec.to_builtins(this_machine()), "os": f"{platform.system()} {platform.release()}"},
        "commands": _commands(pipeline, path),
    }
    if ceiling is not None:
        document["ceiling"] = msgspec.to_builtins(ceiling)
        surge = surge_index([phase["name"] for phase in document["phases"]])
        if yardstick is not None and surge is not None:
            top = _lowest_leaf(Graph.of(pipeline), ceiling.variants)
            document["surge"] = _surge(document, surge, ceiling, top)
            _add_needs(document, runs[0], yardstick)
    if len(runs) > 1:
        document["against"] = run_document(runs[1])
    return document


def run_document(run: RunRecord) -> dict[str, Any]:
    """JSON values of one run."""
    result = run.result
    counts = agreement(run.counts, result)
    warm_up = result.phases[0]
    result, skipped_s = counted(msgspec.structs.replace(result, counts_agree=None if run.trouble else counts.agree))
    problems = [*result.problems, *deaths(run.counts), run.trouble or counts.difference, *run.problems]
    document: dict[str, Any] = msgspec.to_builtins(result)
    document |= {
        "policy": run.contender.policy,
        "policy_says": run.contender.says,
        "problems": [problem for problem in problems if problem and not problem.startswith(f"{WARM_UP}: ")],
        "server_counts": counts.server,
        "plan": _plan(run.ready),
        "stages": stage_documents(run.counts, run.started),
        "others_cores": run.others_cores,
    }
    if skipped_s:
        document["warm_up"] = msgspec.to_builtins(warm_up)
    if run.statuses:
        document["slowdown"] = slowdown(run.statuses[-1])
        document["partial"] = run.statuses[-1].requests.partial
    if run.account is not None:
        _add_control(document, run, skipped_s)
    return document


def without_images(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the pictures, which are for the HTML report."""
    plain = {**document, "samples": [{**sample, "image": ""} for sample in document["samples"]]}
    if document.get("against") is not None:
        plain["against"] = without_images(document["against"])
    return plain


def _add_control(document: dict[str, Any], run: RunRecord, skipped_s: float) -> None:
    """What the server did about the load, and what that makes of each phase."""
    assert run.account is not None
    ends = list(itertools.accumulate(phase["seconds"] for phase in document["phases"]))
    control = control_document(*run.account, run.statuses, run.started_wall + skipped_s, ends[-1])
    document["control"] = control
    for phase, end in zip(document["phases"], ends, strict=True):
        phase |= phase_figures(control, end - phase["seconds"], end)
    by_stage = control.pop("busy_by_stage")
    for stage in document["stages"]:
        busy = by_stage.get(stage["name"], [])
        stage["cores_series"] = [(max(0.0, at - 0.5), cores) for at, cores in zip(control["at_s"], busy, strict=False)]


def _surge(document: Mapping[str, Any], index: int, ceiling: Ceiling, top: float) -> dict[str, Any]:
    phases = document["phases"]
    end = sum(phase["seconds"] for phase in phases[: index + 1])
    is_over = len(phases) > index + 1
    return {
        "phase": index,
        "times": phases[index]["rate_per_s"] / ceiling.capacity_per_s,
        "back_after_s": back_after_s(document["control"], end, top) if is_over and "control" in document else None,
    }


def _add_needs(document: Mapping[str, Any], run: RunRecord, yardstick: Yardstick) -> None:
    """What the planner leaves of accuracy in the surge: as profiled, and as fast as the machine really was then."""
    surge, phases = document["surge"], document["phases"]
    rate = phases[surge["phase"]]["rate_per_s"]
    profiled = yardstick.at(rate)
    surge |= {"needs_accuracy": profiled.accuracy, "needs_served": profiled.served_fraction}
    warm_up = document.get("warm_up", {"seconds": 0.0})["seconds"]
    end = run.started_wall + warm_up + sum(phase["seconds"] for phase in phases[: surge["phase"] + 1])
    if drift := drift_at(run.statuses, end):
        measured = yardstick.at(rate, drift)
        surge |= {"needs_then": measured.accuracy, "served_then": measured.served_fraction}


def _lowest_leaf(graph: Graph, variants: Mapping[str, str]) -> float:
    """The accuracy that these variants give to the answers of the least accurate branch."""
    reached: list[float] = []
    leaves: list[float] = []
    for s, name in enumerate(graph.stages):
        above = min((reached[parent] for parent in graph.parents[s]), default=1.0)
        reached.append(above * graph.accuracy[s][graph.variant(s, variants[name])])
        if not graph.children[s]:
            leaves.append(reached[s])
    return min(leaves)


def _plan(ready: Ready) -> dict[str, Any]:
    variants = ", ".join(f"{stage} {name}" for stage, name in ready.variants.items())
    return {
        "capacity_per_s": ready.capacity_per_s or None,
        "cores": ready.cores,
        "accuracy": ready.accuracy,
        "variants": ready.variants,
        "reason": f"{variants}: {ready.reason}",
    }


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
