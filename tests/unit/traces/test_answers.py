from __future__ import annotations

import base64
import json
import random
from collections import Counter

import numpy as np
import pytest

from triscale.core.sample import Sample
from triscale.traces.answers import Answer, AnswerKeeper, Scorer, shown


def answer(sample: int, *texts: str) -> Answer:
    outputs = [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}]
    return Answer(sample, None, json.dumps({"outputs": outputs}).encode(), 0.25)


def exact(truth: object, outputs: dict[str, np.ndarray]) -> float:
    return float(outputs["text"][0].decode() == truth)


SAMPLES = [Sample({"x": "0"}, "zero"), Sample({"x": "1"}, "one"), Sample({"x": "2"})]


def test_all_answers_are_kept_while_there_is_room() -> None:
    keeper = AnswerKeeper(100, 10**6, random.Random(1))
    for number in range(100):
        keeper.offer(answer(number, "a"))
    assert [kept.sample for kept in keeper.kept] == list(range(100))


@pytest.mark.parametrize(("most", "most_bytes"), [(50, 10**9), (10**9, 50 * len(answer(0, "a").body))])
def test_kept_answers_stay_within_both_limits(most: int, most_bytes: int) -> None:
    keeper = AnswerKeeper(most, most_bytes, random.Random(1))
    for _ in range(5000):
        keeper.offer(answer(0, "a"))
        assert len(keeper.kept) <= 50
    assert keeper.kept


def test_early_and_late_answers_have_the_same_chance() -> None:
    thirds: Counter[int] = Counter()
    for seed in range(300):
        keeper = AnswerKeeper(20, 10**9, random.Random(seed))
        for number in range(300):
            keeper.offer(Answer(number // 100, None, b"", 0.0))
        thirds.update(kept.sample for kept in keeper.kept)
    mean = sum(thirds.values()) / 3
    assert all(abs(count - mean) < 0.06 * mean for count in thirds.values())


def test_nothing_is_kept_when_nothing_is_asked_for() -> None:
    keeper = AnswerKeeper(0, 10**9, random.Random(1))
    keeper.offer(answer(0, "a"))
    assert keeper.kept == []


def test_accuracy_is_the_mean_over_the_labelled_answers() -> None:
    scorer = Scorer(SAMPLES, exact, batched=False)
    scored = scorer.mean([answer(0, "zero"), answer(1, "two"), answer(1, "one"), answer(2, "unlabelled")])
    assert scored.accuracy == pytest.approx(2 / 3)
    assert scored.count == 3


def test_answers_to_one_sample_count_together_for_how_sure_the_mean_is() -> None:
    scorer = Scorer(SAMPLES, exact, batched=False)
    right, wrong = answer(0, "zero"), answer(1, "two")
    # Two samples, one always right and one always wrong, however often: sqrt(2 / 1 * (0.5^2 + 0.5^2)) / 2.
    for times in (1, 10):
        assert scorer.mean([right] * times + [wrong] * times).error == pytest.approx(0.5)
    assert scorer.mean([right, answer(1, "one")]).error == 0.0
    assert scorer.mean([right] * 10).error is None


def test_equal_answers_are_scored_once() -> None:
    calls: list[object] = []

    def counting(truth: object, outputs: object) -> float:
        calls.append(truth)
        return 1.0

    scorer = Scorer(SAMPLES, counting, batched=False)
    assert scorer.mean([answer(0, "a")] * 5 + [answer(1, "a")]).count == 6
    assert calls == ["zero", "one"]


@pytest.mark.parametrize("score", [2.0, -0.1, float("nan")])
def test_a_score_outside_its_range_is_a_problem_not_an_accuracy(score: float) -> None:
    scorer = Scorer(SAMPLES, lambda truth, outputs: score, batched=False)
    assert scorer.mean([answer(0, "a")]).accuracy is None
    assert scorer.problems == {f"the score function returned {score!r}, which is not in [0, 1]": 1}


def test_a_score_function_that_raises_is_a_problem_of_its_own() -> None:
    def broken(truth: object, outputs: object) -> float:
        raise KeyError("boxes")

    scorer = Scorer(SAMPLES, broken, batched=False)
    assert scorer.mean([answer(0, "a"), answer(1, "a")]).count == 0
    assert scorer.problems == {"the score function raised KeyError: 'boxes'": 2}


def test_an_answer_that_cannot_be_read_is_a_problem() -> None:
    scorer = Scorer(SAMPLES, exact, batched=False)
    assert scorer.score(Answer(0, None, b"<html>", 0.0)) is None
    (problem,) = scorer.problems
    assert "not one of the Open Inference Protocol" in problem


def test_without_a_score_function_there_is_no_accuracy() -> None:
    assert Scorer(SAMPLES, None, batched=False).mean([answer(0, "zero")]).accuracy is None


def test_shown_answers_are_of_different_samples_with_truth_and_image() -> None:
    jpeg = b"\xff\xd8\xff\xe0 and so on"
    samples = [Sample({"page": jpeg}, "zero"), Sample({"page": np.frombuffer(jpeg, np.uint8)}, "one")]
    scorer = Scorer(samples, exact, batched=False)
    answers = [answer(0, "zero"), answer(0, "zero"), answer(1, "1", "2")]
    first, second = shown(scorer, samples, "steady", answers, 5)
    assert (first.truth, first.read, first.score, first.latency_ms, first.phase) == (
        "zero",
        "zero",
        1.0,
        250.0,
        "steady",
    )
    assert (second.truth, second.read, second.score) == ("one", ["1", "2"], 0.0)
    assert base64.b64decode(first.image) == base64.b64decode(second.image) == jpeg
    assert len(list(shown(scorer, samples, "steady", answers, 1))) == 1
    assert list(shown(scorer, samples, "steady", answers, 0)) == []


def test_an_answer_without_text_shows_its_first_output() -> None:
    body = json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.5, 1]}]}).encode()
    scorer = Scorer(SAMPLES, None, batched=False)
    (only,) = shown(scorer, SAMPLES, "a", [Answer(0, None, body, 0.0)], 1)
    assert only.read == [0.5, 1.0]
    assert only.image == ""
