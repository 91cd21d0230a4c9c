"""Lines drawn with characters: where points land, what the axes say, and that nothing is wider than asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.cli.text_plot import Series, Span, plot_lines, tick_names, ticks


def test_one_line_is_drawn_in_braille_between_round_numbers() -> None:
    drawn = plot_lines([Series("up", (0, 10), (0, 10))], width=24, height=4, x_label="s", y_label="m")
    assert drawn == [
        "m",
        "10 ┤               ⣀⡠⠤⠒⠉",
        "   │          ⣀⡠⠔⠒⠉",
        " 5 ┤     ⣀⠤⠔⠊⠉",
        " 0 ┤⣀⠤⠒⠊⠉",
        "   └┬──────────────────┬",
        "    0                 10",
        "                       s",
    ]


def test_several_lines_have_a_mark_each_and_a_legend() -> None:
    drawn = plot_lines([Series("flat", (0, 10), (1, 1)), Series("down", (0, 10), (3, 1))], width=30, height=4, y_min=0)
    assert sum(line.count("●") for line in drawn[:4]) == 27
    assert drawn[-1].strip() == "● flat   ○ down"


def test_where_lines_meet_the_first_one_is_seen() -> None:
    drawn = plot_lines([Series("a", (0, 1), (1, 1)), Series("b", (0, 1), (1, 1))], width=30, height=4)
    assert not any("○" in line for line in drawn[:-1])


def test_plain_is_ascii() -> None:
    drawn = plot_lines([Series("a", (0, 1), (0, 5))], plain=True, spans=[Span("all", 0, 1)])
    assert all(line.isascii() for line in drawn)
    assert any("*" in line for line in drawn)


def test_spans_lie_side_by_side_below_their_part_of_the_axis() -> None:
    spans = [Span("first", 0, 5), Span("second", 5, 10), Span("elsewhere", 20, 30)]
    drawn = plot_lines([Series("a", (0, 10), (0, 10))], width=44, height=4, spans=spans)
    assert drawn[-1] == "    ├───── first ──────┤├───── second ─────┤"
    assert "elsewhere" not in "".join(drawn)


def test_a_point_that_is_no_number_leaves_a_gap() -> None:
    whole = plot_lines([Series("a", (0, 1, 2, 3), (1, 1, 1, 1))], y_min=0)
    gap = plot_lines([Series("a", (0, 1, 2, 3), (1, math.nan, 1, 1))], y_min=0)
    assert len("".join(gap).replace(" ", "")) < len("".join(whole).replace(" ", ""))


def test_the_axis_can_be_held() -> None:
    drawn = plot_lines([Series("percent", (0, 1), (99.6, 99.6))], y_max=100.0)
    assert drawn[0].startswith("100.0 ┤")
    drawn = plot_lines([Series("cores", (0, 1), (0, 0))], y_min=0.0)
    assert drawn[-3].startswith("0.00 ┤")


def test_nothing_to_draw_is_said() -> None:
    assert plot_lines([]) == ["(nothing to draw)"]
    assert plot_lines([Series("a", (0.0,), (math.inf,))]) == ["(nothing to draw)"]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="20 x 3 characters is too small; it takes at least 24 x 3"):
        plot_lines([Series("a", (0,), (0,))], width=20, height=3)
    with pytest.raises(ValueError, match="series 'a' has 1 xs and 2 ys, not as many of each"):
        Series("a", (0,), (0, 1))


@pytest.mark.parametrize(
    ("low", "high", "most", "names"),
    [
        (0, 100, 4, ["0", "25", "50", "75", "100"]),
        (0.52, 0.99, 5, ["0.6", "0.7", "0.8", "0.9"]),
        (50, 3000, 5, ["1000", "2000", "3000"]),
        (0, 5e7, 5, ["0", "1e+07", "2e+07", "3e+07", "4e+07", "5e+07"]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, names: list[str]) -> None:
    assert tick_names(ticks(low, high, most)) == names


numbers = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12),
    st.integers(24, 120),
    st.integers(3, 20),
    st.integers(1, 3),
)
def test_no_line_is_wider_than_asked_and_something_is_drawn(
    points: list[tuple[float, float]], width: int, height: int, count: int
) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    series = [Series(f"s{i}", xs, [y + i for y in ys]) for i in range(count)]
    drawn = plot_lines(series, width=width, height=height)
    assert max(len(line) for line in drawn) <= width
    assert len(drawn) >= height + 2
    canvas = "".join(line.split("│")[-1].split("┤")[-1] for line in drawn[:height])
    assert canvas.strip()
