"""Lanes: threads that take turns at leading.

The leader blocks on the socket. When a batch arrives it lets another thread lead and runs the batch itself, so that
no batch waits for a thread to wake up. There is one thread more than there are lanes: even when every lane is busy,
somebody reads the socket and acts on control frames.

`Lanes` knows neither sockets nor models: it is given `lead` (block until something arrives, `submit` the batches
among it; False when nothing more will come), `execute` (run one batch; must not raise) and `drop` (a batch that will
not be run, because nobody is left to be answered).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Lanes"]

Job = TypeVar("Job")


class Lanes(Generic[Job]):
    """Runs at most `limit` jobs at once, in the order in which they were submitted."""

    def __init__(
        self,
        lanes: int,
        lead: Callable[[], bool],
        execute: Callable[[Job], None],
        drop: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        self._lead = lead
        self._execute = execute
        self._drop = drop
        self._leading = threading.Lock()  # held by the leader; the others queue for it
        self._state = threading.Lock()  # guards all below, never held while anything blocks
        self._limit = lanes
        self._wanted_threads = lanes + 1
        self._threads = 0
        self._running = 0
        self._waiting: deque[Job] = deque()
        self._settled: tuple[int, Callable[[], None]] | None = None
        self._on_idle: Callable[[], None] | None = None
        self._over = False

    @property
    def running(self) -> int:
        """Lanes that run a job now."""
        return self._running

    def start(self) -> None:
        """Start the threads. They are daemons: the process does not wait for a model that never returns."""
        self.open(self._limit)

    def submit(self, job: Job) -> None:
        """Queue a job. Only `lead` may call this."""
        with self._state:
            self._waiting.append(job)

    def open(self, lanes: int) -> None:
        """From now on `lanes` jobs may run at once; threads come and go to fit."""
        jobs: list[Job | None] = []
        with self._state:
            self._limit = lanes
            self._wanted_threads = lanes + 1
            # The leader may be blocked, unaware that there are lanes now for what waits: new threads take it.
            while self._waiting and self._running < lanes:
                self._running += 1
                jobs.append(self._waiting.popleft())
            jobs += [None] * (self._wanted_threads - self._threads - len(jobs))
            self._threads += len(jobs)
        for job in jobs:
            threading.Thread(target=self._work, args=(job,), name="lane", daemon=True).start()

    def restrict(self, limit: int, then: Callable[[], None]) -> None:
        """Let at most `limit` jobs run, and call `then` as soon as no more do: now, or in the lane that ends.

        A newer call replaces an older one, whose `then` is not called any more.
        """
        with self._state:
            self._limit = min(self._limit, limit)
            settled = self._running <= limit
            self._settled = None if settled else (limit, then)
        if settled:
            then()

    def finish(self, then: Callable[[], None]) -> None:
        """Call `then` as soon as every job submitted so far is done."""
        with self._state:
            done = not self._running and not self._waiting
            if not done:
                self._on_idle = then
        if done:
            then()

    def _work(self, job: Job | None) -> None:
        while True:
            while job is not None:
                self._execute(job)
                job = self._after()
            with self._leading:
                job = self._next()
            # The lock is free: the next thread leads while this one runs the job.
            if job is None:
                return

    def _next(self) -> Job | None:
        """Lead until there is a job and a lane for it; None when this thread is no longer needed."""
        while True:
            with self._state:
                surplus = self._threads > self._wanted_threads and self._threads - self._running > 1
                if self._over or surplus:
                    self._threads -= 1
                    return None
                if self._waiting and self._running < self._limit:
                    self._running += 1
                    return self._waiting.popleft()
            if not self._lead():
                with self._state:
                    self._over = True
                    dropped = list(self._waiting)
                    self._waiting.clear()
                for job in dropped:
                    self._drop(job)

    def _after(self) -> Job | None:
        """A job is done: the next one for the same lane, or None to queue for the lead again."""
        calls: list[Callable[[], None]] = []
        with self._state:
            if self._waiting and self._running <= self._limit:
                return self._waiting.popleft()
            self._running -= 1
            if self._settled is not None and self._running <= self._settled[0]:
                calls.append(self._settled[1])
                self._settled = None
            if self._on_idle is not None and not self._running and not self._waiting:
                calls.append(self._on_idle)
                self._on_idle = None
        for call in calls:
            call()
        return None
