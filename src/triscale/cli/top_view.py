"""The screen of `triscale top`: what is drawn from a status and a trail of history, for a terminal of a given size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from triscale.cli.sparkline import sparkline
from triscale.cli.status_text import LABEL, decision_rows, facts, figures, headline, mixes, stage_table
from triscale.cli.text_plot import Series, plot_lines
from triscale.observe.history import HistoryDocument
from triscale.observe.status import Status
from triscale.observe.wording import count, milliseconds, percent

__all__ = ["Trail", "screen"]

_MEASURE = Console()
"""Knows how wide characters are; prints nothing."""
_KEPT = 600
_COLUMNS = (
    "arrivals_per_s",
    "capacity_per_s",
    "answered_per_s",
    "p99_ms",
    "accuracy",
    "cores_start",
    "cores_up",
    "cores_out",
    "queued",
)
_PLOT_ROWS = 7
_PLOT_OVERHEAD = 6
"""Lines that a plot needs besides its canvas."""
_FEWEST_DECISIONS = 3


class Trail:
    """The columns of one server's history that are drawn, joined from what was asked for second by second."""

    def __init__(self) -> None:
        self.started_s = 0.0
        """When the server started."""
        self.last = 0
        """Number of the latest sample: ask for those since it."""
        self.columns: dict[str, deque[float | None]] = {name: deque(maxlen=_KEPT) for name in _COLUMNS}

    def add(self, document: HistoryDocument) -> None:
        """The samples since `last`."""
        self.started_s = document.started_s
        self.last = document.last
        for name, column in self.columns.items():
            column.extend(getattr(document, name))


def screen(status: Status, trail: Trail, width: int, height: int, notice: str = "") -> RenderableType:
    """Everything that fits: figures, stages and curves always, a plot and more decisions where there is room.

    `notice` stands at the top where something is wrong, such as a lost connection.
    """
    width -= 2
    curves = list(_curves(status, trail, width))
    notices = [Text(notice, "bold yellow")] if notice else []
    above = [line for said in (*notices, headline(status), *facts(status)) for line in _wrapped(said, width)]
    above += [Text(""), *(line for figure in figures(status) for line in _wrapped(figure, width, LABEL)), Text("")]
    mix = [Text(""), *mixes(status), Text("")]
    room = height - len(above) - 1 - len(status.stages) - len(mix) - len(curves)
    parts: list[RenderableType] = [*above, stage_table(status, width)]
    parts += [*(_short(line, width) for line in mix), *curves]
    if room >= _PLOT_ROWS + _PLOT_OVERHEAD + _FEWEST_DECISIONS + 1 and any(trail.columns["arrivals_per_s"]):
        plot = _plot(trail, width)
        parts += [Text(""), *plot]
        room -= len(plot) + 1
    if status.decisions and room > 1:
        parts += [Text(""), *(_short(row, width) for row in decision_rows(status.decisions)[: room - 1])]
    return Padding(Group(*parts), (0, 1))


def _curves(status: Status, trail: Trail, width: int) -> Iterator[Text]:
    columns = trail.columns
    cores = [
        (start or 0.0) + (up or 0.0) + (out or 0.0)
        for start, up, out in zip(columns["cores_start"], columns["cores_up"], columns["cores_out"], strict=True)
    ]
    room = min(_KEPT, max(8, width - 30))
    top = _most(columns["arrivals_per_s"], columns["capacity_per_s"])
    capacity = _last(columns["capacity_per_s"])
    yield _curve("capacity", columns["capacity_per_s"], room, top, f"{count(capacity)}/s" if capacity else "", "red")
    yield _curve(
        "arrivals", columns["arrivals_per_s"], room, top, f"{count(_last(columns['arrivals_per_s']) or 0.0)}/s"
    )
    answered = _last(columns["answered_per_s"]) or 0.0
    yield _curve("answered", columns["answered_per_s"], room, top, f"{count(answered)}/s", "cyan")
    late = _most(columns["p99_ms"], [status.slo_ms])
    yield _curve("p99", columns["p99_ms"], room, late, milliseconds(_last(columns["p99_ms"])), "yellow")
    yield _curve("accuracy", columns["accuracy"], room, 1.0, percent(_last(columns["accuracy"])), "green", floor=0.5)
    held = f"{count(status.cores.held)} of {count(status.cores.total)}"
    yield _curve("cores", cores, room, max(status.cores.total, 1.0), held, "magenta")
    yield _curve(
        "queue", columns["queued"], room, _most(columns["queued"], [10.0]), count(_last(columns["queued"]) or 0)
    )


def _curve(
    name: str,
    values: Sequence[float | None],
    room: int,
    ceiling: float,
    label: str,
    style: str = "",
    floor: float = 0.0,
) -> Text:
    return Text.assemble(
        (f"{name:<10}", "bright_black"), (sparkline(values, room, ceiling, floor), style), f"  {label}"
    )


def _plot(trail: Trail, width: int) -> list[Text]:
    """Arrivals against capacity over the seconds until now."""
    arrivals, capacity = list(trail.columns["arrivals_per_s"]), list(trail.columns["capacity_per_s"])
    ago = [float(index - len(arrivals) + 1) for index in range(len(arrivals))]
    nothing = float("nan")
    lines = plot_lines(
        [
            Series("arrivals", ago, [nothing if value is None else value for value in arrivals]),
            Series("capacity of the plan", ago, [nothing if value is None else value for value in capacity]),
        ],
        width=max(24, min(width, 140)),
        height=_PLOT_ROWS,
        y_label="requests/s",
        x_label="seconds",
        y_min=0.0,
    )
    return [Text(line, "bright_black" if index == 0 else "") for index, line in enumerate(lines)]


def _wrapped(line: Text, width: int, indent: int = 0) -> list[Text]:
    """The line in as many as it takes, those after the first indented, where there is room for that."""
    indent = indent if width >= 2 * indent else 0
    head, rest = line[:indent], line[indent:]
    lines = rest.wrap(_MEASURE, max(8, width - indent)) or [Text("")]
    return [Text.assemble(head if number == 0 else " " * indent, part) for number, part in enumerate(lines)]


def _short(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _most(*columns: Sequence[float | None]) -> float:
    return max((value for column in columns for value in column if value is not None), default=1.0) or 1.0
