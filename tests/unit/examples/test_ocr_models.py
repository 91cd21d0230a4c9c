from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from examples.ocr import models
from examples.ocr.images import Image
from examples.ocr.models import Detector, Direction, Recogniser
from examples.ocr.pages import Page, make_page, score
from triscale import ConfigError, Data, Item, Model, Rejected, Resources, Result
from triscale.wire.payload import pack, unpack


def results(model: Model, items: Sequence[Item]) -> list[Result]:
    found = model.predict(list(items))
    assert all(isinstance(result, Result) for result in found)
    return cast("list[Result]", found)


def emitted(model: Model, data: Sequence[Data], child: str) -> list[Data]:
    """What a model makes of `data` for a child stage, as it arrives there: sent and read back."""
    return [
        unpack(pack(item)) for result in results(model, [Item(one) for one in data]) for item in result.items[child]
    ]


def read(page: Page, detector: Detector, direction: Direction, recogniser: Recogniser) -> Data:
    """The answer to a page, through all stages."""
    crops = emitted(detector, [{"image": page.jpeg}], "direction")
    upright = emitted(direction, crops, "recognise") if crops else []
    lines = emitted(recogniser, upright, "page") if upright else []
    (result,) = results(models.Page(), [Item({}, parts=tuple(lines))])
    assert result.outputs is not None
    return unpack(pack(result.outputs))


def accuracy(page: Page, answer: Data) -> float:
    return score([line.text for line in page.lines], answer)


def test_an_easy_page_is_read(
    easy_page: Page, detector: Detector, direction: Direction, recogniser: Recogniser
) -> None:
    answer = read(easy_page, detector, direction, recogniser)
    assert accuracy(easy_page, answer) > 0.95
    boxes, scores = cast("Image", answer["box"]), cast("Image", answer["score"])
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.shape == (len(easy_page.lines), 4, 2)
    assert scores.shape == (len(easy_page.lines),)
    assert np.all(scores > 0.5)


def test_the_small_weights_read_at_least_as_well(easy_page: Page, direction: Direction) -> None:
    detector, recogniser = Detector(), Recogniser()
    detector.load({"weights": "small", "side": 640}, Resources())
    recogniser.load({"weights": "small"}, Resources())
    assert accuracy(easy_page, read(easy_page, detector, direction, recogniser)) > 0.95


def test_a_page_that_lies_upside_down_is_read_from_its_first_line(
    detector: Detector, direction: Direction, recogniser: Recogniser
) -> None:
    # Words come from the manual of the Python that runs this, and the model misses the direction of small lines: of
    # twelve pages some are read in full.
    pages = [make_page(np.random.default_rng(seed), "easy", 6, upside_down=True) for seed in range(12)]
    answers = [read(page, detector, direction, recogniser) for page in pages]
    best = max(range(12), key=lambda i: accuracy(pages[i], answers[i]))
    assert accuracy(pages[best], answers[best]) > 0.9
    box = cast("Image", answers[best]["box"])[0]
    assert box[0, 0] > box[1, 0], "the box begins where the text does: at the right of the page"
    assert box[0, 1] > box[3, 1]


def test_a_page_without_text_is_answered_with_empty_tensors(
    blank_page: Page, detector: Detector, direction: Direction, recogniser: Recogniser
) -> None:
    answer = read(blank_page, detector, direction, recogniser)
    assert [np.shape(cast("Image", answer[name])) for name in ("text", "score", "box")] == [(0,), (0,), (0, 4, 2)]
    assert accuracy(blank_page, answer) == 1.0


def test_lines_in_which_nothing_was_read_are_left_out() -> None:
    box = np.zeros((4, 2), np.float32)
    parts: tuple[Data, ...] = ({"text": "", "score": 0.0, "box": box}, {"text": "one", "score": 0.5, "box": box})
    (result,) = results(models.Page(), [Item({}, parts=parts)])
    assert result.outputs is not None
    assert cast("Image", result.outputs["text"]).tolist() == ["one"]


def test_a_batch_gives_what_its_items_give_alone(
    easy_page: Page, blank_page: Page, detector: Detector, direction: Direction, recogniser: Recogniser
) -> None:
    pages = [Item({"image": page.jpeg}) for page in (easy_page, blank_page, easy_page)]
    together = [result.items["direction"] for result in results(detector, pages)]
    apart = [emitted(detector, [page.data], "direction") for page in pages]
    assert [len(found) for found in together] == [len(found) for found in apart] == [6, 0, 6]
    for one, other in zip(together[2], apart[2], strict=True):
        assert np.array_equal(cast("Image", one["crop"]), cast("Image", other["crop"]))
        assert np.array_equal(cast("Image", one["box"]), cast("Image", other["box"]))

    crops = together[0]
    turned = [emitted(direction, [crop], "recognise")[0] for crop in crops]
    for one, other in zip(emitted(direction, crops, "recognise"), turned, strict=True):
        assert np.array_equal(cast("Image", one["crop"]), cast("Image", other["crop"]))

    lines = emitted(recogniser, crops, "page")
    assert [(line["text"], line["score"]) for line in lines] == [
        (line["text"], line["score"]) for crop in crops for line in emitted(recogniser, [crop], "page")
    ]


def test_lines_are_emitted_from_top_to_bottom(easy_page: Page, detector: Detector) -> None:
    boxes = [cast("Image", crop["box"]) for crop in emitted(detector, [{"image": easy_page.jpeg}], "direction")]
    tops = [float(box[:, 1].mean()) for box in boxes]
    assert tops == sorted(tops)


def test_what_is_no_picture_is_rejected_and_its_batch_mates_are_not(easy_page: Page, detector: Detector) -> None:
    bad, good = detector.predict([Item({"image": b"%PDF-1.7 and so on"}), Item({"image": easy_page.jpeg})])
    assert isinstance(bad, Rejected)
    assert bad.reason == "`image` is not a JPEG or PNG file: its 18 bytes begin with b'%PDF-1.7'"
    assert isinstance(good, Result)


def test_threads_are_changed_in_place(easy_page: Page) -> None:
    model = Recogniser()
    model.load({"weights": "tiny"}, Resources())
    crop = np.full((48, 200, 3), 255, np.uint8)
    before = model.read(crop)
    model.set_threads(2)
    assert model.read(crop) == pytest.approx(before)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Detector, {"weights": "huge"}, r"Invalid enum value 'huge' - at `\$.weights`. The options are: weights, side"),
        (Detector, {"side": 8}, r"Expected `int` >= 32 - at `\$.side`"),
        (Recogniser, {"max_width": 100}, r"multiple of 32 - at `\$.max_width`. The options are: weights, max_width"),
        (Direction, {"threshold": 0.5}, r"unknown field `threshold`. The options are: turn_above"),
    ],
)
def test_wrong_options_are_named(model: type[Model], options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model().load(options, Resources())


def test_every_model_warms_up(detector: Detector, direction: Direction, recogniser: Recogniser) -> None:
    for model in (detector, direction, recogniser, models.Page()):
        model.warmup()
