from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.ocr.detection import Boxes
from examples.ocr.lines import prepare, read_text, reading_order, width_for


def probabilities(*classes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    steps = np.full((len(classes), 4), 0.1, np.float32)
    steps[np.arange(len(classes)), classes] = 0.7
    return steps


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((), ""),
        ((0, 0, 0), ""),
        ((1, 1, 0, 1, 2, 2, 3, 0), "aab "),
        ((2,), "b"),
        ((3, 3, 0, 0, 3), "  "),
    ],
)
def test_repeats_and_blanks_are_dropped(classes: tuple[int, ...], text: str) -> None:
    found, score = read_text(probabilities(*classes), ("a", "b", " "))
    assert found == text
    assert score == pytest.approx(0.7 if text else 0.0)


def test_a_line_is_as_wide_as_its_shape_says_to_the_next_step() -> None:
    assert width_for(np.zeros((48, 100, 3), np.uint8), 960) == 128
    assert width_for(np.zeros((24, 100, 3), np.uint8), 960) == 224
    assert width_for(np.zeros((10, 9000, 3), np.uint8), 960) == 960
    assert width_for(np.zeros((9000, 1, 3), np.uint8), 960) == 32


def test_a_crop_is_scaled_to_the_height_and_padded_with_grey() -> None:
    white = np.full((24, 50, 3), 255, np.uint8)
    tensor = prepare([white, white], 128)
    assert tensor.shape == (2, 3, 48, 128)
    assert tensor.dtype == np.float32
    assert np.all(tensor[:, :, :, :100] == 1.0)
    assert np.all(tensor[:, :, :, 100:] == 0.0)


def box(x: float, y: float, width: float = 100.0, height: float = 20.0) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def turned(boxes: Boxes, degrees: float) -> Boxes:
    """The page turned about the point (400, 300)."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray((boxes - (400, 300)) @ turn + (400, 300), np.float32)


PAGE = np.array([box(50, 100), box(300, 104), box(60, 130), box(50, 160), box(220, 158), box(500, 163)], np.float32)


@pytest.mark.parametrize("degrees", [0, -8, 8, 90, 176, 180, 188])
@pytest.mark.parametrize("shuffle", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
def test_lines_are_read_row_by_row_however_the_page_lies(degrees: float, shuffle: list[int]) -> None:
    boxes = turned(PAGE, degrees)[shuffle]
    assert [shuffle[index] for index in reading_order(boxes)] == [0, 1, 2, 3, 4, 5]


def test_one_line_that_was_turned_wrongly_does_not_turn_the_page() -> None:
    boxes = PAGE.copy()
    boxes[2] = np.roll(boxes[2], 2, axis=0)
    assert reading_order(boxes) == [0, 1, 2, 3, 4, 5]


def test_nothing_has_no_order() -> None:
    assert reading_order(np.empty((0, 4, 2), np.float32)) == []


@given(st.lists(st.tuples(*itertools.repeat(st.floats(0, 1000, width=32), 2)), max_size=8))
def test_every_line_is_read_once(corners: list[tuple[float, float]]) -> None:
    boxes = np.array([box(x, y) for x, y in corners], np.float32).reshape(-1, 4, 2)
    assert sorted(reading_order(boxes)) == list(range(len(corners)))
    assert sorted(reading_order(np.zeros_like(boxes))) == list(range(len(corners)))
