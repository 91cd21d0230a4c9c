"""Around the models that look at one line: crops to their input, class probabilities to text, boxes to an order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from examples.ocr.detection import Boxes
from examples.ocr.images import Image

__all__ = ["HEIGHT", "STEP", "prepare", "read_text", "reading_order", "width_for"]

HEIGHT = 48
"""Pixels; every crop is scaled to it."""
STEP = 32
"""Input widths are multiples of it: coarser ones pad more, finer ones are more shapes for the runtime to plan."""

_TABLE = (np.arange(256) / 127.5 - 1.0).astype(np.float32)


def width_for(image: Image, most: int) -> int:
    """The input width for a crop: as wide as it is at HEIGHT, to the next STEP, but at most `most`."""
    return min(most, math.ceil(_natural_width(image) / STEP) * STEP)


def prepare(images: Sequence[Image], width: int) -> npt.NDArray[np.float32]:
    """The models' input [images, 3, HEIGHT, width]: crops scaled to the height, padded (or squeezed) to the width."""
    tensor = np.zeros((len(images), 3, HEIGHT, width), np.float32)
    for row, image in zip(tensor, images, strict=True):
        filled = min(width, _natural_width(image))
        scaled = cv2.resize(image, (filled, HEIGHT))
        for channel in range(3):
            row[channel, :, :filled] = _TABLE[scaled[:, :, channel]]
    return tensor


def read_text(probabilities: npt.NDArray[np.float32], characters: Sequence[str]) -> tuple[str, float]:
    """The text of one line and its mean probability, from [steps, classes] (greedy CTC decoding).

    Class 0 is the blank; class k is `characters[k - 1]`. A class repeated without a blank between is one character.
    """
    best = probabilities.argmax(axis=1)
    kept = np.flatnonzero((best != 0) & np.concatenate(([True], best[1:] != best[:-1])))
    if not len(kept):
        return "", 0.0
    text = "".join(characters[k - 1] for k in best[kept])
    return text, float(probabilities[kept, best[kept]].mean())


def reading_order(boxes: Boxes) -> list[int]:
    """Indices of `boxes` [lines, 4, 2] from the first line to the last: row by row, then along the row.

    "Along" is where most boxes' text runs, so that a page that is tilted or upside down is read as it was written.
    """
    if not len(boxes):
        return []
    along = np.median(boxes[:, 1] - boxes[:, 0], axis=0)
    along = along / (math.hypot(*along) or 1.0)
    centres = boxes.mean(axis=1)
    across, down = centres @ along, centres @ np.array([-along[1], along[0]])
    half = 0.5 * float(np.median(np.linalg.norm(boxes[:, 3] - boxes[:, 0], axis=1)))
    order: list[int] = []
    row: list[int] = []
    for index in np.argsort(down, kind="stable").tolist():
        if row and down[index] - down[row[0]] > half:
            order += sorted(row, key=lambda i: float(across[i]))
            row = []
        row.append(index)
    return order + sorted(row, key=lambda i: float(across[i]))


def _natural_width(image: Image) -> int:
    height, width = int(image.shape[0]), int(image.shape[1])
    return max(1, math.ceil(HEIGHT * width / height))
