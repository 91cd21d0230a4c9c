"""A run under load, live in the terminal: a panel that redraws itself, or plain lines where there is no terminal.

Views only show; they know neither processes nor servers. Everything goes to one console, so that `--json` can keep
standard output for the document and send the view to standard error.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triscale.cli.live_axes import axes_lines, axes_words
from triscale.cli.live_state import LiveState
from triscale.observe.wording import count, milliseconds, percent
from triscale.traces.messages import Progress

__all__ = ["OUTCOME_STYLES", "LinesView", "PanelView", "View", "view_for"]

OUTCOME_STYLES = {
    "answered": "cyan",
    "late": "yellow",
    "dropped": "orange3",
    "shed": "bright_black",
    "failed": "red",
    "cancelled": "bright_black",
}
_BARS = " ▁▂▃▄▅▆▇█"
_HISTORY = 240
"""Moments remembered for the curve: a minute."""
_LINE_EVERY_S = 1.0
_BEHIND_MS = 20.0
"""The load generator's own lateness that is worth a remark."""


class View(Protocol):
    """Shows the steps of a command and, while load runs, its state."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, text: str, detail: str = "") -> None:
        """Something was done; the line stays."""
        ...

    def warn(self, text: str) -> None:
        """Something that whoever reads it should know; the line stays."""
        ...

    def busy(self, text: str) -> None:
        """Something is being done; the line goes when the next thing is shown."""
        ...

    def show(self, state: LiveState) -> None:
        """The run now."""
        ...


def view_for(console: Console) -> View:
    """A panel in a terminal, plain lines elsewhere."""
    return PanelView(console) if console.is_terminal and not console.is_dumb_terminal else LinesView(console)


class LinesView:
    """One line for each step, and one a second while load runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_at = -_LINE_EVERY_S
        self._phase = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def step(self, text: str, detail: str = "") -> None:
        """Print it."""
        self._line(f"{text}: {detail}" if detail else text)

    def warn(self, text: str) -> None:
        """Print it."""
        self._line(f"warning: {text}")

    def busy(self, text: str) -> None:
        """Nothing: a log needs no spinner."""

    def show(self, state: LiveState) -> None:
        """One line a second, and one at the start of each phase."""
        progress = state.progress
        if progress.phase == self._phase and progress.at_s - self._shown_at < _LINE_EVERY_S:
            return
        self._phase, self._shown_at = progress.phase, progress.at_s
        outcomes = ", ".join(f"{count(state.total(outcome))} {outcome}" for outcome in OUTCOME_STYLES)
        self._line(
            f"{progress.at_s:6.1f} s  {state.phase.name}: {count(state.total('sent'))} sent, {outcomes}; "
            f"attainment {percent(state.attainment)}, arrivals {count(progress.rate_per_s)}/s, "
            f"goodput {count(progress.goodput_per_s)}/s, p50 {milliseconds(progress.p50_ms)}, "
            f"p99 {milliseconds(progress.p99_ms)}{_behind(progress)}"
            + (f"; {axes_words(state.status)}" if state.status is not None else "")
        )

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class PanelView:
    """Steps scroll by above a panel that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._goodput: deque[float] = deque(maxlen=_HISTORY)
        self._rate: deque[float] = deque(maxlen=_HISTORY)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(Text(""))
        self._live.stop()

    def step(self, text: str, detail: str = "") -> None:
        """A line with a tick, above the panel."""
        self._live.update(Text(""))
        self._goodput.clear()
        self._rate.clear()
        line = Text.assemble(("✓ ", "green"), text)
        if detail:
            line.append(f"  {detail}", "bright_black")
        self._console.print(line)

    def warn(self, text: str) -> None:
        """A line with a mark, above the panel."""
        self._console.print(Text.assemble(("! ", "yellow"), text))

    def busy(self, text: str) -> None:
        """A line that will go."""
        self._live.update(Text.assemble(("· ", "cyan"), (text, "bright_black")))

    def show(self, state: LiveState) -> None:
        """Redraw the panel."""
        self._goodput.append(state.progress.goodput_per_s)
        self._rate.append(state.progress.rate_per_s)
        self._live.update(Padding(Group(*self._rows(state)), (1, 2, 0, 2)))

    def _rows(self, state: LiveState) -> list[Text | Table | _Curve]:
        rows: list[Text | Table | _Curve] = [_phase_line(state), Text(""), _outcomes(state), Text("")]
        ceiling = max(*self._rate, *self._goodput, state.ceiling_per_s or 0.0, 1e-9)
        most = f"; the best variants carry {count(state.ceiling_per_s)}/s" if state.ceiling_per_s else ""
        rows.append(_Curve("arrivals", self._rate, ceiling, f"{count(self._rate[-1])}/s{most}", "bright_black"))
        rows.append(_Curve("goodput", self._goodput, ceiling, f"{count(self._goodput[-1])}/s", "cyan"))
        rows.append(_latency_line(state))
        rows.append(_attainment_line(state))
        if state.status is not None:
            rows += [Text(""), *axes_lines(state.status)]
        elif state.stages:
            rows += [Text(""), _stages(state)]
        for row in rows:
            if isinstance(row, Text):
                row.no_wrap, row.overflow = True, "ellipsis"
        return rows


class _Curve:
    """A name, as much of a curve as there is room for, newest at the right, and its last value."""

    def __init__(self, name: str, values: deque[float], ceiling: float, label: str, style: str) -> None:
        self._name = name
        self._values = values
        self._ceiling = ceiling
        self._label = label
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = min(48, max(8, options.max_width - 48))
        recent = list(self._values)[-room:]
        bars = "".join(_BARS[round((len(_BARS) - 1) * min(1.0, value / self._ceiling))] for value in recent)
        yield Text.assemble(f"{self._name:<10}", (f"{bars:>{room}}", self._style), f"  {self._label}")


def _phase_line(state: LiveState) -> Text:
    progress, phase = state.progress, state.phase
    width = 32
    share = min(1.0, progress.phase_at_s / phase.seconds)
    full = round(width * share)
    left = f"{state.left_s:.0f} s left" if state.left_s > 0.0 else f"waiting for {count(progress.in_flight)} answers"
    place = f"{progress.phase + 1}/{len(progress.phases)} "
    return Text.assemble(
        (place, "bright_black"),
        (f"{phase.name}  ", "bold"),
        ("━" * full, "cyan"),
        ("─" * (width - full), "bright_black"),
        f"  {left}",
        (f"  at {count(phase.rate_per_s)} requests/s", "bright_black"),
    )


def _outcomes(state: LiveState) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    names = ["sent", *(name for name in OUTCOME_STYLES if name != "cancelled" or state.total(name)), "in flight"]
    numbers = [state.progress.in_flight if name == "in flight" else state.total(name) for name in names]
    table.add_row(*(Text(name, "bright_black", justify="right") for name in names))
    table.add_row(
        *(
            Text(count(number), OUTCOME_STYLES.get(name, "bold") if number else "bright_black", justify="right")
            for name, number in zip(names, numbers, strict=True)
        )
    )
    return table


def _latency_line(state: LiveState) -> Text:
    p50, p99 = state.progress.p50_ms, state.progress.p99_ms
    mood = "" if p99 is None else "green" if p99 <= state.slo_ms else "red"
    return Text.assemble(
        f"{'latency':<10}",
        f"p50 {milliseconds(p50)}   p99 ",
        (milliseconds(p99), mood),
        (f"   objective {milliseconds(state.slo_ms)}", "bright_black"),
    )


def _attainment_line(state: LiveState) -> Text:
    share = f"{percent(state.attainment)} answered in time so far"
    return Text.assemble(f"{'attained':<10}{share}", (_behind(state.progress), "yellow"))


def _behind(progress: Progress) -> str:
    """A remark when the load generator itself is late."""
    return f"; load generator {milliseconds(progress.behind_ms)} behind" if progress.behind_ms > _BEHIND_MS else ""


def _stages(state: LiveState) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    table.add_column("stage")
    for name in ("waiting", "cores at work", "items/s"):
        table.add_column(name, justify="right")
    for stage in state.stages:
        table.add_row(stage.name, count(stage.queue), f"{stage.busy_cores:.2f}", f"{stage.items_per_s:.1f}")
    return table
