"""Outcomes in plain words: the same sentences in the terminal and in the HTML report.

How the figures in them are written, `core/figures.py` says; faces take both from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from triscale.core.figures import NOTHING, count, counted, milliseconds, percent
from triscale.observe.report_document import PhaseView, ReasonView, ReportDocument

__all__ = [
    "NOTHING",
    "cores_sentence",
    "count",
    "counted",
    "headline",
    "milliseconds",
    "misses",
    "percent",
    "phase_sentences",
    "reason_text",
    "text_of",
]

_WORD = 12
"""Longest text that reads as a word rather than a line."""

_REASONS = {
    "predicted_late": "could no longer be answered in time",
    "expired": "time ran out while waiting or running",
    "overloaded": "no room behind the work already admitted",
    "plan_sheds": "more than the plan can carry",
    "queue_full": "limit on requests in the system reached",
    "too_tight": "deadline shorter than the fastest way through",
    "no_capacity": "a stage had no replica to run on",
    "replica_lost": "the replicas running them died too often",
    "model_error": "the model raised an error",
    "model_hung": "the model did not return",
    "rejected": "the model refused the input",
    "client_gone": "the client went away",
    "shutdown": "the server stopped",
    "late": "answered after the deadline",
    "timeout": "the client gave up waiting",
    "stopped": "the run was stopped",
    "no_connection": "the client got no connection",
    "no_tls": "the client could not agree on TLS with the server",
    "connection_lost": "the connection broke",
    "bad_response": "the response was not HTTP",
}

_VERBS = {
    "late": ("was answered too late", "were answered too late"),
    "dropped": ("was dropped", "were dropped"),
    "shed": ("was refused at the door", "were refused at the door"),
    "failed": ("failed", "failed"),
    "cancelled": ("was cancelled", "were cancelled"),
}


def reason_text(reason: str) -> str:
    """A reason's code in words; codes that are not ours as they are."""
    return _REASONS.get(reason, reason.replace("_", " "))


def text_of(value: object) -> str:
    """A truth or an answer as text: lists of lines one below the other, lists of words and numbers in one line."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        parts = [str(part) for part in value]
        return ("\n" if any(len(part) > _WORD for part in parts) else " ").join(parts)
    return json.dumps(value, ensure_ascii=False)


def headline(document: ReportDocument) -> str:
    """What happened, in one sentence."""
    sent = sum(phase.sent for phase in document.phases)
    answered = sum(phase.answered for phase in document.phases)
    if not sent:
        return f"No request was sent to {document.pipeline}"
    whole = f"All {count(sent)}" if answered == sent else f"{percent(answered / sent)} of {count(sent)}"
    text = f"{whole} requests answered within {milliseconds(document.slo_ms)}"
    against = document.against
    others = sum(phase.sent for phase in against.phases) if against is not None else 0
    if against is None or not others:
        return text
    share = sum(phase.answered for phase in against.phases) / others
    return f"{text} under {document.policy}, {percent(share)} under {against.policy}"


def cores_sentence(document: ReportDocument) -> str:
    """How many cores the stages kept busy, on average; empty where that is not known."""
    known = [stage.cores for stage in document.stages if stage.cores is not None]
    if not known:
        return ""
    limit = f" of {count(document.plan.cores)}" if document.plan and document.plan.cores else ""
    return f"{sum(known):.1f}{limit} cores were at work on average."


def phase_sentences(phase: PhaseView, slo_ms: float) -> list[str]:
    """What happened in a phase: the load and the answers first, then each way of missing, most frequent first."""
    load = f"{count(phase.rate_per_s)} requests/s for " if phase.rate_per_s else ""
    if not phase.sent:
        return [f"{load}{count(phase.seconds)} s: nothing was sent."]
    whole = "all" if phase.answered == phase.sent else f"{count(phase.answered)} of"
    share = "" if phase.answered == phase.sent else f" ({percent(phase.answered / phase.sent)})"
    within = f"were answered within {milliseconds(slo_ms)}"
    first = f"{load}{count(phase.seconds)} s: {whole} {count(phase.sent)}{share} {within}"
    p99 = phase.latency_ms.p99
    tail = f", 99 of 100 answers within {milliseconds(p99)}." if p99 is not None else "."
    return [first + tail, *misses(phase)]


def misses(phase: PhaseView) -> Iterator[str]:
    """One sentence for each way of missing and its reason; where it happened at several stages, how often at each."""
    groups: dict[tuple[str, str], list[ReasonView]] = {}
    for row in sorted(_all_reasons(phase), key=lambda row: -row.count):
        groups.setdefault((row.outcome, row.reason), []).append(row)
    for (outcome, reason), rows in sorted(groups.items(), key=lambda item: -sum(row.count for row in item[1])):
        total = sum(row.count for row in rows)
        one, many = _VERBS.get(outcome, (outcome, outcome))
        why = f" ({reason_text(reason)})" if reason and outcome != "late" else ""
        yield f"{count(total)} {one if total == 1 else many}{why}{_places(rows)}."


def _places(rows: list[ReasonView]) -> str:
    stages = [row for row in rows if row.stage and row.outcome in {"dropped", "failed"}]
    if not stages:
        return ""
    if len(rows) == 1:
        return f" at {rows[0].stage}"
    return ": " + ", ".join(f"{count(row.count)} at {row.stage}" for row in stages)


def _all_reasons(phase: PhaseView) -> list[ReasonView]:
    """The phase's reasons, with the outcomes for which none is given."""
    rows = list(phase.reasons)
    for outcome in _VERBS:
        missing = getattr(phase, outcome) - sum(row.count for row in rows if row.outcome == outcome)
        if missing > 0:
            rows.append(ReasonView(outcome=outcome, count=missing))
    return rows
