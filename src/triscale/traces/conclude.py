"""A finished run made into its result: the records summed up, the kept answers scored, and what to mistrust said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import getdoc

import msgspec

from triscale.traces.answers import Scorer, shown
from triscale.traces.job import Job
from triscale.traces.replay import Replay
from triscale.traces.results import PhaseResult, ReplayResult, SampleAnswer
from triscale.traces.samples import Prepared
from triscale.traces.summary import latency_sample, phase_results, seconds_series

__all__ = ["result_of"]

_SAMPLED_LATENCIES = 4000
_LAG_WORTH_A_WORD_MS = 20.0


def result_of(job: Job, prepared: Prepared, run: Replay) -> ReplayResult:
    """The result of a run that is over."""
    scorer = Scorer(prepared.samples, prepared.score, job.batched)
    phases: list[PhaseResult] = []
    samples: list[SampleAnswer] = []
    counted = phase_results(job.phases, run.records, job.slo_ms / 1000.0, run.ran)
    for phase, answers in zip(counted, run.answers, strict=False):
        scored = scorer.mean(answers.kept)
        phases.append(msgspec.structs.replace(phase, accuracy=scored.accuracy, scored=scored.count))
        samples += shown(scorer, prepared.samples, phase.name, answers.kept, job.show - len(samples))
    return ReplayResult(
        pipeline=job.model,
        slo_ms=job.slo_ms,
        phases=tuple(phases),
        samples=tuple(samples),
        series=seconds_series(run.records, run.ran),
        latencies_ms=latency_sample(run.records, _SAMPLED_LATENCIES),
        score_says=(getdoc(prepared.score) or "").partition("\n")[0] if prepared.score else "",
        seed=job.seed,
        stopped=run.stopped,
        connections=run.most_connections,
        problems=tuple(_problems(job, phases, run, scorer)),
    )


def _problems(job: Job, phases: Sequence[PhaseResult], run: Replay, scorer: Scorer) -> Iterator[str]:
    for phase in phases:
        worst, usual = phase.lag_ms.max, phase.lag_ms.p99
        if worst is not None and usual is not None and usual > _LAG_WORTH_A_WORD_MS:
            yield (
                f"{phase.name}: the load generator itself was late, by {usual:.0f} ms at p99 and {worst:.0f} ms at "
                "most; these latencies include that. Lower the rate, or give it a core of its own"
            )
        if phase.late_at_client:
            yield (
                f"{phase.name}: {phase.late_at_client} of the {phase.answered} requests that the server counts as "
                "answered in time took longer than the objective as the client sees it"
            )
    if run.most_connections >= job.connections:
        yield f"all {job.connections} connections were in use at times; requests then waited for one at the client"
    for text, count in scorer.problems.items():
        yield f"{count} kept answers have no score: {text}"
