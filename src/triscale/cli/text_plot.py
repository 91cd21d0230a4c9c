"""Lines over a number axis, drawn with characters.

One series is drawn in braille dots (2 x 4 dots a character); several share the canvas, so each gets a mark of its own.
Returns lines of text and knows nothing of terminals: the caller prints them, and asks for `plain` where the output
cannot show more than ASCII.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Series", "Span", "plot_lines", "tick_names", "ticks"]

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille character, by row and column."""
_MARKS = "●○▲△◆◇"
_PLAIN_MARKS = "*ox^#%"
_NEAR = 1e-6
"""Part of a step that rounding may take."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: `ys` over `xs`, in order of drawing; a point that is not finite leaves a gap."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"series {self.name!r} has {len(self.xs)} xs and {len(self.ys)} ys, not as many of each")


@dataclass(frozen=True, slots=True)
class Span:
    """A named stretch of the x axis, drawn as a band below it."""

    name: str
    start: float
    stop: float


def plot_lines(
    series: Sequence[Series],
    *,
    width: int = 72,
    height: int = 12,
    x_label: str = "",
    y_label: str = "",
    y_min: float | None = None,
    y_max: float | None = None,
    y_width: int = 0,
    spans: Sequence[Span] = (),
    plain: bool = False,
) -> list[str]:
    """The series as lines of text, none longer than `width`; `height` rows of them are the canvas.

    Args:
        series: what to draw; more than one are told apart by a mark each, named in a legend.
        width: characters of a whole line, the numbers of the y axis included; at least 24.
        height: rows of the canvas, without the axis below it and the labels; at least 3.
        x_label: stands right below the x axis.
        y_label: stands above the y axis.
        y_min: where the y axis begins; by default at a round number below all points.
        y_max: where it ends; by default at a round number above all points.
        y_width: characters that the numbers of the y axis take at least, so that plots stand in line.
        spans: named stretches of the x axis, drawn as one band below it; parts outside the axis are left out.
        plain: draw with ASCII only.

    """
    if width < 24 or height < 3:
        raise ValueError(f"a plot of {width} x {height} characters is too small; it takes at least 24 x 3")
    points = [[(x, y) for x, y in zip(each.xs, each.ys, strict=True)] for each in series]
    finite = [(x, y) for each in points for x, y in each if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ["(nothing to draw)"]
    y_ticks, low, high = _axis([y for _, y in finite], y_min, y_max, max(2, height // 3))
    y_names = tick_names(y_ticks)
    gutter = max(y_width, *(len(name) for name in y_names)) + 2
    left, right = min(x for x, _ in finite), max(x for x, _ in finite)
    if left == right:
        left, right = left - 0.5, right + 0.5
    columns = width - gutter
    frame = _Frame(left, right, low, high, columns, height)
    rows = _braille(points[0], frame) if len(series) == 1 and not plain else _marks(points, frame, plain=plain)
    labels = {frame.row(tick): name for tick, name in zip(y_ticks, y_names, strict=True)}
    wall, tee, corner, flat, notch = "|++-+" if plain else "│┤└─┬"
    lines = [y_label] if y_label else []
    for index, row in enumerate(rows):
        lines.append(f"{labels.get(index, ''):>{gutter - 2}} {tee if index in labels else wall}{row}".rstrip())
    x_ticks = ticks(left, right, max(1, columns // 14))
    axis = [flat] * columns
    for tick in x_ticks:
        axis[frame.column(tick)] = notch
    pad = " " * (gutter - 1)
    lines.append(pad + corner + "".join(axis))
    lines.append(pad + " " + _along(x_ticks, tick_names(x_ticks), frame))
    if spans:
        lines.append(pad + " " + _band(spans, frame, plain=plain))
    if x_label:
        lines.append(pad + " " + x_label.rjust(columns))
    if len(series) > 1:
        lines += _legend([each.name for each in series], pad + " ", width, plain=plain)
    return [line.rstrip()[:width] for line in lines]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What part of the plane the canvas shows, and its size in characters."""

    left: float
    right: float
    low: float
    high: float
    columns: int
    rows: int

    def across(self, x: float, cells: int) -> int:
        """The cell of `cells` that x falls into."""
        return min(cells - 1, max(0, round((x - self.left) / (self.right - self.left) * (cells - 1))))

    def down(self, y: float, cells: int) -> int:
        return min(cells - 1, max(0, round((self.high - y) / (self.high - self.low) * (cells - 1))))

    def column(self, x: float) -> int:
        return self.across(x, self.columns)

    def row(self, y: float) -> int:
        return self.down(y, self.rows)


def _braille(points: Sequence[tuple[float, float]], frame: _Frame) -> list[str]:
    cells = [[0] * frame.columns for _ in range(frame.rows)]
    for across, down in _traced(points, frame, frame.columns * 2, frame.rows * 4):
        cells[down // 4][across // 2] |= _DOTS[down % 4][across % 2]
    return ["".join(chr(_BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def _marks(lines: Sequence[Sequence[tuple[float, float]]], frame: _Frame, *, plain: bool) -> list[str]:
    """Where lines meet, the earlier one is seen: it is the one that a caller names first."""
    cells = [[" "] * frame.columns for _ in range(frame.rows)]
    marks = _PLAIN_MARKS if plain else _MARKS
    for index, points in reversed(list(enumerate(lines))):
        for across, down in _traced(points, frame, frame.columns, frame.rows):
            cells[down][across] = marks[index % len(marks)]
    return ["".join(row) for row in cells]


def _traced(points: Sequence[tuple[float, float]], frame: _Frame, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Every cell that the line through the points crosses."""
    last: tuple[int, int] | None = None
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            last = None
            continue
        cell = frame.across(x, columns), frame.down(y, rows)
        start = cell if last is None else last
        steps = max(abs(cell[0] - start[0]), abs(cell[1] - start[1]), 1)
        for step in range(steps + 1):
            part = step / steps
            yield round(start[0] + (cell[0] - start[0]) * part), round(start[1] + (cell[1] - start[1]) * part)
        last = cell


def ticks(low: float, high: float, most: int, *, outward: bool = False) -> list[float]:
    """Round numbers with at most about `most` steps between them: inside [low, high], or around it if `outward`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1.0 - _NEAR))
    first = math.floor(low / step + _NEAR) if outward else math.ceil(low / step - _NEAR)
    last = math.ceil(high / step - _NEAR) if outward else math.floor(high / step + _NEAR)
    return [index * step for index in range(first, last + 1)] or [low, high]


def tick_names(numbers: Sequence[float]) -> list[str]:
    """Ticks as text, all with as many decimals as their step needs."""
    step = min((b - a for a, b in itertools.pairwise(numbers)), default=1.0)
    if max(abs(number) for number in numbers) >= 1e6 or step < 1e-4:
        return [f"{number:.3g}" for number in numbers]
    decimals = next(n for n in range(6) if n == 5 or abs(round(step, n) - step) < step * _NEAR)
    return [f"{round(number, decimals) + 0.0:.{decimals}f}" for number in numbers]


def _axis(
    values: Sequence[float], y_min: float | None, y_max: float | None, most: int
) -> tuple[list[float], float, float]:
    """The ticks of the y axis, and where it begins and ends."""
    low = min(values) if y_min is None else y_min
    high = max(values) if y_max is None else y_max
    if low >= high:
        # A flat line has no scale of its own: a tenth of it on the sides that are free.
        around = abs(low) * 0.1 or 1.0
        low, high = (low - around if y_min is None else low), (low if y_max is not None else low + around)
    around_all = ticks(low, high, most, outward=True)
    low = around_all[0] if y_min is None else low
    high = around_all[-1] if y_max is None else high
    slack = _NEAR * (high - low)
    return [tick for tick in around_all if low - slack <= tick <= high + slack] or [low, high], low, high


def _along(ticks: Sequence[float], names: Sequence[str], frame: _Frame) -> str:
    """The names of the ticks, each centred below its own; one that would touch its neighbour is left out."""
    row = [" "] * frame.columns
    free = 0
    for tick, name in zip(ticks, names, strict=True):
        start = min(frame.columns - len(name), max(0, frame.column(tick) - len(name) // 2))
        if start >= free:
            row[start : start + len(name)] = name
            free = start + len(name) + 1
    return "".join(row)


def _band(spans: Sequence[Span], frame: _Frame, *, plain: bool) -> str:
    """One row: `├─ name ─┤` per span, its name cut to what fits."""
    first, fill, last = "|-|" if plain else "├─┤"
    row = [" "] * frame.columns
    for span in spans:
        if span.stop <= frame.left or span.start >= frame.right:
            continue
        # A span ends before the column where its neighbour starts.
        start = frame.column(max(span.start, frame.left))
        stop = frame.columns if span.stop >= frame.right else frame.column(span.stop)
        room = stop - start
        name = f" {span.name} " if len(span.name) + 4 <= room else span.name[: max(0, room - 2)]
        row[start:stop] = (first + name.center(room - 2, fill) + last)[:room]
    return "".join(row)


def _legend(names: Sequence[str], pad: str, width: int, *, plain: bool) -> list[str]:
    marks = _PLAIN_MARKS if plain else _MARKS
    lines: list[str] = []
    for index, name in enumerate(names):
        entry = f"{marks[index % len(marks)]} {name}"
        if lines and len(lines[-1]) + 3 + len(entry) <= width:
            lines[-1] += "   " + entry
        else:
            lines.append(pad + entry)
    return lines
