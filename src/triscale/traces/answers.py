"""The answers kept for scoring: a fair choice of all of them in bounded memory, scored after the run.

Scoring waits for the end of the run, because it would take processor time from the server on the same machine.
"""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from triscale.core.sample import Sample
from triscale.errors import WireError
from triscale.traces.infer_codec import Outputs, decode_outputs
from triscale.traces.results import SampleAnswer

__all__ = ["Answer", "AnswerKeeper", "Scored", "Scorer", "shown"]

Score = Callable[[Any, Outputs], float]


class Answer(Struct, frozen=True):
    """One response with outputs."""

    sample: int
    head_length: int | None
    """As `infer_codec.decode_outputs` takes it."""
    body: bytes
    latency: float
    """Seconds."""


class AnswerKeeper:
    """A uniform random choice of the answers offered, within limits on number and bytes.

    Each answer is kept with probability p, 1 at first. Whenever a limit is passed, every kept answer is thrown out
    with probability 1/2, and p halves: at every moment all answers so far had the same chance to be here.
    """

    def __init__(self, most: int, most_bytes: int, rng: random.Random) -> None:
        self.kept: list[Answer] = []
        self._most = most
        self._most_bytes = most_bytes
        self._rng = rng
        self._p = 1.0 if most else 0.0
        self._bytes = 0

    def offer(self, answer: Answer) -> None:
        """Keep it, or not."""
        if self._rng.random() >= self._p:
            return
        self.kept.append(answer)
        self._bytes += len(answer.body)
        while len(self.kept) > self._most or self._bytes > self._most_bytes:
            self._p /= 2.0
            self.kept = [kept for kept in self.kept if self._rng.random() < 0.5]
            self._bytes = sum(len(kept.body) for kept in self.kept)


class Scored(Struct, frozen=True):
    """The mean score of some answers."""

    accuracy: float | None
    count: int
    error: float | None = None
    """Standard error of the mean; None where it cannot be known."""


class Scorer:
    """Decodes and scores answers; equal answers to the same sample are scored once."""

    def __init__(self, samples: Sequence[Sample], score: Score | None, batched: bool) -> None:
        self._samples = samples
        self._score = score
        self._batched = batched
        self._known: dict[tuple[object, ...], float | None] = {}
        self.problems: dict[str, int] = {}
        """What kept an answer from being scored -> how often."""

    def outputs(self, answer: Answer) -> Outputs | None:
        """The answer's outputs; None, and a problem, when it cannot be read."""
        try:
            return decode_outputs(answer.body, answer.head_length, self._batched)
        except WireError as error:
            self._problem(str(error))
            return None

    def score(self, answer: Answer) -> float | None:
        """The answer's score in [0, 1]; None when it has no truth or cannot be scored."""
        truth = self._samples[answer.sample].truth
        if self._score is None or truth is None or (outputs := self.outputs(answer)) is None:
            return None
        key = (answer.sample, *_contents(outputs))
        if key not in self._known:
            self._known[key] = self._score_anew(self._score, truth, outputs)
        return self._known[key]

    def mean(self, answers: Sequence[Answer]) -> Scored:
        """The mean over all answers that have a score."""
        scores: dict[int, list[float]] = {}
        for answer in answers:
            if (score := self.score(answer)) is not None:
                scores.setdefault(answer.sample, []).append(score)
        count = sum(map(len, scores.values()))
        if not count:
            return Scored(None, 0)
        mean = sum(map(sum, scores.values())) / count
        return Scored(mean, count, _standard_error(list(scores.values()), mean))

    def _score_anew(self, function: Score, truth: object, outputs: Outputs) -> float | None:
        try:
            score = float(function(truth, outputs))
        except Exception as error:  # noqa: BLE001 - the user's function: whatever it raises is reported, not ours to handle
            self._problem(f"the score function raised {type(error).__name__}: {error}")
            return None
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            self._problem(f"the score function returned {score!r}, which is not in [0, 1]")
            return None
        return score

    def _problem(self, text: str) -> None:
        self.problems[text] = self.problems.get(text, 0) + 1


def _standard_error(samples: Sequence[Sequence[float]], mean: float) -> float | None:
    """Of the mean of all scores, which are grouped by sample: answers to one sample are alike, so they count together.

    The cluster-robust estimate: sqrt(m / (m - 1) * sum of squared cluster residuals) / n for m samples and n scores.
    """
    distinct, count = len(samples), sum(map(len, samples))
    if distinct < 2:
        return None
    residuals = sum((sum(scores) - mean * len(scores)) ** 2 for scores in samples)
    return math.sqrt(distinct / (distinct - 1) * residuals) / count


def _contents(outputs: Outputs) -> Iterator[object]:
    """The values of the outputs as hashable ones."""
    for name, array in outputs.items():
        yield (name, array.shape, tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes())


def shown(
    scorer: Scorer, samples: Sequence[Sample], phase: str, answers: Sequence[Answer], most: int
) -> Iterator[SampleAnswer]:
    """The first answers of a phase to different samples, with truth, for people to look at."""
    seen: set[int] = set()
    for answer in answers:
        if len(seen) >= most:
            return
        if answer.sample in seen or (outputs := scorer.outputs(answer)) is None:
            continue
        seen.add(answer.sample)
        sample = samples[answer.sample]
        yield SampleAnswer(
            truth=sample.truth,
            read=_readable(outputs),
            score=scorer.score(answer),
            latency_ms=answer.latency * 1000.0,
            phase=phase,
            image=_jpeg(sample),
        )


def _readable(outputs: Outputs) -> object:
    """The first output that is text, else the first one."""
    for array in outputs.values():
        if array.dtype == object:
            texts = [element.decode("utf-8", "replace") for element in array.ravel().tolist()]
            return texts[0] if len(texts) == 1 else texts
    for array in outputs.values():
        return np.asarray(array).ravel()[:100].tolist()
    return None


def _jpeg(sample: Sample) -> str:
    for value in sample.inputs.values():
        raw = value.tobytes() if isinstance(value, np.ndarray) and value.dtype == np.uint8 else value
        if isinstance(raw, bytes) and raw.startswith(b"\xff\xd8\xff"):
            return base64.b64encode(raw).decode()
    return ""
