"""The document of a replay: the client's result, what the server counted if it was asked, and how to do it again."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from triscale.cli.agreement import agreement, deaths, stage_documents
from triscale.cli.server_metrics import ServerCounts
from triscale.profiler.machine import this_machine
from triscale.traces.endpoint import endpoint_of
from triscale.traces.job import Job
from triscale.traces.results import ReplayResult

__all__ = ["replay_document"]


def replay_document(
    job: Job, result: ReplayResult, history: Sequence[ServerCounts], started: float, trouble: str, again: str
) -> dict[str, Any]:
    """JSON values of a replay.

    `history` are the server's counts, from before the first request to after the last; empty where it was not asked.
    `started` is the monotonic second at which the load began, `trouble` why the last counts are missing, `again` the
    command line.
    """
    problems = list(result.problems)
    served: dict[str, Any] = {}
    if history:
        counts = agreement(history, result)
        result = msgspec.structs.replace(result, counts_agree=None if trouble else counts.agree)
        problems += [problem for problem in (*deaths(history), trouble or counts.difference) if problem]
        served = {"server_counts": counts.server, "stages": stage_documents(history, started)}
    document: dict[str, Any] = msgspec.to_builtins(result)
    document |= served
    document |= {
        "title": f"{job.model}: replay of {result.trace}",
        "target": job.url,
        "problems": problems,
        "created": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "commands": [{"does": "Do it again:", "line": again}],
    }
    if _is_here(job.url):
        document["machine"] = {
            **msgspec.to_builtins(this_machine()),
            "os": f"{platform.system()} {platform.release()}",
        }
    return document


def _is_here(url: str) -> bool:
    """Whether the server runs on this machine, as far as its address says."""
    host = endpoint_of(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
