"""Labelled pages: what a camera might see of printed text, made from fonts, words and a seed.

    python -m examples.ocr.pages --seed 1 --out page.jpg

writes one page and prints its lines. The same seed gives the same page (words are those of Python's own manual, so
another Python version may choose others). Pages come in three difficulties: how much they are blurred, tilted,
faded, noisy and low in resolution. Some lie upside down.
"""

from __future__ import annotations

import argparse
import functools
import pydoc_data.topics
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from examples.ocr.scoring import score
from examples.ocr.weights import package_folder
from triscale import Sample

__all__ = ["DIFFICULTIES", "HEIGHT", "WIDTH", "Difficulty", "Line", "Page", "make_page", "pages", "samples", "score"]

WIDTH, HEIGHT = 960, 720
MARGIN = 32
MAX_LINES = 20
SIZES = (12, 24)
"""Smallest and largest font size, in pixels."""
LEADING, GAP = 1.15, 0.5
"""From line to line, and what a paragraph adds, in font sizes."""

Difficulty: TypeAlias = Literal["easy", "medium", "hard"]
_Box: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page."""

    text: str
    box: _Box
    """[4, 2] corners in pixels, from the text's top left along its top, then back below it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page and what is written on it."""

    jpeg: bytes
    lines: tuple[Line, ...]
    difficulty: Difficulty
    upside_down: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """How bad a page may look; each is drawn anew for every page, evenly from 0 (or the best) to this."""

    tilt: float
    """Degrees, either way."""
    blur: float
    """Standard deviation in pixels."""
    noise: float
    """Standard deviation in grey levels."""
    contrast: int
    """Least difference of ink and paper, in grey levels."""
    shade: float
    """Grey levels by which one side is darker than the other."""
    resolution: float
    """Least share of the pixels' resolution that is kept."""
    quality: int
    """Least JPEG quality."""


_LOOKS: dict[Difficulty, _Look] = {
    "easy": _Look(tilt=0.8, blur=0.7, noise=6, contrast=110, shade=15, resolution=0.8, quality=75),
    "medium": _Look(tilt=2.0, blur=1.3, noise=12, contrast=50, shade=40, resolution=0.55, quality=50),
    "hard": _Look(tilt=4.0, blur=2.0, noise=20, contrast=28, shade=60, resolution=0.35, quality=30),
}
DIFFICULTIES: tuple[Difficulty, ...] = tuple(_LOOKS)
_MIX = (0.5, 0.4, 0.1)
_UPSIDE_DOWN = 0.12

_FACES = (
    ("font_roboto", "Roboto-Light.ttf"),
    ("font_roboto", "Roboto-Regular.ttf"),
    ("font_roboto", "Roboto-Italic.ttf"),
    ("font_roboto", "Roboto-Medium.ttf"),
    ("font_roboto", "Roboto-Bold.ttf"),
    ("font_roboto", "Roboto-BoldItalic.ttf"),
    ("font_roboto", "Roboto-Black.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Light.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-It.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Semibold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-SemiboldIt.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Black.ttf"),
)


def samples(count: int, seed: int) -> Iterator[Sample]:
    """`count` requests: the input `image`, and as truth the lines of text in reading order."""
    for page in pages(count, seed):
        yield Sample({"image": page.jpeg}, truth=[line.text for line in page.lines])


def pages(count: int, seed: int) -> Iterator[Page]:
    """`count` pages: half easy, four in ten medium, one in ten hard; one in eight upside down."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        difficulty = DIFFICULTIES[int(rng.choice(len(DIFFICULTIES), p=_MIX))]
        upside_down = bool(rng.random() < _UPSIDE_DOWN)
        yield make_page(rng, difficulty, int(rng.integers(1, MAX_LINES + 1)), upside_down=upside_down)


def make_page(rng: np.random.Generator, difficulty: Difficulty, count: int, *, upside_down: bool = False) -> Page:
    """A page of `count` lines (0: blank)."""
    look = _LOOKS[difficulty]
    ink, paper = _tones(rng, look)
    canvas = Image.new("L", (WIDTH, HEIGHT), paper)
    lines = _write(rng, canvas, ink, count)
    turn = _tilt(rng.uniform(-look.tilt, look.tilt), upside_down=upside_down)
    pixels = cv2.warpAffine(np.asarray(canvas), turn, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderValue=paper)
    quality = int(rng.integers(look.quality, 93))
    _, jpeg = cv2.imencode(".jpg", _wear(rng, look, pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    placed = tuple(Line(text, np.asarray(box @ turn[:, :2].T + turn[:, 2], np.float32)) for text, box in lines)
    return Page(jpeg.tobytes(), placed, difficulty, upside_down)


def _tones(rng: np.random.Generator, look: _Look) -> tuple[int, int]:
    paper = int(rng.integers(max(170, look.contrast + 20), 251))
    return max(0, paper - int(rng.uniform(look.contrast, 240))), paper


def _write(rng: np.random.Generator, canvas: Image.Image, ink: int, count: int) -> list[tuple[str, _Box]]:
    """Draw `count` lines in paragraphs down the canvas; their texts and boxes."""
    draw = ImageDraw.Draw(canvas)
    paragraphs = _layout(rng, count)
    height = sum(font.size * (LEADING * rows + GAP) for font, rows in paragraphs)
    down = rng.uniform(MARGIN, max(MARGIN, HEIGHT - MARGIN - height))
    lines = []
    for font, rows in paragraphs:
        left = MARGIN + rng.uniform(0, WIDTH / 3)
        for _ in range(rows):
            text, at = _words(rng, font, WIDTH - MARGIN - left), (left, down)
            draw.text(at, text, fill=ink, font=font)
            x0, _, x1, _ = draw.textbbox(at, text, font=font)
            _, y0, _, y1 = draw.textbbox(at, "Apg", font=font)  # as high for "moon" as for "Apg"
            lines.append((text, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)))
            down += font.size * LEADING
        down += font.size * GAP
    return lines


def _layout(rng: np.random.Generator, count: int) -> list[tuple[ImageFont.FreeTypeFont, int]]:
    """The font and the number of lines of each paragraph, for `count` lines in all."""
    paragraphs = []
    while count:
        rows = min(count, int(rng.integers(2, 7)))
        face = _FACES[int(rng.integers(len(_FACES)))]
        paragraphs.append((_font(*face, int(rng.integers(*SIZES, endpoint=True))), rows))
        count -= rows
    return paragraphs


def _words(rng: np.random.Generator, font: ImageFont.FreeTypeFont, room: float) -> str:
    """One to six words (or numbers) that fit into `room` pixels; the first in any case."""
    vocabulary = _vocabulary()
    chosen = ""
    for _ in range(int(rng.integers(1, 7))):
        word = vocabulary[int(rng.integers(len(vocabulary)))]
        kind = rng.random()
        word = str(rng.integers(10_000)) if kind < 0.08 else word.upper() if kind < 0.13 else word
        longer = f"{chosen} {word}" if chosen else word
        if chosen and font.getlength(longer) > room:
            break
        chosen = longer
    return chosen


def _tilt(degrees: float, *, upside_down: bool) -> npt.NDArray[np.float64]:
    """The affine map [2, 3] that turns a page about its centre."""
    turn = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), degrees + 180.0 * upside_down, 1.0)
    return np.asarray(turn, np.float64)


def _wear(rng: np.random.Generator, look: _Look, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Blur, lower the resolution, shade one side, add noise."""
    keep = rng.uniform(look.resolution, 1.0)
    worn = cv2.resize(pixels, None, fx=keep, fy=keep, interpolation=cv2.INTER_AREA)
    sigma = rng.uniform(0.0, look.blur)
    if sigma > 0.2:
        worn = cv2.GaussianBlur(worn, (0, 0), sigma)
    worn = cv2.resize(worn, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    worn += np.linspace(0.0, rng.uniform(-look.shade, look.shade), WIDTH, dtype=np.float32)
    worn += rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32) * np.float32(rng.uniform(0.0, look.noise))
    return np.asarray(np.clip(worn, 0, 255), np.uint8)


@functools.cache
def _vocabulary() -> Sequence[str]:
    manual = " ".join(pydoc_data.topics.topics.values())
    return sorted(set(re.findall(r"\b[A-Za-z][a-z]{1,13}\b", manual)))


@functools.cache
def _font(package: str, file: str, size: int) -> ImageFont.FreeTypeFont:
    folder = package_folder(package, f"pip install {package.replace('_', '-')}==0.0.1")
    return ImageFont.truetype(folder / "files" / file, size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one page to a file and print what is on it."""
    parser = argparse.ArgumentParser(prog="python -m examples.ocr.pages", description="Write one labelled page.")
    parser.add_argument("--out", type=Path, default=Path("page.jpg"), help="the JPEG file to write")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    page = next(pages(1, options.seed))
    options.out.write_bytes(page.jpeg)
    print("\n".join(line.text for line in page.lines))


if __name__ == "__main__":
    main()
