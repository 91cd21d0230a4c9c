"""What the statistics route needs to know of a pipeline, and its rendering in Triton's form.

`Service.statistics(name)` returns a `Statistics`. Counts and durations are totals since the server started, as
Prometheus counters are; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from triscale.serve.inference_protocol import VERSION

__all__ = ["Duration", "Statistics", "statistics_document"]


class Duration(TypedDict):
    """How often something was done, and the total time it took."""

    count: int
    seconds: float


class Statistics(TypedDict, total=False):
    """Totals of one pipeline. What is left out counts as zero."""

    last_request_s: float
    """Wall-clock seconds (since 1970) of the last request."""
    rows: int
    """Rows answered: Triton's inference_count."""
    batches: int
    """Batches run at the root stage: Triton's execution_count."""
    success: Duration
    """Requests answered, in time or late, and their end-to-end latency."""
    fail: Duration
    """Requests dropped, shed or failed."""
    queue: Duration
    """Requests answered, and the time that their items waited in queues along the slowest path."""
    compute_input: Duration
    """Requests answered, and the time to move their inputs to replicas."""
    compute_infer: Duration
    """Requests answered, and the time that models ran on the slowest path."""
    compute_output: Duration
    """Requests answered, and the time to move results back."""
    batch_sizes: Mapping[int, Duration]
    """Items in a batch of the root stage -> batches of that size, and the time that the model ran on them."""


_NOTHING = Duration(count=0, seconds=0.0)


def statistics_document(name: str, statistics: Mapping[str, Any]) -> dict[str, object]:
    """One entry of `model_stats`. The cache durations are always zero: there is no response cache."""

    def duration(key: str) -> dict[str, int]:
        return _duration(statistics.get(key, _NOTHING))

    return {
        "name": name,
        "version": VERSION,
        "last_inference": round(statistics.get("last_request_s", 0.0) * 1e3),
        "inference_count": statistics.get("rows", 0),
        "execution_count": statistics.get("batches", 0),
        "inference_stats": {
            "success": duration("success"),
            "fail": duration("fail"),
            "queue": duration("queue"),
            "compute_input": duration("compute_input"),
            "compute_infer": duration("compute_infer"),
            "compute_output": duration("compute_output"),
            "cache_hit": _duration(_NOTHING),
            "cache_miss": _duration(_NOTHING),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": found["count"], "ns": 0},
                "compute_infer": _duration(found),
                "compute_output": {"count": found["count"], "ns": 0},
            }
            for size, found in sorted(statistics.get("batch_sizes", {}).items())
        ],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration["count"], "ns": round(duration["seconds"] * 1e9)}
