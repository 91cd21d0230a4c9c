"""One policy, live and simulated, on the very same arrivals."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.live.cases import Experiment, Moments, contender, moments_of
from benchmarks.live.setup import Ready, Report, Setup
from triscale.app.simulation import run_simulation
from triscale.errors import TriscaleError
from triscale.sim.result import Result
from triscale.traces.job import Job
from triscale.traces.launch import ReplayProcess
from triscale.traces.messages import Finished
from triscale.traces.payload import Synthetic, TensorMetadata
from triscale.traces.readers.timestamps import count_timestamps
from triscale.traces.results import PhaseResult, ReplayResult
from triscale.traces.trace import Recorded
from triscale.traces.writer import recording

__all__ = ["Pair", "live_and_simulated"]

_STOP_S = 60.0
_PAYLOAD = Synthetic(inputs=(TensorMetadata(name="x", datatype="FP32", shape=(1,)),))


@dataclass(frozen=True, slots=True)
class Pair:
    """Both runs of one policy."""

    policy: str
    setting: str
    replay: ReplayResult
    """What the load generator saw, in real time."""
    report: Report
    simulated: Result
    dilation: float

    @property
    def phase(self) -> PhaseResult:
        """The whole replay."""
        (phase,) = self.replay.phases
        return phase

    @property
    def live_violations(self) -> float:
        """Part of all requests that were not answered in time, as the server counts them."""
        return 1.0 - self.phase.answered / max(1, self.phase.sent)

    @property
    def simulated_violations(self) -> float:
        """The same in the simulation."""
        return self.simulated.violations.total / max(1, self.simulated.requests)

    @property
    def seen_late(self) -> float:
        """Part of all requests that the server counts as answered in time and the client does not."""
        return self.phase.late_at_client / max(1, self.phase.sent)

    @property
    def live_p99_ms(self) -> float | None:
        """Of all answers, as the client sees it, in the server's time."""
        p99 = self.phase.latency_ms.p99
        return None if p99 is None else p99 / self.dilation

    @property
    def agrees(self) -> bool:
        """Whether the violation ratios are within 2 points, or a quarter, of each other."""
        apart = abs(self.live_violations - self.simulated_violations)
        return apart <= max(0.02, 0.25 * self.simulated_violations)


async def live_and_simulated(case: str, experiment: Experiment, policy: str, seed: int) -> Pair:
    """Run both. TriscaleError with the server's last words when it does not serve."""
    moments = moments_of(experiment.case, experiment.start_s, experiment.seconds, seed)
    setup = Setup(
        case=case,
        policy=policy,
        dilation=experiment.dilation,
        first_demand=moments.first_demand,
        first_moment=moments.times[0],
        seconds=moments.seconds,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrivals.txt"
        seconds = moments.seconds * experiment.dilation
        for _ in recording((at * experiment.dilation for at in moments.times), path, seconds):
            pass
        replay, report = await _live(setup, experiment, path)
    return Pair(
        policy=policy,
        setting=contender(experiment.case, policy).setting,
        replay=replay,
        report=report,
        simulated=simulated(experiment, policy, moments, seed),
        dilation=experiment.dilation,
    )


def simulated(experiment: Experiment, policy: str, moments: Moments, seed: int) -> Result:
    """The same in the simulator."""
    case, who = experiment.case, contender(experiment.case, policy)
    world = msgspec.structs.replace(case.world, seed=seed, first_demand=moments.first_demand)
    return run_simulation(case.pipeline, case.profile, moments, who.policy, case.nodes, world, who.options)


async def _live(setup: Setup, experiment: Experiment, arrivals: Path) -> tuple[ReplayResult, Report]:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.live.server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(msgspec.json.encode(setup) + b"\n")
        ready = msgspec.json.decode(await _line(server.stdout), type=Ready)
        replay = await _replay(_job(setup, experiment, ready.url, arrivals))
        server.stdin.write(b"stop\n")
        async with asyncio.timeout(_STOP_S * setup.dilation):
            report = msgspec.json.decode(await _line(server.stdout), type=Report)
            await server.wait()
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
    return replay, report


async def _line(stream: asyncio.StreamReader) -> bytes:
    line = await stream.readline()
    if not line:
        raise TriscaleError("the server of the live run ended before it had said what it should; see above")
    return line


def _job(setup: Setup, experiment: Experiment, url: str, arrivals: Path) -> Job:
    """The client lives in real time: everything of it is as much slower as the server's clock."""
    pipeline = experiment.case.pipeline
    return Job(
        url=url,
        model=pipeline.name,
        slo_ms=pipeline.slo_ms * setup.dilation,
        timeout_ms=30_000.0 * setup.dilation,
        trace=Recorded(name=setup.case, shape=count_timestamps(arrivals), path=str(arrivals)),
        payload=_PAYLOAD,
        connections=4096,
        samples=1,
    )


async def _replay(job: Job) -> ReplayResult:
    async with ReplayProcess(job) as generator:
        async for message in generator:
            if isinstance(message, Finished):
                return message.result
    raise TriscaleError("the load generator ended without a result")
