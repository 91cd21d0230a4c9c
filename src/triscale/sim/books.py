"""The end of a run: every request and item is accounted for, and what was counted becomes a `Result`."""

from __future__ import annotations

from collections.abc import Iterator

from triscale.core.request import Outcome
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.causes import causes_of
from triscale.observe.simulation_document import Latency, Violations
from triscale.sim.controller import Controller
from triscale.sim.cores import CoreLedger
from triscale.sim.engine import Engine
from triscale.sim.errors import SimulationError
from triscale.sim.history import History
from triscale.sim.result import Result
from triscale.sim.settings import SimSettings
from triscale.sim.tally import Tally

__all__ = ["check", "write"]


def check(dispatcher: Dispatcher, tally: Tally, arrived: int) -> None:
    """SimulationError unless arrivals = answered + late + dropped + shed + failed, and each stage's items add up."""
    problems = list(_unbalanced(dispatcher, tally, arrived))
    if problems:
        raise SimulationError("the books do not balance at the end of the run: " + "; ".join(problems))


def _unbalanced(dispatcher: Dispatcher, tally: Tally, arrived: int) -> Iterator[str]:
    accounts = dispatcher.accounts
    yield from accounts.unbalanced(dispatcher.live_items())
    if accounts.live:
        yield f"{accounts.live} requests have not ended"
    if accounts.arrived != arrived:
        yield f"{arrived} requests arrived, but the dispatcher counts {accounts.arrived}"
    for outcome in Outcome:
        seen = tally.early[outcome] + tally.outcomes[outcome]
        if seen != accounts.outcomes[outcome]:
            yield f"{seen} requests were seen to end {outcome.label}, but {accounts.outcomes[outcome]} did"
        windows = sum(tally.windows[outcome])
        if windows != tally.outcomes[outcome]:
            yield f"the windows have {windows} of {tally.outcomes[outcome]} {outcome.label} requests"


def write(
    policy: str,
    settings: SimSettings,
    seconds: float,
    dispatcher: Dispatcher,
    engine: Engine,
    controller: Controller,
    ledger: CoreLedger,
    tally: Tally,
    history: History,
    wall_s: float,
) -> Result:
    """The result of a run that has ended."""
    pipeline = dispatcher.graph.pipeline
    stages = dispatcher.accounts.stages
    requests = sum(tally.outcomes)
    answered = tally.outcomes[Outcome.ANSWERED]
    replies = answered + tally.outcomes[Outcome.LATE]
    return Result(
        policy=policy,
        pipeline=pipeline.name,
        slo_ms=pipeline.slo_ms,
        seed=settings.seed,
        warmup_s=settings.warmup_s,
        simulated_s=seconds,
        arrived=dispatcher.accounts.arrived,
        requests=requests,
        answered=answered,
        violations=Violations(
            late=tally.outcomes[Outcome.LATE],
            dropped=tally.outcomes[Outcome.DROPPED],
            shed=tally.outcomes[Outcome.SHED],
            failed=tally.outcomes[Outcome.FAILED],
        ),
        attainment=answered / requests if requests else None,
        accuracy=tally.accuracy / answered if answered else None,
        core_seconds=ledger.total,
        mean_cores=ledger.total / (seconds - settings.warmup_s),
        latency_ms=Latency(
            mean=1000.0 * tally.latency_sum / replies if replies else None,
            p50=_milliseconds(tally.latency.quantile_s(0.5)),
            p95=_milliseconds(tally.latency.quantile_s(0.95)),
            p99=_milliseconds(tally.latency.quantile_s(0.99)),
            p99_9=_milliseconds(tally.latency.quantile_s(0.999)),
        ),
        items=sum(stage.completed for stage in stages),
        batches=sum(sum(stage.batches) for stage in stages),
        causes=causes_of(tally.causes, dispatcher.graph.stages),
        actions={
            "plan": controller.changes,
            **{kind: engine.counts[kind] for kind in ("launch", "resize", "drain", "lost")},
            **({"hold": engine.counts["hold"]} if engine.counts["hold"] else {}),
        },
        decisions=controller.decisions,
        problems=controller.problems(),
        series=history.series(tally, settings.warmup_s, settings.window_s),
        wall_s=wall_s,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds
