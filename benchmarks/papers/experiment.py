"""Running: an experiment is a list of independent simulations, which are spread over processes. Nothing is kept."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from benchmarks.papers.worlds import Case
from triscale.app.simulation import Drop, run_simulation
from triscale.sim.result import Result

__all__ = ["Contender", "Lab", "Results", "Run"]


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy with one setting."""

    policy: str
    setting: str = ""
    """In words; empty: its defaults."""
    options: Mapping[str, Any] = field(default_factory=dict)
    drop: Drop | None = None
    """In place of what its system does."""
    admission: bool | None = None
    """Likewise."""

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.policy}, {self.setting}" if self.setting else self.policy


@dataclass(frozen=True, slots=True)
class Run:
    """One contender in one case with one seed."""

    case: Case
    contender: Contender
    seed: int
    min_accuracy: float | None = None

    def __call__(self) -> Result:
        """Simulate."""
        contender, case = self.contender, self.case
        result = run_simulation(
            case.pipeline,
            case.profile,
            case.trace,
            contender.policy,
            case.nodes,
            msgspec.structs.replace(case.world, seed=self.seed),
            contender.options,
            self.min_accuracy,
            drop=contender.drop,
            admission=contender.admission,
        )
        # The decisions are long, and no table has them.
        return msgspec.structs.replace(result, decisions=())

    def __str__(self) -> str:
        return f"{self.case.name}: {self.contender.name}, seed {self.seed}"


class Results:
    """What runs came to, by case and contender; seeds in ascending order."""

    def __init__(self, found: Sequence[tuple[Run, Result]]) -> None:
        self._found: dict[tuple[str, str], list[tuple[int, Result]]] = {}
        for run, result in found:
            self._found.setdefault((run.case.name, run.contender.name), []).append((run.seed, result))

    def of(self, case: Case | str, contender: Contender) -> list[Result]:
        """One per seed."""
        name = case if isinstance(case, str) else case.name
        return [result for _, result in sorted(self._found[name, contender.name], key=lambda pair: pair[0])]


class Task(Protocol):
    """Something to be done in a process: itself, what it returns and what it raises are picklable."""

    def __call__(self) -> Any:
        """Do it."""


T = TypeVar("T")


class Lab:
    """Where experiments are run: so many processes, so many seeds, and whether it is only a rehearsal.

    Use as a context manager. `part` shortens every trace: the same rates, in that part of the time.
    """

    def __init__(self, jobs: int = 1, seeds: int = 3, part: float = 1.0, *, tell: bool = False) -> None:
        self.seeds = range(seeds)
        self.part = part
        self._jobs = jobs
        self._tell = tell
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()
        self._asked = self._done = 0

    def __enter__(self) -> Self:
        if self._jobs > 1:
            # Spawned: forking a program that has threads is not safe.
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def together(self, experiments: Sequence[Callable[[Lab], T]]) -> list[T]:
        """What the experiments return; with several processes none of them waits for another's last run."""
        if self._pool is None:
            return [experiment(self) for experiment in experiments]
        with ThreadPoolExecutor(len(experiments)) as threads:
            return list(threads.map(lambda experiment: experiment(self), experiments))

    def shortened(self, case: Case) -> Case:
        """The case as long as this lab runs it."""
        return case.shortened(self.part)

    def each(
        self, cases: Sequence[Case], contenders: Sequence[Contender], seeds: Iterable[int] | None = None
    ) -> Results:
        """Every contender in every case with every seed."""
        several = list(self.seeds if seeds is None else seeds)
        return self.run([Run(case, who, seed) for case in cases for who in contenders for seed in several])

    def run(self, runs: Sequence[Run]) -> Results:
        """What the runs come to."""
        return Results(list(zip(runs, self.all(runs), strict=True)))

    def all(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """What tasks return, in their order."""
        with self._lock:
            self._asked += len(tasks)
        if self._pool is None:
            return list(self._told(tasks))
        futures: list[Future[T]] = [self._pool.submit(task) for task in tasks]
        for future, task in zip(futures, tasks, strict=True):
            future.add_done_callback(lambda _, task=task: self._finished(task))  # type: ignore[misc]
        return [future.result() for future in futures]

    def _told(self, tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
        for task in tasks:
            yield task()
            self._finished(task)

    def _finished(self, task: object) -> None:
        with self._lock:
            self._done += 1
            if self._tell:
                print(f"{self._done} of {self._asked}: {task}", file=sys.stderr, flush=True)
