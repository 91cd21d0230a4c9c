"""Around the text detector: a page to its input, its output to boxes, boxes to crops.

The detector gives each pixel a probability of being text, shrunk towards the middle of its line (differentiable
binarisation, DB). A line is a connected region of likely pixels; the smallest rectangle around it, grown back,
is its box.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from examples.ocr.images import Image

__all__ = ["Boxes", "crop", "find_boxes", "prepare"]

Boxes: TypeAlias = npt.NDArray[np.float32]
"""[lines, 4, 2]: x, y of the corners in pixels; from the text's top left along its top, then back below it."""

STRIDE = 32
"""The detector's input is a multiple of this, both ways."""
LIKELY = 0.2
"""A pixel this probable is text."""
UNCLIP = 1.4
"""By how much a shrunken region is grown: area * UNCLIP / perimeter, on every side."""
MIN_SIDE = 3.0
"""Regions thinner than this, in pixels of the detector's input, are specks."""
MAX_HEIGHT = 96
"""Of a crop, in pixels: twice what the models that look at lines scale it to."""
MAX_LINES = 1000
"""Regions looked at; more than a page holds."""

# (x / 255 - mean) / std of each channel (blue, green, red) as one table look-up per pixel.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_TABLES = [((np.arange(256) / 255.0 - mean) / std).astype(np.float32) for mean, std in zip(_MEAN, _STD, strict=True)]


def prepare(image: Image, side: int) -> npt.NDArray[np.float32]:
    """The detector's input [1, 3, H, W]: the page scaled until its longer side has about `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = [max(STRIDE, round(extent * scale / STRIDE) * STRIDE) for extent in (width, height)]
    scaled = cv2.resize(image, size)
    tensor = np.empty((1, 3, size[1], size[0]), np.float32)
    for channel, table in enumerate(_TABLES):
        np.take(table, scaled[:, :, channel], out=tensor[0, channel], mode="clip")
    return tensor


def find_boxes(probability: npt.NDArray[np.float32], width: int, height: int, threshold: float) -> Boxes:
    """Boxes on a page of `width` x `height` pixels whose mean `probability` [H, W] is above `threshold`."""
    mask = (probability > LIKELY).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours[:MAX_LINES]:
        centre, (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < MIN_SIDE or _mean_inside(probability, cv2.boxPoints((centre, (w, h), angle))) < threshold:
            continue
        grown = 2 * (w * h * UNCLIP) / (2 * (w + h))
        boxes.append(_from_top_left(cv2.boxPoints((centre, (w + grown, h + grown), angle))))
    if not boxes:
        return np.empty((0, 4, 2), np.float32)
    scale = np.array([width / probability.shape[1], height / probability.shape[0]], np.float32)
    return np.asarray(np.clip(np.stack(boxes) * scale, 0, (width, height)), np.float32)


def crop(image: Image, box: Boxes) -> Image:
    """The upright picture of one box [4, 2], as large as the box but at most MAX_HEIGHT high."""
    width = max(1, round(float(max(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[3])))))
    height = max(1, round(float(max(np.linalg.norm(box[3] - box[0]), np.linalg.norm(box[2] - box[1])))))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(np.ascontiguousarray(box, np.float32), corners)
    upright = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if height > MAX_HEIGHT:
        size = (max(1, round(width * MAX_HEIGHT / height)), MAX_HEIGHT)
        upright = cv2.resize(upright, size, interpolation=cv2.INTER_AREA)
    return np.asarray(upright, np.uint8)


def _mean_inside(probability: npt.NDArray[np.float32], corners: npt.NDArray[np.float32]) -> float:
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
    window = probability[top:bottom, left:right]
    inside = np.zeros(window.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(corners - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(window, inside)[0])


def _from_top_left(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Four corners, clockwise on the screen from the top left one."""
    left = corners[np.argsort(corners[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        sorted(pair, key=lambda corner: float(corner[1])) for pair in (left[:2], left[2:])
    )
    return np.stack([top_left, top_right, bottom_right, bottom_left])
