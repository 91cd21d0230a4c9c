"""The classifiers: weights as lists of layers, and what they make of digits.

A network is a list of (weights [in, out], bias [out]); between layers stands max(0, x). The nearest-centroid
classifier is a network of one layer too: the centroid c nearest to x maximises x.c - |c|^2 / 2.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from examples.digits.images import Grey
from triscale import ConfigError

__all__ = ["NETWORKS", "Floats", "Network", "as_input", "load", "logits", "save", "softmax"]

Floats: TypeAlias = npt.NDArray[np.float32]
Network: TypeAlias = list[tuple[Floats, Floats]]

NETWORKS = {"centroid": (), "mlp-16": (16,), "mlp-64": (64,), "mlp-256x2": (256, 256)}
"""Name -> sizes of the hidden layers."""

_FILE = Path(__file__).with_name("weights.npz")


def as_input(digits: Grey) -> Floats:
    """[digits, SIDE, SIDE] pictures as rows with values in [0, 1]."""
    return digits.reshape(len(digits), -1).astype(np.float32) / np.float32(255)


def logits(network: Network, rows: Floats) -> Floats:
    """[digits, 10]: the larger, the likelier."""
    for weights, bias in network[:-1]:
        rows = np.maximum(rows @ weights + bias, 0)
    weights, bias = network[-1]
    return rows @ weights + bias


def softmax(scores: Floats) -> Floats:
    """Logits [digits, 10] as probabilities."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def load(name: str) -> Network:
    """A network as `train.py` left it; ConfigError when there is none of that name."""
    if name not in NETWORKS:
        raise ConfigError(f"there are no weights named {name!r}; choose one of: {', '.join(NETWORKS)}")
    return _stored()[name]


@cache
def _stored() -> dict[str, Network]:
    with np.load(_FILE, allow_pickle=False) as arrays:
        whole = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {
        name: [(whole[f"{name}/{layer}/weights"], whole[f"{name}/{layer}/bias"]) for layer in range(len(hidden) + 1)]
        for name, hidden in NETWORKS.items()
    }


def save(networks: dict[str, Network], path: Path = _FILE) -> None:
    """Write all networks into one file, in half precision."""
    arrays: dict[str, npt.NDArray[np.float16]] = {}
    for name, network in networks.items():
        for layer, (weights, bias) in enumerate(network):
            arrays[f"{name}/{layer}/weights"] = weights.astype(np.float16)
            arrays[f"{name}/{layer}/bias"] = bias.astype(np.float16)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
