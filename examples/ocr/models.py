"""The four stages of the OCR pipeline as triscale models.

`Detector` -> crops with their boxes -> `Direction` turns the upside-down ones -> `Recogniser` reads each ->
`Page` puts the lines in reading order. `predict` keeps no state, so any number of lanes may call it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from examples.ocr import detection, lines, weights
from examples.ocr.images import Image, decode
from examples.options import parse
from triscale import Data, Item, Model, Rejected, Resources, Result
from triscale.replica.runtimes.onnx import LiveSession

__all__ = ["Detector", "Direction", "Page", "Recogniser", "turned"]


class _OnnxModel(Model):
    """A model with one ONNX Runtime session, which is replaced as a whole when its threads change."""

    _session: LiveSession

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Check the options and the weights, and make the session."""
        cv2.setNumThreads(1)  # lanes are the parallelism; OpenCV's own threads would run beside them
        self._session = weights.session(self.configure(options), resources.threads)

    def configure(self, options: Mapping[str, object]) -> str:
        """Take the variant's options; returns the weights' file."""
        raise NotImplementedError

    def prepare_threads(self, threads: int) -> None:
        """Make a session of so many threads beside the one in use, which cannot change its own."""
        self._session.prepare(threads)

    def set_threads(self, threads: int) -> None:
        """Change over. Batches that run keep the old session until they are done."""
        self._session.use(threads)

    def run(self, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The only output for the only input, `x`."""
        (output,) = self._session.run(None, {"x": tensor})
        return cast("npt.NDArray[np.float32]", output)


class DetectorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`weights`, and `side`: the pixels of the page's longer side as the model sees it."""

    weights: weights.Size = "tiny"
    side: Annotated[int, msgspec.Meta(ge=32, le=4096)] = 640


class Detector(_OnnxModel):
    """`image` (a JPEG or PNG file) -> for `direction`: a `crop` and its `box` per line, from top to bottom."""

    _THRESHOLD: Mapping[weights.Size, float] = {"tiny": 0.40, "small": 0.45}
    _options: DetectorOptions

    def configure(self, options: Mapping[str, object]) -> str:
        """Take the size and the side."""
        self._options = parse(DetectorOptions, options)
        return f"ppocrv6/{self._options.weights}/det/det.onnx"

    def warmup(self) -> None:
        """Look at a blank page."""
        self.find(np.full((720, 960, 3), 255, np.uint8))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Find the lines of each page."""
        # One page at a time: a batch of pages takes this model as long as its pages one after the other.
        return [self._page(item) for item in batch]

    def find(self, image: Image) -> detection.Boxes:
        """The boxes [lines, 4, 2] of a page's lines."""
        probability = self.run(detection.prepare(image, self._options.side))[0, 0]
        height, width = image.shape[:2]
        return detection.find_boxes(probability, width, height, self._THRESHOLD[self._options.weights])

    def _page(self, item: Item) -> Result | Rejected:
        image = decode(item["image"])
        if isinstance(image, Rejected):
            return image
        boxes = self.find(image)
        crops = [
            {"crop": detection.crop(image, boxes[index]), "box": boxes[index]} for index in lines.reading_order(boxes)
        ]
        return Result(items={"direction": crops})


class DirectionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`turn_above`: how probable "upside down" must be for a crop to be turned."""

    turn_above: Annotated[float, msgspec.Meta(ge=0.5, le=1.0)] = 0.9


class Direction(_OnnxModel):
    """A `crop` and its `box` -> the same for `recognise`, turned by 180 degrees when the text was upside down."""

    _WIDTH = 192
    _options: DirectionOptions

    def configure(self, options: Mapping[str, object]) -> str:
        """Take the threshold."""
        self._options = parse(DirectionOptions, options)
        return "ppocrv5/cls/cls.onnx"

    def warmup(self) -> None:
        """Look at a blank line."""
        self.run(np.zeros((1, 3, lines.HEIGHT, self._WIDTH), np.float32))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Turn the crops that are upside down."""
        crops = [cast("Image", item["crop"]) for item in batch]
        upside_down = self.run(lines.prepare(crops, self._WIDTH))[:, 1] > self._options.turn_above
        return [
            Result(items={"recognise": [turned(item.data) if turn else item.data]})
            for item, turn in zip(batch, upside_down, strict=True)
        ]


class RecogniserOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`weights`, and `max_width`: pixels at the model's height, beyond which longer lines are squeezed."""

    weights: weights.Size = "tiny"
    max_width: Annotated[int, msgspec.Meta(ge=lines.STEP, le=4096, multiple_of=lines.STEP)] = 960


class Recogniser(_OnnxModel):
    """A `crop` and its `box` -> for `page`: the line's `text`, its `score` and its `box`."""

    _options: RecogniserOptions
    _characters: tuple[str, ...]

    def configure(self, options: Mapping[str, object]) -> str:
        """Take the size and the width, and read the characters."""
        self._options = parse(RecogniserOptions, options)
        self._characters = weights.dictionary(self._options.weights)
        return f"ppocrv6/{self._options.weights}/rec/rec.onnx"

    def warmup(self) -> None:
        """Read a blank line of the greatest width."""
        self.run(np.zeros((1, 3, lines.HEIGHT, self._options.max_width), np.float32))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Read each line."""
        # One line at a time: a batch takes as long as its lines one after the other, and would pad all to the widest.
        return [self._line(item) for item in batch]

    def read(self, crop: Image) -> tuple[str, float]:
        """The text of a crop, and its score."""
        (probabilities,) = self.run(lines.prepare([crop], lines.width_for(crop, self._options.max_width)))
        return lines.read_text(probabilities, self._characters)

    def _line(self, item: Item) -> Result:
        text, score = self.read(cast("Image", item["crop"]))
        return Result(items={"page": [{"text": text, "score": score, "box": item["box"]}]})


class Page(Model):
    """All lines of a page -> `text`, `score` and `box` of each, in reading order. Lines without text are left out.

    The order is settled here and not where the lines are found, because only the direction stage knows which way
    up the page is.
    """

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Put the lines of each page in order."""
        return [Result(outputs=self._page(item.parts)) for item in batch]

    def _page(self, parts: tuple[Data, ...]) -> Data:
        read = [part for part in parts if part["text"]]
        boxes = np.array([part["box"] for part in read], np.float32).reshape(-1, 4, 2)
        order = lines.reading_order(boxes)
        text = np.empty(len(read), object)
        text[:] = [read[index]["text"] for index in order]
        score = np.array([read[index]["score"] for index in order], np.float32)
        return {"text": text, "score": score, "box": boxes[order].reshape(-1, 4, 2)}


def turned(line: Data) -> Data:
    """The crop upside down, and the box from the corner where its text now begins."""
    crop, box = cast("Image", line["crop"]), cast("detection.Boxes", line["box"])
    return {"crop": np.ascontiguousarray(crop[::-1, ::-1]), "box": np.roll(box, 2, axis=0)}
