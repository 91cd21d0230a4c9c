"""Real server, real replicas, real HTTP: what goes in comes out; what goes wrong is told, and harms nobody else."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import REPOSITORY, Serve, alive, children

pytestmark = pytest.mark.processes

Echo = Callable[..., Path]


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a process to do something that nothing announces; fails when it never does."""
    stop = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        stop.wait(0.02)
    raise AssertionError("it never came true")


def test_a_request_is_answered_with_what_it_sent(serve: Serve, echo: Echo) -> None:
    server = serve(echo())
    status, headers, body = server.infer([1.5, 2.5])
    assert status == 200
    assert body["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}]
    assert headers["triscale-outcome"] == "answered"
    assert body["parameters"]["triscale_variants"] == "work=only"


def test_items_come_back_in_the_order_in_which_they_were_emitted(serve: Serve, echo: Echo) -> None:
    server = serve(echo(split=True))
    values = [float(v) for v in range(50)]
    status, _, body = server.infer(values)
    assert (status, body["outputs"][0]["data"]) == (200, values)


def test_a_model_that_raises_fails_its_request_alone(serve: Serve, echo: Echo) -> None:
    server = serve(echo(sleep_ms=20))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        values = [666.0 if i == 7 else float(i) for i in range(16)]
        answers = list(pool.map(lambda value: server.infer([value]), values))
    for value, (status, headers, body) in zip(values, answers, strict=True):
        if value == 666.0:
            assert (status, headers["triscale-outcome"], headers["triscale-reason"]) == (500, "failed", "model_error")
            assert "failed at stage 'work': the model raised an error" in body["error"]
            assert "the devil's number" in body["error"]
        else:
            assert (status, body["outputs"][0]["data"]) == (200, [value])


def test_a_wrong_number_of_results_is_named(serve: Serve, echo: Echo) -> None:
    server = serve(echo(results=3))
    status, headers, body = server.infer([1.0])
    assert (status, headers["triscale-reason"]) == (500, "model_error")
    assert "3" in body["error"]
    assert "1" in body["error"]


def test_an_item_that_the_model_rejects_is_the_clients_mistake(serve: Serve, echo: Echo) -> None:
    server = serve(echo())
    status, headers, body = server.infer([400.0])
    assert (status, headers["triscale-reason"]) == (400, "rejected")
    assert body["error"] == "rejected at stage 'work': 400 is not a number we like"


def test_a_model_that_exits_the_process_costs_its_request_and_nobody_elses(serve: Serve, echo: Echo) -> None:
    server = serve(echo(slo_ms=20_000, sleep_ms=20), "--cores", "1")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        values = [667.0 if i == 3 else float(i) for i in range(8)]
        answers = list(pool.map(lambda value: server.infer([value]), values))
    ends = {
        value: (status, headers["triscale-reason"]) for value, (status, headers, _) in zip(values, answers, strict=True)
    }
    assert ends[667.0] == (500, "replica_lost")
    assert server.infer([1.0])[0] == 200
    assert {end for value, end in ends.items() if value != 667.0} == {(200, None)}


def test_a_model_that_never_returns_is_killed_and_replaced(serve: Serve, echo: Echo) -> None:
    server = serve(echo(slo_ms=500), "--set", "dispatch.hang_floor_s=1.0")
    (before,) = server.replicas()
    status, headers, _ = server.infer([668.0])
    assert (status, headers["triscale-outcome"]) == (504, "dropped")
    until(lambda: server.replicas() not in ([before], []))
    until(lambda: server.request("GET", "/v2/health/ready")[0] == 200)
    assert server.infer([1.0])[0] == 200


def test_a_model_that_cannot_load_is_an_error_at_the_start(echo: Echo) -> None:
    file = echo(fail="true")
    run = subprocess.run(
        [sys.executable, "-m", "triscale", "serve", str(file), "--port", "0", "--metrics-port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert "the weights are missing" in run.stderr
    assert "Traceback (most recent call last):\n  File" not in run.stderr.split("error:")[-1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_replicas_that_die_or_freeze_under_load_lose_no_request(
    serve: Serve, echo: Echo, number: signal.Signals
) -> None:
    server = serve(echo(slo_ms=60_000, sleep_ms=5, split=True, extra="retries: 10"))
    stop = threading.Event()
    ends: Counter[tuple[int, bool]] = Counter()
    lock = threading.Lock()

    def client(index: int) -> None:
        value = 0
        while not stop.is_set():
            value += 1
            values = [float(index), float(value)]
            status, _, body = server.infer(values)
            with lock:
                ends[status, status == 200 and body["outputs"][0]["data"] == values] += 1

    threads = [threading.Thread(target=client, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    try:
        rounds = 6 if number == signal.SIGKILL else 1
        for turn in range(rounds):
            until(lambda: len(server.replicas()) == 2 and server.request("GET", "/v2/health/ready")[0] == 200)
            done = ends.total()
            until(lambda done=done: ends.total() > done + 20)  # type: ignore[misc]
            victim = server.replicas()[turn % 2]
            os.kill(victim, number)
            until(lambda victim=victim: not alive(victim))  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(ends) == {(200, True)}, "every request was answered, with its own answer"
    assert server.outcomes()["answered"] == ends.total(), "none lost, none answered twice"
    assert f'triscale_replica_exits_total{{pipeline="echo"}} {rounds}.0' in server.metrics()


def test_killing_the_server_leaves_nothing_behind(serve: Serve, echo: Echo) -> None:
    before = set(Path("/dev/shm").iterdir())
    server = serve(echo(split=True))
    replicas = server.replicas()
    assert len(replicas) == 2
    server.infer([1.0] * 100_000)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(alive(pid) for pid in replicas))
    assert set(Path("/dev/shm").iterdir()) == before
    # The kernel may take a moment longer over the sockets of a dead process than over the process.
    until(lambda: f"@triscale-{server.process.pid}-" not in Path("/proc/net/unix").read_text())


def test_the_process_that_decides_may_die_and_is_replaced_and_no_request_fails(serve: Serve, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        "name: slow\nslo_ms: 20000\nstages:\n  work:\n    variants:\n"
        "      - {name: only, runtime: emulated, latency_ms: {1: 5}, max_batch: 1}\n"
    )
    server = serve(pipeline, "--policy", "triscale", "--cores", "2")
    stop = threading.Event()
    ends: Counter[int] = Counter()

    def client() -> None:
        while not stop.is_set():
            ends[server.infer([1.0])[0]] += 1

    def ticks() -> float:
        lines = [line for line in server.metrics().splitlines() if line.startswith("triscale_control_ticks_total{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        for _ in range(2):
            until(lambda: bool(server.deciders()))
            done = ticks()
            until(lambda done=done: ticks() > done + 2)  # type: ignore[misc]
            (victim,) = server.deciders()
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: server.deciders() not in ([victim], []))  # type: ignore[misc]
        done = ticks()
        until(lambda: ticks() > done + 2)
    finally:
        stop.set()
        thread.join()
    assert set(ends) == {200}
    assert 'triscale_control_failed_ticks_total{pipeline="slow"} 2.0' in server.metrics()
    (last,) = server.deciders()
    errors = server.stop(signal.SIGINT)
    assert errors.count("was killed by SIGKILL; the last plan stays in force") == 2
    assert server.process.returncode == 0
    assert not alive(last)


def test_when_the_server_is_killed_what_decides_for_it_is_gone_too(serve: Serve, tmp_path: Path) -> None:
    server = serve("examples/traffic_analysis", "--policy", "triscale", "--nodes", "1x8")
    until(lambda: bool(server.deciders()))
    (decider,) = server.deciders()
    server.process.kill()
    server.process.wait()
    until(lambda: not alive(decider))


def test_sigterm_lets_requests_in_progress_finish(serve: Serve, echo: Echo) -> None:
    server = serve(echo(slo_ms=20_000, sleep_ms=600))
    replicas = server.replicas()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.infer, [1.0])
        until(lambda: 'triscale_stage_items_running{pipeline="echo",stage="work"} 1.0' in server.metrics())
        errors = server.stop()
        assert answer.result()[0] == 200
    assert server.process.returncode == 0
    assert "Traceback" not in errors
    assert not any(alive(pid) for pid in replicas)


def test_overload_is_refused_at_once_and_goodput_stays(serve: Serve, echo: Echo) -> None:
    server = serve(echo(slo_ms=400, sleep_ms=40), "--cores", "1", "--set", "stages.work.variants[0].max_batch=1")
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        answers = list(pool.map(lambda value: server.infer([float(value)]), range(480)))
    ends = Counter((status, headers["triscale-outcome"], headers["triscale-reason"]) for status, headers, _ in answers)
    assert ends[200, "answered", None] >= 8
    assert ends[429, "shed", "overloaded"] >= 100
    refused = next(headers for status, headers, _ in answers if status == 429)
    assert int(refused["Retry-After"]) >= 1
    counted = server.outcomes()
    assert {end[1]: 0 for end in ends}.keys() <= set(counted)
    by_outcome: Counter[str] = Counter()
    for (_, outcome, _), count in ends.items():
        by_outcome[outcome] += count
    assert {outcome: count for outcome, count in counted.items() if count} == dict(by_outcome)


def test_a_deadline_of_the_client_is_kept(serve: Serve, echo: Echo) -> None:
    server = serve(echo(slo_ms=20_000, sleep_ms=300))
    status, headers, _ = server.infer([1.0], headers={"triscale-timeout-ms": "100"})
    assert (status, headers["triscale-outcome"], headers["triscale-reason"]) == (504, "dropped", "expired")


def test_a_taken_port_is_an_error_that_says_so(serve: Serve, echo: Echo) -> None:
    server = serve(echo())
    port = server.url.rsplit(":", 1)[1]
    run = subprocess.run(
        [sys.executable, "-m", "triscale", "serve", str(echo()), "--port", port, "--metrics-port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; stop what uses it, or choose another" in run.stderr
    )


def test_a_server_that_is_stopped_while_it_starts_stops(echo: Echo) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale", "serve", str(echo()), "--port", "0", "--metrics-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    until(lambda: bool(children(process.pid)))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode in (0, 1)
    assert not children(process.pid)
