"""The OCR models, loaded once, and pages to try them on."""

from __future__ import annotations

import numpy as np
import pytest

from examples.ocr.models import Detector, Direction, Recogniser
from examples.ocr.pages import Page, make_page
from triscale import Resources


@pytest.fixture(scope="session")
def detector() -> Detector:
    model = Detector()
    model.load({"weights": "tiny", "side": 640}, Resources())
    return model


@pytest.fixture(scope="session")
def direction() -> Direction:
    model = Direction()
    model.load({}, Resources())
    return model


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    model = Recogniser()
    model.load({"weights": "tiny"}, Resources())
    return model


@pytest.fixture(scope="session")
def easy_page() -> Page:
    return make_page(np.random.default_rng(1), "easy", 6)


@pytest.fixture(scope="session")
def blank_page() -> Page:
    return make_page(np.random.default_rng(2), "easy", 0)
