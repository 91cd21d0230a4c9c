"""The example pipeline files: valid, and what they name exists and fits together."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from examples.identity.models import Identity
from examples.identity.models import samples as identity_samples
from examples.ocr.measure import DETECTORS, RECOGNISERS
from triscale import Item, Model, Resources, Result, Sample
from triscale.core.spec import load_pipeline

FOLDER = Path(__file__).parents[3] / "examples"
PIPELINES = {name: load_pipeline(FOLDER / name / "pipeline.yaml") for name in ("identity", "digits", "ocr")}


def named(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_model_loads_with_its_options(name: str) -> None:
    for stage in PIPELINES[name].stages.values():
        for variant in stage.variants:
            kind = named(variant.model)
            assert isinstance(kind, type)
            model = kind()
            assert isinstance(model, Model)
            model.load(variant.options, Resources())


@pytest.mark.parametrize("name", PIPELINES)
def test_samples_are_made_and_fit_the_declared_inputs(name: str) -> None:
    pipeline = PIPELINES[name]
    assert pipeline.samples is not None
    source = named(pipeline.samples.source)
    (sample,) = source(1, 3)  # type: ignore[operator]
    assert isinstance(sample, Sample)
    assert sample.inputs.keys() == pipeline.inputs.keys()
    if pipeline.samples.score:
        assert callable(named(pipeline.samples.score))


@pytest.mark.parametrize("name", PIPELINES)
def test_variants_stand_from_the_most_accurate_to_the_least(name: str) -> None:
    for stage in PIPELINES[name].stages.values():
        accuracies = [variant.accuracy for variant in stage.variants]
        assert accuracies == sorted(accuracies, reverse=True)


def test_the_ocr_variants_are_those_that_are_measured() -> None:
    stages = PIPELINES["ocr"].stages
    assert {variant.name: variant.options for variant in stages["detect"].variants} == DETECTORS
    assert {variant.name: variant.options for variant in stages["recognise"].variants} == RECOGNISERS


def test_identity_answers_with_what_it_was_sent() -> None:
    (sample,) = identity_samples(1, 3)
    assert Identity().predict([Item(sample.inputs)]) == [Result(outputs={"output": sample.inputs["input"]})]
    assert np.shape(sample.inputs["input"]) == (16,)  # type: ignore[arg-type]
