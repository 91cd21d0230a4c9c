from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.ocr.pages import DIFFICULTIES, HEIGHT, WIDTH, Difficulty, main, make_page, pages, samples, score
from examples.ocr.scoring import edit_distance


def test_the_same_seed_gives_the_same_pages() -> None:
    one, other = list(pages(4, 7)), list(pages(4, 7))
    assert [page.jpeg for page in one] == [page.jpeg for page in other]
    assert [[line.text for line in page.lines] for page in one] == [
        [line.text for line in page.lines] for page in other
    ]
    assert next(pages(1, 8)).jpeg != one[0].jpeg


def test_fewer_pages_are_the_first_of_more() -> None:
    assert next(pages(1, 7)).jpeg == next(pages(4, 7)).jpeg


def test_samples_carry_the_image_and_its_lines() -> None:
    for sample, page in zip(samples(3, 7), pages(3, 7), strict=True):
        assert sample.inputs == {"image": page.jpeg}
        assert sample.truth == [line.text for line in page.lines]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_page_has_its_lines_inside(difficulty: Difficulty, upside_down: bool, count: int) -> None:
    page = make_page(np.random.default_rng(3), difficulty, count, upside_down=upside_down)
    image = cv2.imdecode(np.frombuffer(page.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert len(page.lines) == count
    for line in page.lines:
        assert line.text.strip() == line.text != ""
        assert np.all(line.box.mean(axis=0) > 0)
        assert np.all(line.box.mean(axis=0) < (WIDTH, HEIGHT))
        assert (line.box[0, 0] > line.box[1, 0]) == upside_down


def test_pages_are_mixed() -> None:
    made = list(pages(80, 1))
    assert {page.difficulty for page in made} == set(DIFFICULTIES)
    assert 0 < sum(page.upside_down for page in made) < 20
    assert 8 < np.mean([len(page.lines) for page in made]) < 13


def test_the_command_writes_a_page_and_says_what_is_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seed", "5", "--out", str(tmp_path / "page.jpg")])
    page = next(pages(1, 5))
    assert (tmp_path / "page.jpg").read_bytes() == page.jpeg
    assert capsys.readouterr().out.splitlines() == [line.text for line in page.lines]


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        (["one two", "three"], ["one two", "three"], 1.0),
        (["one two", "three"], [b"one two", b"three"], 1.0),
        (["one two", "three"], ["one two"], 8 / 14),  # a lost line costs its characters and its end
        (["three"], ["thr3e"], 5 / 6),
        (["three"], ["three", "xyz"], 1 - 4 / 6),  # an invented line costs as many as it has
        (["ab", "cd"], ["cd", "ab"], 1 - 4 / 6),  # out of order
        (["a"], ["something else"], 0.0),
        (["one"], [], 0.0),
        ([], [], 1.0),
        ([], ["one"], 0.0),
    ],
)
def test_the_score_is_the_share_of_characters_read_in_order(
    truth: list[str], answer: list[str], expected: float
) -> None:
    assert score(truth, {"text": np.array(answer, object)}) == pytest.approx(expected)


def slow_distance(one: str, other: str) -> int:
    """By the definition: the last characters agree, or one was inserted, deleted or replaced."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(st.text("abc\n", max_size=12), st.text("abc\n", max_size=12))
def test_the_edit_distance_is_levenshteins(one: str, other: str) -> None:
    assert edit_distance(one, other) == slow_distance(one, other)
