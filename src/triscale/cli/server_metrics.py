"""What a server says of itself: its Prometheus metrics, read as a scraper would read them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from triscale.cli.live_state import StageState
from triscale.clock import monotonic
from triscale.core.request import Outcome
from triscale.errors import TriscaleError
from triscale.traces.http_client import ConnectionPool, Exchange, endpoint_of

__all__ = ["Scraper", "ServerCounts", "StageCounts", "parse_metrics", "stage_states"]

_TIMEOUT_S = 5.0


class StageCounts(Struct, frozen=True, kw_only=True):
    """One stage's counters and gauges."""

    waiting: int = 0
    busy_core_s: float = 0.0
    batches: int = 0
    queue_s: float = 0.0
    """Sum over batches of the oldest item's wait."""
    service_s: float = 0.0
    """Sum over batches of the time on a lane."""
    items: Mapping[str, int] = {}
    """Variant -> items run."""


class ServerCounts(Struct, frozen=True, kw_only=True):
    """All counts at one moment."""

    at: float
    """Monotonic seconds."""
    outcomes: Mapping[str, int]
    live: int
    """Requests in the system."""
    stages: Mapping[str, StageCounts]
    replica_exits: int = 0
    """Replicas that died without being asked to."""
    requeued: int = 0
    """Items that were run again after a failure."""


def parse_metrics(text: str, at: float) -> ServerCounts:
    """The counts in a Prometheus exposition of a triscale server with one pipeline."""
    outcomes = {outcome.label: 0 for outcome in Outcome}
    live = exits = 0
    gauges: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    items: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            stage = sample.labels.get("stage")
            if sample.name == "triscale_requests_total":
                outcomes[sample.labels["outcome"]] = int(sample.value)
            elif sample.name == "triscale_requests_live":
                live = int(sample.value)
            elif sample.name == "triscale_replica_exits_total":
                exits = int(sample.value)
            elif sample.name == "triscale_stage_items_run_total" and stage is not None:
                items[stage][sample.labels["variant"]] = int(sample.value)
            elif sample.name.startswith("triscale_stage_") and stage is not None:
                gauges[stage][sample.name.removeprefix("triscale_stage_")] += sample.value
    stages = {
        stage: StageCounts(
            waiting=int(values["items_waiting"]),
            busy_core_s=values["busy_core_seconds_total"],
            batches=int(values["service_seconds_count"]),
            queue_s=values["queue_seconds_sum"],
            service_s=values["service_seconds_sum"],
            items=items[stage],
        )
        for stage, values in gauges.items()
    }
    requeued = int(sum(values["items_requeued_total"] for values in gauges.values()))
    return ServerCounts(at=at, outcomes=outcomes, live=live, stages=stages, replica_exits=exits, requeued=requeued)


def stage_states(before: ServerCounts, now: ServerCounts) -> tuple[StageState, ...]:
    """The stages as a live view shows them: gauges of now, rates since `before`."""
    seconds = max(now.at - before.at, 1e-9)
    states = []
    for name, counts in now.stages.items():
        earlier = before.stages.get(name, StageCounts())
        items = sum(counts.items.values()) - sum(earlier.items.values())
        busy = (counts.busy_core_s - earlier.busy_core_s) / seconds
        states.append(StageState(name=name, queue=counts.waiting, busy_cores=busy, items_per_s=items / seconds))
    return tuple(states)


class Scraper:
    """Reads one server's metrics over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        endpoint = endpoint_of(f"{parts.scheme}://{parts.netloc}")
        self._url = url
        self._pool = ConnectionPool(endpoint, 1)
        self._request = f"GET {parts.path} HTTP/1.1\r\nHost: {endpoint.authority}\r\n\r\n".encode()

    async def scrape(self) -> ServerCounts:
        """The counts now; TriscaleError when the server does not tell."""
        done = asyncio.Event()
        exchange = Exchange(self._request, monotonic() + _TIMEOUT_S, lambda _: done.set())
        self._pool.submit(exchange)
        await done.wait()
        if exchange.status != 200:
            why = exchange.reason or f"HTTP {exchange.status}"
            raise TriscaleError(f"the server's metrics cannot be read at {self._url}: {why}")
        return parse_metrics(exchange.body.decode(), exchange.finished)

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.close()
