from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from triscale.clock import monotonic
from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.arrivals import Even, Phase
from triscale.traces.conclude import result_of
from triscale.traces.job import Job
from triscale.traces.messages import Progress
from triscale.traces.replay import Replay
from triscale.traces.results import ReplayResult
from triscale.traces.samples import Prepared, encoded
from triscale.traces.spec import parse_trace

ANSWERED = {"triscale-outcome": "answered"}


def job_for(url: str, *phases: Phase, **changes: Any) -> Job:
    return Job(url=url, model="echo", phases=phases, slo_ms=1000.0, source="m:f", **changes)


def prepared_for(job: Job, count: int = 3) -> Prepared:
    samples = tuple(Sample({"text": f"sample {n}"}, truth="hello") for n in range(count))
    score = lambda truth, outputs: float(outputs["text"][0].decode() == truth)  # noqa: E731
    return encoded(job, Prepared(samples, (), score), "binary")


def replay(
    serving: Any,
    behave: Callable[[int], Any],
    *phases: Phase,
    during: Callable[[Replay, Any], Any] | None = None,
    **changes: Any,
) -> tuple[ReplayResult, Any, Progress]:
    """Replay against a stub server; its result, the server as it was left, the last progress."""

    async def scenario() -> tuple[ReplayResult, Any, Progress]:
        async with serving(behave) as server:
            job = job_for(server.url, *phases, **changes)
            prepared = prepared_for(job)
            run = Replay(job, prepared)
            beside = asyncio.create_task(during(run, server)) if during else None
            await run.run()
            if beside:
                await beside
            return result_of(job, prepared, run), server, run.progress()

    return asyncio.run(scenario())


def held_up(serving: Any, behaviour: Any, seconds: float, **changes: Any) -> tuple[ReplayResult, Any, Progress]:
    """Replay 100 requests/s over one connection, which the first of them holds for 100 ms."""
    return replay(
        serving,
        lambda n: behaviour(hang=True) if n == 0 else behaviour(headers=ANSWERED),
        Phase("a", 100.0, seconds, Even()),
        timeout_ms=100.0,
        connections=1,
        **changes,
    )


def test_client_and_server_count_the_same(serving: Any, behaviour: Any) -> None:
    kinds = [
        behaviour(200, {"triscale-outcome": "answered"}),
        behaviour(200, {"triscale-outcome": "late"}),
        behaviour(429, {"triscale-outcome": "shed", "triscale-reason": "plan_sheds"}),
        behaviour(504, {"triscale-outcome": "dropped", "triscale-reason": "expired", "triscale-stage": "read"}),
        behaviour(500, {"triscale-outcome": "failed", "triscale-reason": "model_error", "triscale-stage": "read"}),
    ]
    phases = Phase("steady", 200.0, 0.2), Phase("burst", 600.0, 0.2)
    result, server, progress = replay(serving, lambda n: kinds[n % 5], *phases)
    for outcome in ("answered", "late", "dropped", "shed", "failed"):
        assert sum(getattr(phase, outcome) for phase in result.phases) == server.seen[outcome]
        assert sum(getattr(phase, outcome) for phase in progress.phases) == server.seen[outcome]
    assert sum(phase.sent for phase in result.phases) == server.seen["infer"] == sum(result.series.sent)
    assert progress.in_flight == 0
    assert {(r.outcome, r.reason, r.stage) for r in result.phases[1].reasons} == {
        ("late", "", ""),
        ("shed", "plan_sheds", ""),
        ("dropped", "expired", "read"),
        ("failed", "model_error", "read"),
    }


def test_samples_are_sent_round_and_scored(serving: Any, behaviour: Any) -> None:
    result, server, _ = replay(
        serving,
        lambda n: behaviour(headers=ANSWERED, text="hello" if n % 2 else "other"),
        Phase("a", 100.0, 0.1, Even()),
    )
    (phase,) = result.phases
    assert phase.sent == 10
    assert [int(body.rsplit(b" ", 1)[1]) for body in server.bodies] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert (phase.accuracy, phase.scored) == (0.5, 10)
    assert len(result.samples) == 3
    assert result.samples[0].truth == "hello"


@pytest.mark.parametrize("as_json", [False, True])
def test_answers_are_read_in_both_forms(as_json: bool, serving: Any, behaviour: Any) -> None:
    result, _, _ = replay(serving, lambda _: behaviour(as_json=as_json), Phase("a", 100.0, 0.05, Even()))
    assert result.phases[0].accuracy == 1.0
    assert result.phases[0].answered == 5
    assert result.samples[0].read == "hello"


def test_a_stalled_server_does_not_slow_the_sending_down(serving: Any, behaviour: Any) -> None:
    """Open loop: what hangs is answered by nobody, and still every request leaves."""
    result, server, _ = replay(
        serving, lambda _: behaviour(hang=True), Phase("a", 100.0, 0.3, Even()), timeout_ms=100.0, keep_answers=0
    )
    (phase,) = result.phases
    assert server.seen["infer"] == phase.sent == phase.cancelled == 30
    assert phase.reasons[0].reason == "timeout"
    assert phase.attainment == 0.0


def test_waiting_for_a_connection_counts_as_latency(serving: Any, behaviour: Any) -> None:
    """No coordinated omission: with one connection held for 100 ms, those behind it are that late too."""
    result, _, _ = held_up(serving, behaviour, 0.1)
    (phase,) = result.phases
    assert (phase.cancelled, phase.answered) == (1, 9)
    # The second was meant 10 ms after the first, which holds the connection for 100 ms: it cannot have been faster.
    assert phase.latency_ms.max is not None
    assert phase.latency_ms.max >= 80.0
    assert phase.lag_ms.max is not None
    assert phase.lag_ms.max >= 80.0
    assert "all 1 connections were in use at times; requests then waited for one at the client" in result.problems


def test_transport_faults_are_failures_with_a_reason(serving: Any, behaviour: Any) -> None:
    faults = [behaviour(close=True), behaviour(garbage=True), behaviour(headers=ANSWERED)]
    result, _, _ = replay(serving, lambda n: faults[n % 3], Phase("a", 300.0, 0.1, Even()))
    (phase,) = result.phases
    assert (phase.sent, phase.failed, phase.answered) == (30, 20, 10)
    assert {(reason.reason, reason.count) for reason in phase.reasons} == {
        ("connection_lost", 10),
        ("bad_response", 10),
    }


def test_stopping_gives_the_result_of_what_was_sent(serving: Any, behaviour: Any) -> None:
    async def stop_soon(run: Replay, server: Any) -> None:
        await server.received.wait()
        run.stop()

    result, server, _ = replay(
        serving, lambda _: behaviour(headers=ANSWERED), Phase("a", 50.0, 3600.0), Phase("b", 1.0, 1.0), during=stop_soon
    )
    assert result.stopped
    (phase,) = result.phases
    assert phase.sent == phase.answered == server.seen["infer"]
    assert 0.0 < phase.seconds < 3600.0


def test_stopping_twice_does_not_wait_for_answers(serving: Any, behaviour: Any) -> None:
    async def stop_twice(run: Replay, server: Any) -> None:
        await server.received.wait()
        run.stop()
        run.stop()

    result, server, _ = replay(serving, lambda _: behaviour(hang=True), Phase("a", 100.0, 3600.0), during=stop_twice)
    (phase,) = result.phases
    assert phase.cancelled == server.seen["infer"]
    assert phase.reasons[0].reason == "stopped"


def test_stopping_before_the_start_sends_nothing(serving: Any, behaviour: Any) -> None:
    async def scenario() -> None:
        async with serving(lambda _: behaviour()) as server:
            job = job_for(server.url, Phase("a", 100.0, 3600.0))
            run = Replay(job, prepared_for(job))
            run.stop()
            await run.run()
            assert len(run.records) == 0
            assert result_of(job, prepared_for(job), run).phases == ()

    asyncio.run(scenario())


def test_the_same_seed_sends_the_same_run(serving: Any, behaviour: Any) -> None:
    runs = [replay(serving, lambda _: behaviour(), Phase("a", 200.0, 0.1), seed=11)[0] for _ in range(2)]
    assert runs[0].phases[0].sent == runs[1].phases[0].sent
    assert runs[0].series.sent == runs[1].series.sent


def test_progress_adds_up_in_the_middle_of_a_run(serving: Any, behaviour: Any) -> None:
    seen: list[Progress] = []

    async def look(run: Replay, server: Any) -> None:
        await server.received.wait()
        seen.append(run.progress())

    replay(serving, lambda _: behaviour(hang=True), Phase("a", 200.0, 0.2), timeout_ms=50.0, during=look)
    (progress,) = seen
    assert progress.phase == 0
    assert 0.0 < progress.at_s < progress.total_s == 0.2
    assert progress.in_flight == progress.phases[0].sent > 0
    assert progress.p50_ms is None


@pytest.mark.parametrize("shape", [{"chunked": True}, {"until_close": True}, {"as_json": True, "keep_alive": False}])
def test_servers_of_others_may_answer_in_their_own_way(shape: dict[str, bool], serving: Any, behaviour: Any) -> None:
    """Chunked, or up to the end of the connection, or closing it after each answer."""
    kind = behaviour(**({"as_json": True} | shape))
    result, _, _ = replay(serving, lambda _: kind, Phase("a", 100.0, 0.05, Even()))
    (phase,) = result.phases
    assert (phase.answered, phase.accuracy) == (5, 1.0)


def test_a_trace_is_replayed_as_one_phase(serving: Any, behaviour: Any) -> None:
    trace = parse_trace("ramp:from=0,to=400,seconds=0.3,process=even")
    result, server, progress = replay(serving, lambda _: behaviour(headers=ANSWERED), trace=trace)
    (phase,) = result.phases
    assert (phase.name, phase.seconds) == ("trace", 0.3)
    assert phase.rate_per_s == pytest.approx(200.0)
    assert phase.sent == server.seen["infer"] == progress.phases[0].sent == 60
    assert result.trace == trace.label


def test_a_trace_that_is_stopped_has_the_rate_of_what_ran(serving: Any, behaviour: Any) -> None:
    async def stop_soon(run: Replay, server: Any) -> None:
        await server.received.wait()
        run.stop()

    trace = parse_trace("levels:rates=50/5000,each=3600")
    result, _, _ = replay(serving, lambda _: behaviour(headers=ANSWERED), during=stop_soon, trace=trace)
    assert result.stopped
    assert result.phases[0].rate_per_s == pytest.approx(50.0)


def test_a_trace_whose_file_breaks_on_the_way_ends_the_run_with_the_reason(
    tmp_path: Path, serving: Any, behaviour: Any
) -> None:
    file = tmp_path / "times.txt"
    file.write_text("0.01\n0.02\n0.03\n")
    trace = parse_trace(f"file:path={file},format=timestamps")
    file.write_text("0.01\n0.02\noops\n")
    with pytest.raises(ConfigError, match=r"times.txt:3: 'oops'"):
        replay(serving, lambda _: behaviour(headers=ANSWERED), trace=trace)


def test_each_request_tells_what_is_left_of_its_deadline(serving: Any, behaviour: Any) -> None:
    """One connection, held for 100 ms by the first: the others wait for 60 ms or more, and have so much less left."""
    result, server, _ = held_up(serving, behaviour, 0.05, deadline_ms=500.0)
    left = [float(headers["x-request-timeout-seconds"]) for headers in server.headers]
    assert 0.0 < left[0] <= 0.5
    assert all(0.0 < other <= 0.44 for other in left[1:])
    for body, seconds in zip(server.bodies, left, strict=True):
        document = msgspec.json.decode(body[: body.index(b"]}") + 2])
        assert document["parameters"] == {"timeout": round(seconds * 1e6), "binary_data_output": True}
    assert result.deadline_ms == 500.0


def test_recorded_requests_carry_an_id(serving: Any, behaviour: Any) -> None:
    _, server, _ = replay(
        serving, lambda _: behaviour(headers=ANSWERED), Phase("a", 100.0, 0.03, Even()), record="unused.csv", seed=5
    )
    assert [headers["x-request-id"] for headers in server.headers] == ["replay-5-0", "replay-5-1", "replay-5-2"]


def test_without_deadline_or_record_nothing_is_added(serving: Any, behaviour: Any) -> None:
    _, server, _ = replay(serving, lambda _: behaviour(headers=ANSWERED), Phase("a", 100.0, 0.02, Even()))
    assert set(server.headers[0]) == {"host", "content-type", "content-length", "inference-header-content-length"}


def test_what_the_server_says_of_the_first_failure_is_told(serving: Any, behaviour: Any) -> None:
    result, _, _ = replay(serving, lambda _: behaviour(400), Phase("a", 100.0, 0.05, Even()))
    assert "5 requests failed (http_400); the first one with: no" in result.problems


def test_a_load_generator_that_cannot_keep_up_says_so(serving: Any, behaviour: Any) -> None:
    """The event loop is held up by another, so it turns to its requests too late."""

    async def hold_up(run: Replay, server: Any) -> None:
        await server.received.wait()
        end = monotonic() + 0.15
        while monotonic() < end:
            pass

    result, _, _ = replay(
        serving, lambda _: behaviour(headers=ANSWERED), Phase("a", 100.0, 0.2, Even()), during=hold_up
    )
    assert result.kept_up is False
    assert result.phases[0].behind_ms.max is not None
    assert result.phases[0].behind_ms.max > 100.0
    assert result.problems[0].startswith("a: the load generator itself could not keep up: it was ")


def test_waiting_for_a_connection_is_not_the_load_generators_own_lateness(serving: Any, behaviour: Any) -> None:
    result, _, _ = held_up(serving, behaviour, 0.1)
    (phase,) = result.phases
    assert phase.lag_ms.max is not None
    assert phase.behind_ms.max is not None
    assert phase.behind_ms.max < phase.lag_ms.max
