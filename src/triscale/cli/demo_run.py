"""One run of the demo: a server of its own under one policy, the load, and what both sides said of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from triscale.cli.live import View
from triscale.cli.load_run import LoadRun
from triscale.cli.serve import Ready
from triscale.cli.server_metrics import Scraper, ServerCounts
from triscale.cli.server_process import ServerProcess
from triscale.cli.status_client import StatusClient
from triscale.core.pipeline import Policy
from triscale.errors import TriscaleError
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.history import HistoryDocument
from triscale.observe.status import Status
from triscale.observe.wording import count
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.profiler.machine import OthersLoad
from triscale.traces.job import Job
from triscale.traces.results import ReplayResult

__all__ = ["STATIC", "Contender", "RunRecord", "contender_of", "run_contender"]

STATIC = "static"
_PORTS = ("--metrics-port", "0", "--grace", "2")


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy that meets the load."""

    policy: str
    says: str
    """What that means, in words; empty where the name says it."""
    arguments: tuple[str, ...]
    """Of its server."""


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """What both sides said of a run."""

    contender: Contender
    ready: Ready
    result: ReplayResult
    counts: Sequence[ServerCounts]
    """The server's, from before the first request to after the last."""
    statuses: Sequence[Status]
    """What it said of itself meanwhile."""
    started: float
    """Monotonic second at which the load began..."""
    started_wall: float
    """...and as Unix time."""
    account: tuple[HistoryDocument, DecisionsDocument] | None
    """What the server did, by its own word; None where it could not tell any more."""
    others_cores: float = 0.0
    """Cores that others used meanwhile."""
    problems: list[str] = field(default_factory=list)
    trouble: str = ""
    """Why the server's last counts are missing."""


def contender_of(policy: str, stated: Policy, ceiling: Ceiling | None, arguments: Sequence[str]) -> Contender:
    """A policy by its name; `stated` is the pipeline file's, whose options hold if it is the same one.

    `static` stands for a server without any of the three axes: the most accurate variants, whatever comes. It has the
    same queues, deadlines and door, and drops what would be late.
    """
    if policy == STATIC and ceiling is not None:
        options = {"variants": dict(ceiling.variants)}
        fixed = {"name": STATIC, "min_accuracy": stated.min_accuracy, "options": options}
        says = "the most accurate variants on all cores, whatever comes"
        return Contender(policy, says, (*arguments, _set("policy", fixed), "--set=dispatch.drop=per_stage"))
    if policy == stated.name:
        return Contender(policy, "", tuple(arguments))
    return Contender(policy, "", (*arguments, _set("policy", {"name": policy, "min_accuracy": stated.min_accuracy})))


def _set(key: str, value: Mapping[str, object]) -> str:
    """JSON is YAML, which `--set` takes."""
    return f"--set={key}={json.dumps(value)}"


async def run_contender(
    contender: Contender, job: Job, ceiling: Ceiling | None, view: View, *, port: int = 0
) -> RunRecord:
    """Start the server, send it the job, ask it what it did, stop it. TriscaleError when it cannot be run.

    CancelledError when interrupted before there was anything to report.
    """
    load = LoadRun(view, ceiling.capacity_per_s if ceiling is not None else None)
    load.heed_signals()
    others = OthersLoad()
    view.busy(f"starting the server under {contender.policy}")
    async with ServerProcess([*contender.arguments, "--port", str(port), *_PORTS]) as server:
        ready = server.ready
        view.step(f"serving {ready.pipeline} under {contender.policy}", _facts(contender, ready))
        for warning in ready.warnings:
            view.warn(warning)
        scraper, client = Scraper(ready.metrics_url), StatusClient(ready.url)
        try:
            result = await load.run(msgspec.structs.replace(job, url=ready.url), scraper, client=client)
            trouble = await load.settle(scraper)
            account = await _account(client, trouble)
        finally:
            await asyncio.gather(scraper.close(), client.close())
    record = RunRecord(
        contender=contender,
        ready=ready,
        result=result,
        counts=load.history,
        statuses=load.statuses,
        started=load.started,
        started_wall=load.started_wall,
        account=account,
        others_cores=others.cores(),
        problems=list(ready.warnings),
        trouble=trouble,
    )
    if server.killed:
        record.problems.append("the server did not stop when it was told to, and was killed")
    return record


async def _account(client: StatusClient, trouble: str) -> tuple[HistoryDocument, DecisionsDocument] | None:
    """What the server did; None where it does not tell any more, which is known by then."""
    try:
        return await client.history(), await client.decisions()
    except TriscaleError:
        if trouble:
            return None
        raise


def _facts(contender: Contender, ready: Ready) -> str:
    """Where it can be watched, and what it starts with."""
    what = contender.says or f"first plan for {count(ready.capacity_per_s)} requests/s"
    return f"{ready.cores} cores; {what}; watch it at {ready.url}/"
