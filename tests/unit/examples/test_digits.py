from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from examples.digits import networks, train
from examples.digits.images import SIDE, Grey, fit, runs, scale, slant
from examples.digits.models import Classifier, Segmenter, segments
from examples.digits.strips import main, make_strip, samples, score
from triscale import ConfigError, Item, Rejected, Resources, Result, Sample
from triscale.core.spec import load_pipeline

PIPELINE = load_pipeline(Path(__file__).parents[3] / "examples/digits/pipeline.yaml")
STATED = {variant.name: variant.accuracy for variant in PIPELINE.stages["classify"].variants}


def classifier(name: str, **options: object) -> Classifier:
    model = Classifier()
    model.load({"weights": name, **options}, Resources())
    return model


def cut(sample: Sample) -> list[Item]:
    (result,) = Segmenter().predict([Item(sample.inputs)])
    assert isinstance(result, Result)
    return [Item(data) for data in result.items["classify"]]


def read(model: Classifier, items: list[Item]) -> dict[str, object]:
    """The outputs of several items, gathered as the server does."""
    found = [cast("Result", result).outputs or {} for result in model.predict(items)] if items else []
    return {"digit": np.concatenate([np.empty(0, np.int64), *(cast("Grey", outputs["digit"]) for outputs in found)])}


@pytest.fixture(scope="module")
def unseen() -> list[Sample]:
    return list(samples(200, 11))


def test_the_same_seed_gives_the_same_strips() -> None:
    for one, other in zip(samples(5, 3), samples(5, 3), strict=True):
        assert np.array_equal(cast("Grey", one.inputs["strip"]), cast("Grey", other.inputs["strip"]))
        assert one.truth == other.truth


def test_every_digit_is_cut_out(unseen: list[Sample]) -> None:
    for sample in unseen:
        items = cut(sample)
        assert len(items) == len(cast("list[int]", sample.truth))
        assert all(cast("Grey", item["picture"]).shape == (SIDE, SIDE) for item in items)


def test_an_empty_strip_has_no_digits() -> None:
    strip, truth = make_strip(np.random.default_rng(1), 0)
    assert truth == []
    assert segments(strip) == []
    assert score(truth, {"digit": np.empty(0, np.int64)}) == 1.0


@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_every_variant_is_as_accurate_as_the_pipeline_file_says(name: str, unseen: list[Sample]) -> None:
    model = classifier(name)
    truth = [digit for sample in unseen for digit in cast("list[int]", sample.truth)]
    digits = cast("Grey", read(model, [item for sample in unseen for item in cut(sample)])["digit"])
    assert np.mean(digits == truth) == pytest.approx(STATED[name], abs=0.02)


def test_the_pipeline_file_has_a_variant_for_each_network() -> None:
    assert list(STATED) == ["mlp-256x2", "mlp-64", "mlp-16", "centroid"]
    assert sorted(STATED) == sorted(networks.NETWORKS)


def test_a_batch_gives_what_its_items_give_alone(unseen: list[Sample]) -> None:
    model = classifier("mlp-64")
    items = cut(unseen[0])
    together = model.predict(items)
    for item, result in zip(items, together, strict=True):
        (alone,) = model.predict([item])
        assert isinstance(alone, Result)
        assert isinstance(result, Result)
        assert alone.outputs is not None
        assert result.outputs is not None
        assert np.array_equal(cast("Grey", alone.outputs["digit"]), cast("Grey", result.outputs["digit"]))
        assert cast("Grey", alone.outputs["score"]) == pytest.approx(cast("Grey", result.outputs["score"]), abs=1e-5)
        assert cast("Grey", result.outputs["digit"]).dtype == np.int64
        assert cast("Grey", result.outputs["score"]).dtype == np.float32


def test_burning_changes_the_work_and_not_the_answer(unseen: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = networks.logits

    def counted(network: networks.Network, rows: networks.Floats) -> networks.Floats:
        nonlocal calls
        calls += 1
        return real(network, rows)

    monkeypatch.setattr(networks, "logits", counted)
    items = cut(unseen[0])
    plain = read(classifier("mlp-16"), items)
    assert calls == 1
    burnt = read(classifier("mlp-16", burn=5), items)
    assert calls == 6
    assert np.array_equal(cast("Grey", plain["digit"]), cast("Grey", burnt["digit"]))


@pytest.mark.parametrize(
    ("strip", "reason"),
    [
        (np.zeros((24, 24), np.float32), "`strip` must be a UINT8 tensor [height, width]"),
        (np.zeros(24, np.uint8), "`strip` must be a UINT8 tensor [height, width]"),
        ("strip", "`strip` must be a UINT8 tensor [height, width]"),
        (np.zeros((24, 0), np.uint8), "`strip` is 24x0; both must be between 1 and 4096"),
        (np.zeros((2, 4097), np.uint8), "`strip` is 2x4097; both must be between 1 and 4096"),
    ],
)
def test_what_is_no_strip_is_rejected_with_the_reason(strip: Grey | str, reason: str) -> None:
    assert Segmenter().predict([Item({"strip": strip})]) == [Rejected(reason)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": "mlp-1"},
            "there are no weights named 'mlp-1'; choose one of: centroid, mlp-16, mlp-64, mlp-256x2",
        ),
        ({"burn": 0}, r"Expected `int` >= 1 - at `\$.burn`. The options are: weights, burn"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier().load(options, Resources())


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [([1, 2], [1, 2], 1.0), ([1, 2], [1, 3], 0.5), ([1, 2], [1], 0.0), ([1], [], 0.0), ([], [1], 0.0)],
)
def test_the_score_is_the_share_of_digits_in_their_places(truth: list[int], answer: list[int], expected: float) -> None:
    assert score(truth, {"digit": np.array(answer, np.int64)}) == expected


def test_the_command_prints_a_request_or_a_drawing(capsys: pytest.CaptureFixture[str]) -> None:
    (sample,) = samples(1, 4)
    strip = cast("Grey", sample.inputs["strip"])
    main(["--seed", "4", "--json"])
    (tensor,) = json.loads(capsys.readouterr().out)["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("strip", "UINT8", list(strip.shape))
    assert tensor["data"] == strip.ravel().tolist()
    main(["--seed", "4"])
    *drawing, truth = capsys.readouterr().out.splitlines()
    assert len(drawing) == strip.shape[0]
    assert truth.split() == [str(digit) for digit in cast("list[int]", sample.truth)]


def test_pictures_are_scaled_fitted_and_slanted() -> None:
    ramp = np.array([[0, 100], [100, 200]], np.uint8)
    assert scale(ramp, 2, 2).tolist() == ramp.tolist()
    assert scale(ramp, 1, 1).tolist() == [[100]]
    assert scale(ramp, 2, 3).tolist() == [[0, 50, 100], [100, 150, 200]]
    assert fit(np.full((4, 2), 255, np.uint8)).sum() == 255 * SIDE * SIDE / 2
    assert slant(np.array([[1], [2], [3]], np.uint8), 1.0).tolist() == [[0, 0, 1], [0, 2, 0], [3, 0, 0]]
    assert slant(np.array([[1], [2], [3]], np.uint8), -1.0).tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3]]


@pytest.mark.parametrize(
    ("mask", "expected"), [("", []), ("000", []), ("111", [(0, 3)]), ("0110010", [(1, 3), (5, 6)]), ("1", [(0, 1)])]
)
def test_runs_are_found(mask: str, expected: list[tuple[int, int]]) -> None:
    assert runs(np.array([bit == "1" for bit in mask], bool)) == expected


def test_the_gradients_are_those_of_the_loss() -> None:
    rng = np.random.default_rng(1)
    rows, labels = rng.random((5, 6)).astype(np.float32), np.array([0, 3, 9, 3, 1], np.uint8)
    network = [
        (rng.normal(size=(a, b)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in ((6, 7), (7, 10))
    ]
    arrays = [array for layer in network for array in layer]
    for array, gradient in zip(arrays, train.gradients(network, rows, labels), strict=True):
        assert gradient.shape == array.shape
        for at in [0, array.size // 2, array.size - 1]:
            nudged = []
            for step in (0.01, -0.01):
                array.flat[at] += np.float32(step)
                nudged.append(train.loss(network, rows, labels))
                array.flat[at] -= np.float32(step)
            assert gradient.flat[at] == pytest.approx((nudged[0] - nudged[1]) / 0.02, abs=2e-3)


def test_training_learns_and_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "EPOCHS", 12)
    pictures, labels = train.cut_digits(1, 120, train=True)
    rows = networks.as_input(pictures)
    network = train.train((16,), rows, labels, seed=3)
    assert (networks.logits(network, rows).argmax(axis=1) == labels).mean() > 0.8
    again = train.train((16,), rows, labels, seed=3)
    for layer, layer_again in zip(network, again, strict=True):
        assert np.array_equal(layer[0], layer_again[0])
        assert np.array_equal(layer[1], layer_again[1])


def test_the_centroid_network_chooses_the_nearest_mean() -> None:
    rng = np.random.default_rng(1)
    rows, labels = rng.random((40, 6)).astype(np.float32), np.repeat(np.arange(10, dtype=np.uint8), 4)
    network = train.nearest_centroid(rows, labels)
    means = np.stack([rows[labels == digit].mean(axis=0) for digit in range(10)])
    nearest = ((rows[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert networks.logits(network, rows).argmax(axis=1).tolist() == nearest.tolist()
