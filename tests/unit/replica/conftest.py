"""Sessions and models that are cleaned up after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.replica.stand import Echo, Gate, Stand
from triscale.core.model import Model


@pytest.fixture
def make_stand() -> Iterator[Callable[..., Stand]]:
    made: list[Stand] = []

    def make(
        lanes: int = 1,
        models: dict[str, Model] | None = None,
        token: str = "",
        max_body: int = 2**20,
        greet: bool = True,
    ) -> Stand:
        stand = Stand(lanes, {"v": Echo()} if models is None else models, token, max_body)
        made.append(stand)
        if greet:
            stand.greet()
        return stand

    yield make
    for stand in made:
        stand.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    model = Gate()
    yield model
    model.open.set()
