"""Train the networks of `weights.npz` and print how often each is right: `python -m examples.digits.train`.

Numpy alone, seeded: the same numpy on the same kind of machine gives the same weights. Training digits come out of
the segmenter, as they do when serving, and so do the test digits, which no network was trained on.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.digits.images import Grey
from examples.digits.models import segments
from examples.digits.networks import NETWORKS, Floats, Network, as_input, logits, save, softmax
from examples.digits.strips import make_strip

TRAIN_STRIPS, TEST_STRIPS, DIGITS = 4000, 1000, 8
EPOCHS, BATCH, RATE, DECAY = 20, 64, 2e-3, 0.9
SMOOTHING = 0.05
"""Taken from the right digit's target and shared by the others."""

Labels = npt.NDArray[np.uint8]


def cut_digits(seed: int, strips: int, *, train: bool) -> tuple[Grey, Labels]:
    """Pictures of digits as the segmenter cuts them out, and which they are. Strips cut wrongly are left out."""
    rng = np.random.default_rng(seed)
    pictures: list[Grey] = []
    labels: list[int] = []
    for _ in range(strips):
        strip, truth = make_strip(rng, DIGITS, train=train)
        found = segments(strip)
        if len(found) == len(truth):
            pictures += found
            labels += truth
    return np.stack(pictures), np.array(labels, np.uint8)


def nearest_centroid(rows: Floats, labels: Labels) -> Network:
    """Each digit's mean picture, as a layer."""
    centroids = np.stack([rows[labels == digit].mean(axis=0) for digit in range(10)])
    return [(centroids.T, -0.5 * (centroids**2).sum(axis=1))]


def train(hidden: tuple[int, ...], rows: Floats, labels: Labels, seed: int) -> Network:
    """A network with these hidden layers, by Adam on the cross-entropy."""
    rng = np.random.default_rng(seed)
    sizes = (rows.shape[1], *hidden, 10)
    network: Network = [
        ((rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in itertools.pairwise(sizes)
    ]
    optimiser = Adam([array for layer in network for array in layer])
    for epoch in range(EPOCHS):
        for chosen in _batches(rng, len(rows)):
            optimiser.step(gradients(network, rows[chosen], labels[chosen]), RATE * DECAY**epoch)
    return network


class Adam:
    """Adam (Kingma and Ba, 2015) with its usual settings; changes the arrays in place."""

    def __init__(self, arrays: list[Floats]) -> None:
        self._arrays = arrays
        self._mean = [np.zeros_like(array) for array in arrays]
        self._square = [np.zeros_like(array) for array in arrays]
        self._steps = 0

    def step(self, gradients: list[Floats], rate: float) -> None:
        """Go one step against the gradients."""
        self._steps += 1
        rate *= np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for array, mean, square, gradient in zip(self._arrays, self._mean, self._square, gradients, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            array -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def _batches(rng: np.random.Generator, count: int) -> Iterator[npt.NDArray[np.intp]]:
    order = rng.permutation(count)
    for start in range(0, count, BATCH):
        yield order[start : start + BATCH]


def loss(network: Network, rows: Floats, labels: Labels) -> float:
    """The mean cross-entropy of the smoothed targets."""
    return -float((_targets(labels) * np.log(softmax(logits(network, rows)))).sum(axis=1).mean())


def gradients(network: Network, rows: Floats, labels: Labels) -> list[Floats]:
    """Of the loss, in the order weights, bias, weights, bias, ..."""
    inputs = [rows]
    for weights, bias in network[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weights + bias, 0))
    error = (softmax(logits(network[-1:], inputs[-1])) - _targets(labels)) / np.float32(len(labels))
    found: list[Floats] = []
    for (weights, _), layer_input in zip(reversed(network), reversed(inputs), strict=True):
        found = [layer_input.T @ error, error.sum(axis=0), *found]
        error = (error @ weights.T) * (layer_input > 0)
    return found


def _targets(labels: Labels) -> Floats:
    targets = np.full((len(labels), 10), SMOOTHING / 10, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - SMOOTHING
    return targets


def main() -> None:
    """Train all networks, print their accuracies on unseen digits, write them to a file."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.train", description="Train the networks anew.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    out = parser.parse_args().out
    pictures, labels = cut_digits(1, TRAIN_STRIPS, train=True)
    unseen, truth = cut_digits(2, TEST_STRIPS, train=False)
    rows, unseen_rows = as_input(pictures), as_input(unseen)
    trained = {}
    for name, hidden in NETWORKS.items():
        network = train(hidden, rows, labels, seed=3) if hidden else nearest_centroid(rows, labels)
        right = float((logits(network, unseen_rows).argmax(axis=1) == truth).mean())
        print(f"{name}: {right:.3f} of {len(truth)} unseen digits right")
        trained[name] = network
    save(trained, out)


if __name__ == "__main__":
    main()
