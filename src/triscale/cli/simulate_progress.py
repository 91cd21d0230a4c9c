"""Progress of simulations: bars on standard error, with how much faster than the clock they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from triscale.clock import monotonic

__all__ = ["Bars"]


class Bars:
    """A bar for each policy; a context manager. Nothing is shown where standard error is no terminal."""

    def __init__(self, simulated_s: float) -> None:
        self._simulated_s = simulated_s
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}", style="bright_black"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def add(self, name: str, runs: int = 1) -> Callable[[float], None]:
        """A bar that is not yet begun, for so many runs; call what is returned with how many of them are done."""
        task = self._progress.add_task(name, total=float(runs), start=False, speed="")
        begun: list[float] = []

        def show(done: float) -> None:
            if not begun:
                begun.append(monotonic())
                self._progress.start_task(task)
            taken = monotonic() - begun[0]
            speed = f"{done * self._simulated_s / taken:,.0f}x real time" if taken > 0.2 and done > 0.0 else ""
            self._progress.update(task, completed=done, speed=speed)

        return show
