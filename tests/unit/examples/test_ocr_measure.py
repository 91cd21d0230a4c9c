from __future__ import annotations

import numpy as np
import pytest

from examples.ocr.measure import main, overlap, with_room
from examples.ocr.pages import Line


def test_every_variant_and_every_choice_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--pages", "1", "--seed", "1"])
    heads = [line.split(": accuracy ")[0] for line in capsys.readouterr().out.splitlines()]
    detectors = ["small-640", "tiny-640", "tiny-480", "tiny-320"]
    assert heads == [
        "recognise small",
        "recognise tiny",
        *(
            f"detect {name}{rest}"
            for name in detectors
            for rest in ("", ", direction, recognise small", ", direction, recognise tiny")
        ),
        "direction",
    ]


SQUARE = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], np.float32)


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (5, 1 / 3), (10, 0.0), (50, 0.0)])
def test_the_overlap_is_intersection_over_union(shift: float, expected: float) -> None:
    assert overlap(SQUARE, SQUARE + np.array([shift, 0], np.float32)) == pytest.approx(expected, abs=1e-6)


def test_room_is_added_on_every_side_whichever_way_the_line_runs() -> None:
    grown = np.array([(-2, -2), (12, -2), (12, 12), (-2, 12)], np.float32)
    assert with_room(Line("", SQUARE)) == pytest.approx(grown)
    assert with_room(Line("", np.roll(SQUARE, 2, axis=0))) == pytest.approx(np.roll(grown, 2, axis=0))
