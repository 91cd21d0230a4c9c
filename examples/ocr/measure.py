"""Measure the variants of `pipeline.yaml` on generated pages: the accuracies, fan-outs and times that it states.

    python -m examples.ocr.measure --pages 80 --seed 1

Accuracy of a detector: the share of the true characters whose line it finds (overlap of at least half), of a
recogniser: character accuracy on the true lines' crops, of the direction stage: the share of crops that leave it the
right way up. End to end: `examples.ocr.scoring.score` of whole pages, which the product of the stages' should come
near. Times are medians of one core's work, without a server.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import cv2
import numpy as np

from examples.ocr import detection, lines
from examples.ocr.images import Image, decode
from examples.ocr.models import Detector, Direction, Page, Recogniser
from examples.ocr.pages import Page as LabelledPage
from examples.ocr.pages import pages
from examples.ocr.scoring import edit_distance, score
from triscale import Data, Item, Model, Rejected, Resources, Result
from triscale.clock import monotonic

DETECTORS = {"small-640": ("small", 640), "tiny-640": ("tiny", 640), "tiny-480": ("tiny", 480), "tiny-320": ("tiny", 320)}
RECOGNISERS = ("small", "tiny")

T = TypeVar("T")


class Stopwatch:
    """Runs calls and remembers how long each took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def time(self, call: Callable[[], T]) -> T:
        """The call's result."""
        start = monotonic()
        result = call()
        self.seconds.append(monotonic() - start)
        return result

    def __str__(self) -> str:
        return f"{1e3 * statistics.median(self.seconds):.1f} ms"


def overlap(one: detection.Boxes, other: detection.Boxes) -> float:
    """Intersection over union of two boxes [4, 2]."""
    common, _ = cv2.intersectConvexConvex(np.ascontiguousarray(one), np.ascontiguousarray(other))
    union = cv2.contourArea(np.ascontiguousarray(one)) + cv2.contourArea(np.ascontiguousarray(other)) - common
    return float(common / union) if union > 0 else 0.0


def measure_detector(name: str, detector: Detector, labelled: Sequence[LabelledPage]) -> None:
    """Print what share of the lines and characters it finds."""
    watch = Stopwatch()
    found = wrong = lines_seen = lines_found = characters = characters_found = 0
    for page in labelled:
        image = _pixels(page)
        boxes = watch.time(lambda image=image: detector.find(image))  # type: ignore[misc]
        best = [max((overlap(line.box, box) for box in boxes), default=0.0) for line in page.lines]
        hits = [line for line, value in zip(page.lines, best, strict=True) if value >= 0.5]
        found += len(boxes)
        wrong += len(boxes) - len(hits)
        lines_seen += len(page.lines)
        lines_found += len(hits)
        characters += sum(len(line.text) for line in page.lines)
        characters_found += sum(len(line.text) for line in hits)
    print(
        f"detect {name}: characters found {characters_found / characters:.3f}, lines found "
        f"{lines_found / lines_seen:.3f} ({wrong} boxes wrong), fan-out {found / len(labelled):.2f} "
        f"of {lines_seen / len(labelled):.2f}, {watch} per page"
    )


def measure_direction(direction: Direction, labelled: Sequence[LabelledPage]) -> None:
    """Print how many crops leave it the right way up."""
    watch = Stopwatch()
    right = count = 0
    for page in labelled:
        crops = _true_crops(page)
        flipped = page.upside_down
        for crop in crops:
            shown = np.ascontiguousarray(crop[::-1, ::-1]) if flipped else crop
            item = Item({"crop": shown, "box": np.zeros((4, 2), np.float32)})
            (result,) = watch.time(lambda item=item: direction.predict([item]))  # type: ignore[misc]
            assert isinstance(result, Result)
            turned = result.items["recognise"][0] is not item.data
            right += turned == flipped
            count += 1
    print(f"direction: right {right / count:.3f}, {watch} per line")


def measure_recogniser(name: str, recogniser: Recogniser, labelled: Sequence[LabelledPage]) -> None:
    """Print its character accuracy on true crops."""
    watch = Stopwatch()
    edits = characters = exact = count = 0
    for page in labelled:
        for line, crop in zip(page.lines, _true_crops(page), strict=True):
            ((text, _),) = watch.time(lambda crop=crop: recogniser.read([crop]))  # type: ignore[misc]
            edits += min(len(line.text), edit_distance(line.text, text))
            exact += text == line.text
            characters += len(line.text)
            count += 1
    print(
        f"recognise {name}: character accuracy {1 - edits / characters:.3f}, lines exact {exact / count:.3f}, "
        f"{watch} per line"
    )


def measure_pipeline(detector: Detector, direction: Direction, recogniser: Recogniser, page: LabelledPage) -> float:
    """The score of one page through all stages."""
    (found,) = detector.predict([Item({"image": page.jpeg})])
    assert isinstance(found, Result)
    upright = _through(direction, found.items["direction"], "recognise")
    read = _through(recogniser, upright, "page")
    (answer,) = Page().predict([Item({}, parts=tuple(read))])
    assert isinstance(answer, Result)
    assert answer.outputs is not None
    return score([line.text for line in page.lines], answer.outputs)


def _through(model: Model, items: Sequence[Data], child: str) -> list[Data]:
    """What the model makes of `items` for the stage `child`."""
    results = model.predict([Item(data) for data in items]) if items else []
    return [data for result in results if isinstance(result, Result) for data in result.items[child]]


def _pixels(page: LabelledPage) -> Image:
    image = decode(page.jpeg)
    assert not isinstance(image, Rejected)
    return image


def _true_crops(page: LabelledPage) -> list[Image]:
    """Each line as a perfect detector would cut it out, the right way up."""
    image = _pixels(page)
    return [detection.crop(image, line.box) for line in page.lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each variant, then one for each pair of them."""
    parser = argparse.ArgumentParser(prog="python -m examples.ocr.measure", description="Measure the OCR variants.")
    parser.add_argument("--pages", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    labelled = list(pages(options.pages, options.seed))
    detectors, recognisers, direction = {}, {}, Direction()
    direction.load({}, Resources())
    for name, (size, side) in DETECTORS.items():
        detectors[name] = Detector()
        detectors[name].load({"weights": size, "side": side}, Resources())
        measure_detector(name, detectors[name], labelled)
    measure_direction(direction, labelled)
    for name in RECOGNISERS:
        recognisers[name] = Recogniser()
        recognisers[name].load({"weights": name}, Resources())
        measure_recogniser(name, recognisers[name], labelled)
    for detect, detector in detectors.items():
        for recognise, recogniser in recognisers.items():
            watch = Stopwatch()
            scores = [
                watch.time(lambda page=page: measure_pipeline(detector, direction, recogniser, page))  # type: ignore[misc]
                for page in labelled
            ]
            print(f"{detect} + {recognise}: accuracy {statistics.mean(scores):.3f}, {watch} per page, one after another")


if __name__ == "__main__":
    main()
