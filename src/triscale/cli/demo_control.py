"""What a server did about its load, second by second: its own account of a run, on the run's time axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from triscale.observe.decisions import DecisionsDocument
from triscale.observe.history import HistoryDocument
from triscale.observe.status import Status

__all__ = ["back_after_s", "control_document", "drift_at", "phase_figures", "slowdown"]

_NEARLY = 0.005
"""Accuracy that may be lacking and still count as the top: a single answer of the second was rescued."""
_COLUMNS = ("capacity_per_s", "accuracy", "cores_start", "cores_up", "cores_out", "busy_cores")


def control_document(
    history: HistoryDocument, decisions: DecisionsDocument, statuses: Sequence[Status], started_wall: float, ran: float
) -> dict[str, Any]:
    """JSON values of the report's `control`, of the `ran` seconds from `started_wall` (Unix time) on."""
    rows = [i for i, at in enumerate(history.at_s) if 0.0 < at - started_wall <= ran + 1.0]
    looks = [status for status in statuses if 0.0 <= status.wall_s - started_wall <= ran]
    stages = [stage.name for stage in looks[0].stages] if looks else []
    return {
        "at_s": [round(history.at_s[i] - started_wall, 2) for i in rows],
        "answered_per_s": [history.answered_per_s[i] for i in rows],
        **{name: [getattr(history, name)[i] for i in rows] for name in _COLUMNS},
        "busy_by_stage": {name: [series.busy_cores[i] for i in rows] for name, series in history.stages.items()},
        "replicas": [
            [round(status.wall_s - started_wall, 2), _replicas(status, "ready"), _replicas(status, "starting")]
            for status in looks
        ],
        "mixes": {name: _mix(looks, s, started_wall) for s, name in enumerate(stages)},
        "decisions": [
            {
                "at_s": round(decision.wall_s - started_wall, 2),
                "mode": decision.mode,
                "kind": decision.kind,
                "demand": decision.demand,
                "cores": decision.cores,
                "accuracy": decision.accuracy,
                "reason": decision.reason,
            }
            for decision in decisions.decisions
            if -1.0 <= decision.wall_s - started_wall <= ran
        ],
    }


def phase_figures(control: dict[str, Any], start: float, end: float) -> dict[str, float | None]:
    """Of one phase: the mean expected accuracy of its answers, and the mean cores at work and held.

    A second counts where its middle lies; answers count where they were given, up to an SLO after they were asked for.
    """
    ends = control["at_s"]
    rows = [i for i, at in enumerate(ends) if start <= at - 0.5 < end]
    seconds = [ends[i] - ends[i - 1] if i else min(1.0, ends[i]) for i in rows]
    answers = [
        (control["answered_per_s"][i] * length, control["accuracy"][i])
        for i, length in zip(rows, seconds, strict=True)
        if control["accuracy"][i] is not None
    ]
    answered, total = sum(count for count, _ in answers), sum(seconds)
    held = [control["cores_start"][i] + control["cores_up"][i] + control["cores_out"][i] for i in rows]
    return {
        "expected_accuracy": sum(count * accuracy for count, accuracy in answers) / answered if answered else None,
        "busy_cores": _mean([control["busy_cores"][i] for i in rows], seconds) if total else None,
        "held_cores": _mean(held, seconds) if total else None,
    }


def back_after_s(control: dict[str, Any], surge_end: float, top: float) -> float | None:
    """How long after the surge the answers of a second were of the highest accuracy; None: never in this run.

    The end of that second counts, so that less than a second cannot be claimed.
    """
    for end, accuracy in zip(control["at_s"], control["accuracy"], strict=True):
        if end - 1.0 >= surge_end - 0.5 and accuracy is not None and accuracy >= top - _NEARLY:
            return max(0.0, float(end) - surge_end)
    return None


def drift_at(statuses: Sequence[Status], wall_s: float) -> dict[tuple[str, str], float]:
    """How many times longer than profiled each variant took at a moment, as the server had measured by then."""
    looks = [status for status in statuses if status.wall_s <= wall_s]
    return {
        (stage.name, variant.name): variant.drift
        for stage in (looks[-1].stages if looks else ())
        for variant in stage.variants
        if variant.drift is not None
    }


def slowdown(status: Status) -> float | None:
    """How many times longer the models took than profiled, in the end: the mean over what the variants ran."""
    known = [
        (variant.items, math.log(variant.drift))
        for stage in status.stages
        for variant in stage.variants
        if variant.drift is not None and variant.drift > 0.0 and variant.items
    ]
    items = sum(count for count, _ in known)
    return math.exp(sum(count * log for count, log in known) / items) if items else None


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _replicas(status: Status, phase: str) -> int:
    return sum(stage.replicas.get(phase, 0) for stage in status.stages)


def _mix(looks: Sequence[Status], s: int, started_wall: float) -> dict[str, Any]:
    """Items that each variant of a stage was handed between two looks."""
    pairs = list(itertools.pairwise(looks))
    names = [variant.name for variant in looks[0].stages[s].variants]
    return {
        "at_s": [round(now.wall_s - started_wall, 2) for _, now in pairs],
        "items": {
            name: [now.stages[s].variants[v].items - before.stages[s].variants[v].items for before, now in pairs]
            for v, name in enumerate(names)
        },
    }
