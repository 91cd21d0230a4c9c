"""Slower cold starts, slower resizes, burstier loads: what they do to the policies, and which axis carries the load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.papers.experiment import Contender, Lab, Run
from benchmarks.papers.joint import JOINT_LOAD
from benchmarks.papers.section import Section
from benchmarks.papers.settings import TRISCALE, peak_rate
from benchmarks.papers.tables import axes_table, sweep_table
from benchmarks.papers.worlds import Case, joint_case, themis_cases
from triscale.traces.spec import parse_trace

__all__ = ["sweeps"]

_COLD_STARTS_S = (1.0, 3.0, 6.0, 15.0, 30.0)
_RESIZES_S = (0.05, 0.2, 1.0, 2.0, 5.0)
_CV2 = (1, 4, 16)
_SURGES: Mapping[str, str] = {
    "none: 150 throughout": "poisson:rate=150,seconds=240",
    "to 220": "mmpp:rates=80/220,dwell=20/15,seconds=240,seed=1",
    "to 220 and 600": JOINT_LOAD,
    "to 1200, of 2 s": "mmpp:rates=80/1200,dwell=20/2,seconds=240,seed=1",
}
_MOST_SEEDS = 2
_FIGURES = "violations %, accuracy %, thousands of core-seconds"


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One thing changed, all else kept."""

    title: str
    cases: Mapping[str, Case]
    """Value -> case; no two cases of the experiment have the same name."""
    contenders: Sequence[Contender]


def sweeps(lab: Lab) -> Section:
    """Run it."""
    every = list(_sweeps())
    seeds = list(lab.seeds)[:_MOST_SEEDS]
    found = lab.run(
        [
            Run(lab.shortened(case), who, seed)
            for sweep in every
            for case in sweep.cases.values()
            for who in sweep.contenders
            for seed in seeds
        ]
    )
    blocks = []
    for sweep in every:
        axes = axes_table([(value, found.of(case, TRISCALE)) for value, case in sweep.cases.items()])
        blocks.append(f"**{sweep.title}** ({_FIGURES}):\n\n{sweep_table(sweep.cases, sweep.contenders, found)}")
        blocks.append(f"`triscale`'s axes:\n\n{axes}")
    return Section("sweeps", blocks)


def _sweeps() -> Iterator[_Sweep]:
    video = themis_cases()[0]
    on_video = [
        TRISCALE,
        Contender("themis", "revision 2025, peak of 10 s", {"revision": 2025, "window_s": 10.0}),
        Contender("horizontal", "revision 2025", {"revision": 2025}),
        Contender("vertical", "replicas for the peak", {"replicas": "peak", "peak_rate": peak_rate(video)}),
    ]
    joint = joint_case("joint", JOINT_LOAD)
    on_joint = [
        TRISCALE,
        Contender("loki", "every 20 s", {"interval_s": 20.0}),
        Contender("proteus", "every 30 s", {"interval_s": 30.0}),
    ]
    yield from _delays(video, on_video)
    bursts = {f"{cv2}": f"{video.trace.name},cv2={cv2}" for cv2 in _CV2}
    yield _loads("squared coefficient of variation of the gaps between requests", video, bursts, on_video)
    yield from _delays(joint, on_joint)
    yield _loads("surges, requests/s", joint, _SURGES, on_joint)


def _delays(case: Case, contenders: Sequence[Contender]) -> Iterator[_Sweep]:
    cold = {f"{s:g}": case.named(f"{case.name}, cold start {s:g} s", cold_start_s=s) for s in _COLD_STARTS_S}
    yield _Sweep(f"{case.name}: cold start, s", cold, contenders)
    resize = {f"{s:g}": case.named(f"{case.name}, resize {s:g} s", resize_s=s) for s in _RESIZES_S}
    yield _Sweep(f"{case.name}: resize, s", resize, contenders)


def _loads(what: str, case: Case, loads: Mapping[str, str], contenders: Sequence[Contender]) -> _Sweep:
    cases = {
        value: replace(case, name=f"{case.name}, {what} {value}", trace=parse_trace(load))
        for value, load in loads.items()
    }
    return _Sweep(f"{case.name}: {what}", cases, contenders)
