"""The four stages of the OCR pipeline as triscale models.

`Detector` -> crops with their boxes -> `Direction` turns the upside-down ones -> `Recogniser` reads each ->
`Page` puts the lines in reading order. `predict` keeps no state, so any number of lanes may call it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from examples.ocr import detection, lines, weights
from examples.ocr.images import Image, decode
from examples.options import parse
from triscale import Data, Item, Model, Rejected, Resources, Result

__all__ = ["Detector", "Direction", "Page", "Recogniser"]


class _OnnxModel(Model):
    """A model with one ONNX Runtime session, which is replaced as a whole when its threads change."""

    _file: str
    _session: ort.InferenceSession

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        cv2.setNumThreads(1)  # lanes are the parallelism; OpenCV's own threads would run beside them
        self._file = self.configure(options)
        self._session = weights.session(self._file, resources.threads)

    def configure(self, options: Mapping[str, object]) -> str:
        """Take the variant's options; returns the weights' file."""
        raise NotImplementedError

    def set_threads(self, threads: int) -> None:
        # A live session cannot change its threads. Batches that run keep the old one alive until they are done.
        self._session = weights.session(self._file, threads)

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
        self._options = parse(DetectorOptions, options)
        return f"ppocrv6/{self._options.weights}/det/det.onnx"

    def warmup(self) -> None:
        self.find(np.full((720, 960, 3), 255, np.uint8))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
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
        self._options = parse(DirectionOptions, options)
        return "ppocrv5/cls/cls.onnx"

    def warmup(self) -> None:
        self.run(np.zeros((1, 3, lines.HEIGHT, self._WIDTH), np.float32))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        crops = [cast("Image", item["crop"]) for item in batch]
        upside_down = self.run(lines.prepare(crops, self._WIDTH))[:, 1] > self._options.turn_above
        return [
            Result(items={"recognise": [_turned(item.data) if turn else item.data]})
            for item, turn in zip(batch, upside_down, strict=True)
        ]


class RecogniserOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`weights`, and `widths`: crops are padded to the next of these, the longest squeezed into the last."""

    weights: weights.Size = "tiny"
    widths: Annotated[tuple[Annotated[int, msgspec.Meta(ge=16, le=4096)], ...], msgspec.Meta(min_length=1)] = (
        160,
        320,
        480,
        640,
        960,
    )


class Recogniser(_OnnxModel):
    """A `crop` and its `box` -> for `page`: the line's `text`, its `score` and its `box`."""

    _options: RecogniserOptions
    _characters: tuple[str, ...]

    def configure(self, options: Mapping[str, object]) -> str:
        self._options = parse(RecogniserOptions, options)
        self._characters = weights.dictionary(self._options.weights)
        return f"ppocrv6/{self._options.weights}/rec/rec.onnx"

    def warmup(self) -> None:
        for width in self._options.widths:
            self.run(np.zeros((1, 3, lines.HEIGHT, width), np.float32))

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        crops = [cast("Image", item["crop"]) for item in batch]
        return [
            Result(items={"page": [{"text": text, "score": score, "box": item["box"]}]})
            for item, (text, score) in zip(batch, self.read(crops), strict=True)
        ]

    def read(self, crops: list[Image]) -> list[tuple[str, float]]:
        """Text and score of each crop. Crops of like width run together: padding to the widest would cost more."""
        by_width: dict[int, list[int]] = {}
        for index, image in enumerate(crops):
            by_width.setdefault(lines.bucket(image, sorted(self._options.widths)), []).append(index)
        found: dict[int, tuple[str, float]] = {}
        for width, indices in by_width.items():
            output = self.run(lines.prepare([crops[index] for index in indices], width))
            for index, probabilities in zip(indices, output, strict=True):
                found[index] = lines.read_text(probabilities, self._characters)
        return [found[index] for index in range(len(crops))]


class Page(Model):
    """All lines of a page -> `text`, `score` and `box` of each, in reading order. Lines without text are left out.

    The order is settled here and not where the lines are found, because only the direction stage knows which way
    up the page is.
    """

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        return [Result(outputs=self._page(item.parts)) for item in batch]

    def _page(self, parts: tuple[Data, ...]) -> Data:
        read = [part for part in parts if part["text"]]
        boxes = np.array([part["box"] for part in read], np.float32).reshape(-1, 4, 2)
        order = lines.reading_order(boxes)
        text = np.empty(len(read), object)
        text[:] = [read[index]["text"] for index in order]
        score = np.array([read[index]["score"] for index in order], np.float32)
        return {"text": text, "score": score, "box": boxes[order].reshape(-1, 4, 2)}


def _turned(line: Data) -> Data:
    """The crop upside down, and the box from the corner where its text now begins."""
    crop, box = cast("Image", line["crop"]), cast("detection.Boxes", line["box"])
    return {"crop": np.ascontiguousarray(crop[::-1, ::-1]), "box": np.roll(box, 2, axis=0)}
