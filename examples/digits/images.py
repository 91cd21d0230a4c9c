"""Grey pictures as arrays: scaling, and one digit as the classifier sees it. Ink is bright, the ground is dark."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["SIDE", "Grey", "fit", "runs", "scale", "slant"]

Grey = npt.NDArray[np.uint8]
"""[height, width]; 0 is the ground, 255 full ink."""

SIDE = 16
"""Height and width of a digit as the classifier sees it, in pixels."""


def scale(image: Grey, height: int, width: int) -> Grey:
    """The picture in another size, bilinear."""
    upper, lower, down = _neighbours(image.shape[0], height)
    left, right, along = _neighbours(image.shape[1], width)
    columns = image[:, left] * (1 - along) + image[:, right] * along
    rows = columns[upper] * (1 - down)[:, None] + columns[lower] * down[:, None]
    return np.round(rows).astype(np.uint8)


def fit(image: Grey) -> Grey:
    """The picture centred in SIDE x SIDE pixels, as large as fits."""
    factor = SIDE / max(image.shape)
    height, width = (max(1, round(extent * factor)) for extent in image.shape)
    square = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = scale(image, height, width)
    return square


def slant(image: Grey, slope: float) -> Grey:
    """The picture with its top pushed to the right (slope > 0) by `slope` columns a row, wider by what that takes."""
    height, width = image.shape
    shifts = np.round(slope * (height - 1 - np.arange(height))).astype(int)
    shifts -= shifts.min()
    slanted = np.zeros((height, width + int(shifts.max())), np.uint8)
    for row, shift in enumerate(shifts.tolist()):
        slanted[row, shift : shift + width] = image[row]
    return slanted


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, end) of each run of True, in order."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _neighbours(old: int, new: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each new pixel: the old ones before and after its centre, and how far it lies between them."""
    at = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = np.floor(at).astype(np.intp)
    return before, np.minimum(before + 1, old - 1), (at - before).astype(np.float32)
