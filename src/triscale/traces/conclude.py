"""A finished run made into its result: the records summed up, the kept answers scored, and what to mistrust said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import getdoc

import msgspec

from triscale.traces.answers import Scorer, shown
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job
from triscale.traces.replay import Replay
from triscale.traces.results import PhaseResult, ReplayResult, SampleAnswer
from triscale.traces.samples import Prepared
from triscale.traces.summary import latency_sample, phase_results, seconds_series

__all__ = ["result_of"]

_SAMPLED_LATENCIES = 4000
_SERIOUS = 0.1
"""Part of the objective that the load generator may be behind by itself, at p99..."""
_LEAST_MS, _MOST_MS = 1.0, 20.0
"""...but these bound it: no event loop is on time to the microsecond, and 20 ms are too much under any objective."""


def result_of(job: Job, prepared: Prepared, run: Replay) -> ReplayResult:
    """The result of a run that is over."""
    scorer = Scorer(prepared.samples, prepared.score, job.batched and job.payload is None)
    phases: list[PhaseResult] = []
    samples: list[SampleAnswer] = []
    counted = phase_results(_parts(job, run), run.records, job.slo_ms / 1000.0, run.ran)
    for phase, answers in zip(counted, run.answers, strict=False):
        scored = scorer.mean(answers.kept)
        measured = {"accuracy": scored.accuracy, "accuracy_error": scored.error, "scored": scored.count}
        phases.append(msgspec.structs.replace(phase, **measured))
        if job.source:
            samples += shown(scorer, prepared.samples, phase.name, answers.kept, job.show - len(samples))
    behind = list(_behind(job, phases))
    return ReplayResult(
        pipeline=job.model,
        slo_ms=job.slo_ms,
        phases=tuple(phases),
        trace=job.trace.label if job.trace is not None else "",
        deadline_ms=job.deadline_ms,
        kept_up=not behind,
        samples=tuple(samples),
        series=seconds_series(run.records, run.ran),
        latencies_ms=latency_sample(run.records, _SAMPLED_LATENCIES),
        score_says=(getdoc(prepared.score) or "").partition("\n")[0] if prepared.score else "",
        seed=job.seed,
        stopped=run.stopped,
        connections=run.most_connections,
        problems=(*behind, *_problems(job, phases, run, scorer)),
    )


def _parts(job: Job, run: Replay) -> tuple[Phase, ...]:
    """A trace that was stopped has the mean rate of its part that ran."""
    if job.trace is None or not run.stopped or run.ran <= 0.0:
        return job.parts
    return (msgspec.structs.replace(job.parts[0], rate_per_s=job.trace.expected(0.0, run.ran) / run.ran),)


def _behind(job: Job, phases: Sequence[PhaseResult]) -> Iterator[str]:
    """The phases in which the load generator could not keep up."""
    tolerated = min(max(_SERIOUS * job.slo_ms, _LEAST_MS), _MOST_MS)
    for phase in phases:
        usual, worst = phase.behind_ms.p99, phase.behind_ms.max
        if usual is not None and worst is not None and usual > tolerated:
            yield (
                f"{phase.name}: the load generator itself could not keep up: it was {usual:.1f} ms behind at p99, "
                f"{worst:.1f} ms at most, which these latencies include; do not trust them. Lower the rate, give it a "
                "core of its own, or share the load among several"
            )


def _problems(job: Job, phases: Sequence[PhaseResult], run: Replay, scorer: Scorer) -> Iterator[str]:
    for phase in phases:
        if phase.late_at_client:
            yield (
                f"{phase.name}: {phase.late_at_client:,} of the {phase.answered:,} requests that the server counts as "
                "answered in time took longer than the objective as the client sees it"
            )
    failed: dict[str, int] = {}
    for phase in phases:
        for row in phase.reasons:
            if row.outcome == "failed":
                failed[row.reason] = failed.get(row.reason, 0) + row.count
    for reason, text in run.errors.items():
        if text and reason in failed:
            yield f"{failed[reason]:,} requests failed ({reason}); the first one with: {text}"
    if run.most_connections >= job.connections:
        yield f"all {job.connections} connections were in use at times; requests then waited for one at the client"
    for text, count in scorer.problems.items():
        yield f"{count} kept answers have no score: {text}"
