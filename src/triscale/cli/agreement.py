"""The server's account of a run beside the client's: whether their counts agree, and what the stages did."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from triscale.cli.server_metrics import ServerCounts, StageCounts
from triscale.core.request import Outcome
from triscale.observe.wording import percent
from triscale.traces.results import ReplayResult

__all__ = ["TOLERATED_POINTS", "Agreement", "agreement", "deaths", "stage_documents"]

TOLERATED_POINTS = 0.1
"""Percentage points of all requests by which the count of an outcome may differ and still count as agreeing."""
_VARIANTS = 3
"""Most variants of a stage that are named, the most used ones."""


class Agreement(Struct, frozen=True, kw_only=True):
    """What the server counted in a run, and how that compares."""

    server: dict[str, int]
    """Outcome -> requests."""
    agree: bool | None
    """True: equal in every outcome. False: apart by more than is tolerated. None: within that."""
    difference: str = ""
    """What differs, in words."""


def agreement(history: Sequence[ServerCounts], result: ReplayResult) -> Agreement:
    """Compare the growth of the server's counts over its `history` with the client's result."""
    before, after = history[0], history[-1]
    server = {name: after.outcomes[name] - before.outcomes[name] for name in after.outcomes}
    client = {outcome.label: sum(getattr(phase, outcome.label) for phase in result.phases) for outcome in Outcome}
    if server == client and after.live == 0:
        return Agreement(server=server, agree=True)
    sent = sum(client.values())
    apart = max(after.live, *(abs(server[name] - client[name]) for name in server))
    points = 100.0 * apart / sent if sent else 100.0
    unlike = [f"{name} {server[name]} and {client[name]}" for name in server if server[name] != client[name]]
    pending = [f"{after.live} still in the server"] if after.live else []
    differences = f"(server, then client): {', '.join(unlike + pending)}"
    if points <= TOLERATED_POINTS:
        text = f"server and client agree to within {points:.2g} percentage points {differences}"
        return Agreement(server=server, agree=None, difference=text)
    return Agreement(server=server, agree=False, difference=f"server and client count differently {differences}")


def deaths(history: Sequence[ServerCounts]) -> list[str]:
    """What became of the replicas that died under the load; nothing when none did."""
    exits = history[-1].replica_exits - history[0].replica_exits
    if exits <= 0:
        return []
    again = history[-1].requeued - history[0].requeued
    who = "a replica died and was replaced" if exits == 1 else f"{exits} replicas died and were replaced"
    return [f"{who}; {again} items were run again because of it"]


def stage_documents(history: Sequence[ServerCounts], started: float) -> list[dict[str, Any]]:
    """The stages over a run, as the report reads them; `started` is the monotonic second at which it began."""
    return [_stage(name, history, started) for name in history[-1].stages]


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
