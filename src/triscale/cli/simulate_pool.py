"""Simulations in parallel processes: one worker per core, each given one task after the other.

Workers are spawned and do not hear Ctrl-C: the command does, and ends them. What goes wrong in one task is its own
result; the others go on.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from triscale.cli.simulate_scenario import Scenario
from triscale.errors import ConfigError, TriscaleError
from triscale.sim.result import Result

__all__ = ["Task", "run_all"]


@dataclass(frozen=True, slots=True)
class Task:
    """One policy with one seed."""

    policy: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Progress:
    part: float


@dataclass(frozen=True, slots=True)
class _Failed:
    problems: tuple[str, ...]


class _Worker:
    """A process and the end of its pipe, with the task that it is at."""

    def __init__(self, scenario: Scenario) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, scenario), daemon=True)
        # A disposition to ignore is inherited, so a worker that is just starting has no traceback to show either.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        theirs.close()
        self.task = -1

    def give(self, number: int, task: Task) -> None:
        self.task = number
        try:
            self.pipe.send(task)
        except OSError:
            pass  # it died; its pipe says so when it is read

    def take(self) -> _Progress | Result | _Failed:
        """The next message; a death is a failure of the task."""
        try:
            message: _Progress | Result | _Failed = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            if code < 0:
                return _Failed((f"its process was killed by signal {-code}; was there enough memory?",))
            return _Failed((f"its process ended with status {code}; what it wrote above says why",))
        return message

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def run_all(
    scenario: Scenario, tasks: Sequence[Task], jobs: int, progress: Callable[[int, float], None]
) -> list[Result | ConfigError]:
    """The result of each task, or what was wrong with it, in the order of the tasks.

    `progress` is called with the number of a task and the part of it that is done.
    """
    found: dict[int, Result | ConfigError] = {}
    waiting = iter(enumerate(tasks))
    workers: dict[Connection, _Worker] = {}

    def start_or_stop(worker: _Worker | None) -> None:
        """Give the worker (None: a new one) the next task; without one it is sent home."""
        following = next(waiting, None)
        if following is not None:
            worker = worker or _Worker(scenario)
            workers[worker.pipe] = worker
            worker.give(*following)
        elif worker is not None:
            del workers[worker.pipe]
            worker.stop()

    try:
        for _ in range(min(jobs, len(tasks))):
            start_or_stop(None)
        while workers:
            for pipe in wait(list(workers)):
                assert isinstance(pipe, Connection)
                worker = workers[pipe]
                message = worker.take()
                if isinstance(message, _Progress):
                    progress(worker.task, message.part)
                    continue
                found[worker.task] = ConfigError(*message.problems) if isinstance(message, _Failed) else message
                if worker.process.is_alive():
                    start_or_stop(worker)
                else:
                    del workers[pipe]
                    worker.stop()
                    start_or_stop(None)
    finally:
        for worker in workers.values():
            worker.stop()
    return [found[number] for number in range(len(tasks))]


def _work(pipe: Connection, scenario: Scenario) -> None:
    """The worker: tasks in, progress and results out, until the pipe closes."""
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(scenario.run(task.policy, task.seed, task.options, lambda part: pipe.send(_Progress(part))))
        except TriscaleError as error:
            pipe.send(_Failed(error.problems if isinstance(error, ConfigError) else (str(error),)))
