"""Measure the variants of `pipeline.yaml` on generated pages: the accuracies, fan-outs and times that it states.

    python -m examples.ocr.measure --pages 150 --seed 1

Every accuracy is a mean `score` of whole pages (`scoring.py`). A recogniser's is that of the true lines' crops. A
detector's is what is left of the best recogniser's when it reads the detector's crops instead; the direction stage's,
what is left when that stage turns crops instead of the truth. So a product of three stands for the whole pipeline,
which is measured too. Times are medians of one core's work, without a server.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np

from examples.ocr import detection
from examples.ocr.images import Image, decode
from examples.ocr.models import Detector, Direction, Page, Recogniser, turned
from examples.ocr.pages import Line, pages
from examples.ocr.pages import Page as LabelledPage
from examples.ocr.scoring import score
from triscale import Data, Item, Model, Rejected, Resources, Result
from triscale.clock import monotonic

BEST = "small"
RECOGNISERS: Mapping[str, Mapping[str, object]] = {"small": {"weights": "small"}, "tiny": {"weights": "tiny"}}
DETECTORS: Mapping[str, Mapping[str, object]] = {
    "small-640": {"weights": "small", "side": 640},
    "tiny-640": {"weights": "tiny", "side": 640},
    "tiny-480": {"weights": "tiny", "side": 480},
    "tiny-320": {"weights": "tiny", "side": 320},
}


@dataclass(slots=True)
class Timed:
    """A model, and how long each item took it."""

    model: Model
    seconds: list[float] = field(default_factory=list)

    def emitted(self, items: Sequence[Data], child: str) -> list[Data]:
        """What the model makes of each item for the stage `child`."""
        found: list[Data] = []
        for item in items:
            start = monotonic()
            (result,) = self.model.predict([Item(item)])
            self.seconds.append(monotonic() - start)
            assert isinstance(result, Result)
            found += result.items[child]
        return found

    def __str__(self) -> str:
        return f"{1e3 * statistics.median(self.seconds):.2f} ms"


def loaded(model: Model, options: Mapping[str, object]) -> Timed:
    """The model, ready, with one thread."""
    model.load(options, Resources())
    model.warmup()
    return Timed(model)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each recogniser, detector and choice of both."""
    parser = argparse.ArgumentParser(prog="python -m examples.ocr.measure", description="Measure the OCR variants.")
    parser.add_argument("--pages", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    labelled = list(pages(options.pages, options.seed))
    recognisers = {name: loaded(Recogniser(), chosen) for name, chosen in RECOGNISERS.items()}
    ideal = {name: _measure_recogniser(name, recogniser, labelled) for name, recogniser in recognisers.items()}
    direction = loaded(Direction(), {})
    left: list[float] = []
    for name, chosen in DETECTORS.items():
        found, accuracy = _measure_detector(name, loaded(Detector(), chosen), recognisers[BEST], labelled, ideal[BEST])
        left.append(_measure_rest(name, found, direction, recognisers, labelled) / accuracy)
    print(f"direction: accuracy {statistics.mean(left):.3f}, {direction} per line")


def _measure_recogniser(name: str, recogniser: Timed, labelled: Sequence[LabelledPage]) -> float:
    accuracy = statistics.mean(page_score(page, recogniser.emitted(true_lines(page), "page")) for page in labelled)
    print(f"recognise {name}: accuracy {accuracy:.3f}, {recogniser} per line", flush=True)
    return accuracy


def _measure_detector(
    name: str, detector: Timed, best: Timed, labelled: Sequence[LabelledPage], ideal: float
) -> tuple[list[list[Data]], float]:
    """What it finds on each page, and the accuracy when the best recogniser reads that, turned as it should be."""
    found = [detector.emitted([{"image": page.jpeg}], "direction") for page in labelled]
    upright = [
        [turned(line) for line in lines] if page.upside_down else lines
        for page, lines in zip(labelled, found, strict=True)
    ]
    accuracy = _mean_score(labelled, [best.emitted(lines, "page") for lines in upright])
    share = statistics.mean(share_found(page, lines) for page, lines in zip(labelled, found, strict=True))
    fan_out, true_fan_out = statistics.mean(map(len, found)), statistics.mean(len(page.lines) for page in labelled)
    print(
        f"detect {name}: accuracy {accuracy / ideal:.3f} ({accuracy:.3f} of {ideal:.3f}), lines found {share:.3f}, "
        f"fan-out {fan_out:.2f} of {true_fan_out:.2f}, {detector} per page",
        flush=True,
    )
    return found, accuracy


def _measure_rest(
    name: str,
    found: Sequence[Sequence[Data]],
    direction: Timed,
    recognisers: Mapping[str, Timed],
    labelled: Sequence[LabelledPage],
) -> float:
    """The accuracy of the whole pipeline with the best recogniser."""
    upright = [direction.emitted(lines, "recognise") for lines in found]
    whole: dict[str, float] = {}
    for other, recogniser in recognisers.items():
        whole[other] = _mean_score(labelled, [recogniser.emitted(lines, "page") for lines in upright])
        print(f"detect {name}, direction, recognise {other}: accuracy {whole[other]:.3f}", flush=True)
    return whole[BEST]


def _mean_score(labelled: Sequence[LabelledPage], read: Sequence[Sequence[Data]]) -> float:
    return statistics.mean(page_score(page, lines) for page, lines in zip(labelled, read, strict=True))


def page_score(page: LabelledPage, read: Sequence[Data]) -> float:
    """The score of what the recogniser made of a page's lines."""
    (answer,) = Page().predict([Item({}, parts=tuple(read))])
    assert isinstance(answer, Result)
    assert answer.outputs is not None
    return score([line.text for line in page.lines], answer.outputs)


def true_lines(page: LabelledPage) -> list[Data]:
    """What perfect detect and direction stages would make of a page."""
    image = decode(page.jpeg)
    assert not isinstance(image, Rejected)
    return [_line(image, with_room(line)) for line in page.lines]


def _line(image: Image, box: detection.Boxes) -> Data:
    return {"crop": detection.crop(image, box), "box": box}


def with_room(line: Line) -> detection.Boxes:
    """A line's box with the room that detectors leave around letters: a fifth of its height on every side."""
    along, down = line.box[1] - line.box[0], line.box[3] - line.box[0]
    aside = along / np.linalg.norm(along) * np.linalg.norm(down) * 0.2
    below = down * 0.2
    grown = line.box + np.stack([-aside - below, aside - below, aside + below, below - aside])
    return np.asarray(grown, np.float32)


def share_found(page: LabelledPage, found: Sequence[Data]) -> float:
    """The share of a page's lines that a box overlaps by half or more (intersection over union)."""
    boxes = [cast("detection.Boxes", line["box"]) for line in found]
    return statistics.mean(max((overlap(line.box, box) for box in boxes), default=0.0) >= 0.5 for line in page.lines)


def overlap(one: detection.Boxes, other: detection.Boxes) -> float:
    """Intersection over union of two boxes [4, 2]."""
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    common, _ = cv2.intersectConvexConvex(one, other)
    union = cv2.contourArea(one) + cv2.contourArea(other) - common
    return float(common / union) if union > 0 else 0.0


if __name__ == "__main__":
    main()
