from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.observe.live_scene import STARTED_S, LiveScene, decision
from triscale.cli.demo_control import back_after_s, control_document, drift_at, phase_figures, slowdown
from triscale.observe.decisions import DecisionsDocument
from triscale.observe.status import Status

ALL_LARGE = 0.9


@pytest.fixture(scope="module")
def scene() -> LiveScene:
    """Four seconds, one request in each."""
    scene = LiveScene()
    for _ in range(4):
        scene.arrive()
        scene.seconds()
    return scene


@pytest.fixture(scope="module")
def statuses() -> list[Status]:
    """Looks at the end of each of four seconds, in which one, two, three and four requests came."""
    scene = LiveScene()
    found = [scene.status()]
    for count in range(1, 5):
        for _ in range(count):
            scene.arrive()
        scene.seconds()
        found.append(scene.status())
    return found


def control(scene: LiveScene, statuses: list[Status], started_s: float = STARTED_S, ran: float = 4.0) -> dict[str, Any]:
    decisions = [decision(number) for number in range(1, 8)]
    document = DecisionsDocument(started_s=STARTED_S, last=7, decisions=decisions)
    return control_document(scene.history.since(0), document, statuses, started_s, ran)


def test_what_the_server_says_is_put_on_the_runs_time_axis(scene: LiveScene, statuses: list[Status]) -> None:
    found = control(scene, statuses, started_s=STARTED_S + 1.0, ran=2.0)
    assert found["at_s"] == [1.0, 2.0, 3.0]
    assert found["accuracy"] == pytest.approx([ALL_LARGE] * 3)
    assert found["answered_per_s"] == [1.0, 1.0, 1.0]
    assert (found["cores_start"][0], found["cores_up"][0], found["cores_out"][0]) == (3.0, 1.0, 0.0)
    assert [each["at_s"] for each in found["decisions"]] == [0.0, 1.0, 2.0]
    assert found["replicas"] == [[0.0, 2, 0], [1.0, 2, 0], [2.0, 2, 0]]
    assert set(found["busy_by_stage"]) == {"detect", "read"}


def test_a_mix_is_what_was_handed_to_lanes_between_two_looks(scene: LiveScene, statuses: list[Status]) -> None:
    mix = control(scene, statuses)["mixes"]["detect"]
    assert mix["at_s"] == [1.0, 2.0, 3.0, 4.0]
    handed = [sum(column) for column in zip(*mix["items"].values(), strict=True)]
    assert handed == [1, 2, 3, 4]


def test_without_looks_there_is_no_mix(scene: LiveScene) -> None:
    assert control(scene, [])["mixes"] == {}


def rows(**columns: list[Any]) -> dict[str, Any]:
    """Seconds that end at 1, 2, ..."""
    length = len(next(iter(columns.values())))
    usual: dict[str, Any] = {
        "answered_per_s": [1.0] * length,
        "accuracy": [0.9] * length,
        "cores_start": [1.0] * length,
        "cores_up": [0.0] * length,
        "cores_out": [0.0] * length,
        "busy_cores": [0.5] * length,
    }
    return {"at_s": [float(index + 1) for index in range(length)], **usual, **columns}


def test_a_phase_is_the_mean_of_its_seconds_weighted_by_answers() -> None:
    of = rows(answered_per_s=[4.0, 1.0, 3.0, 9.0], accuracy=[0.9, 0.9, 0.5, 0.1], cores_up=[0.0, 0.0, 1.0, 1.0])
    found = phase_figures(of, 1.0, 3.0)
    assert found["expected_accuracy"] == pytest.approx((0.9 + 3 * 0.5) / 4)
    assert found["held_cores"] == pytest.approx(1.5)
    assert found["busy_cores"] == pytest.approx(0.5)


def test_a_phase_without_answers_has_no_accuracy_and_one_without_seconds_nothing() -> None:
    of = rows(accuracy=[None, None], answered_per_s=[0.0, 0.0])
    assert phase_figures(of, 0.0, 2.0)["expected_accuracy"] is None
    assert set(phase_figures(of, 7.0, 9.0).values()) == {None}


@pytest.mark.parametrize(
    ("accuracy", "after"),
    [
        ([0.9, 0.6, 0.6, 0.9, 0.9], 2.0),
        ([0.9, 0.6, 0.896, 0.9, 0.9], 1.0),
        ([0.9, 0.6, None, None, 0.9], 3.0),
        ([0.9, 0.6, 0.6, 0.7, 0.8], None),
    ],
)
def test_accuracy_is_back_with_the_first_second_at_the_top_after_the_surge(
    accuracy: list[float | None], after: float | None
) -> None:
    assert back_after_s(rows(accuracy=accuracy), 2.0, 0.9) == after


def drifting(status: Status, drift: float | None) -> Status:
    """The same, with this drift of the large detector, which ran three quarters of all items, and 1.0 of the reader."""
    found = []
    for stage in status.stages:
        of = {"large": drift, "only": 1.0}
        variants = [
            replace(variant, drift=of.get(variant.name), items={"large": 30, "only": 10}.get(variant.name, 0))
            for variant in stage.variants
        ]
        found.append(replace(stage, variants=variants))
    return replace(status, stages=found)


def test_the_slowdown_is_the_geometric_mean_over_what_ran(statuses: list[Status]) -> None:
    assert slowdown(drifting(statuses[-1], 2.0)) == pytest.approx(2.0 ** (30 / 40))
    assert slowdown(drifting(statuses[-1], None)) == pytest.approx(1.0)
    assert slowdown(statuses[-1]) is None


def test_drift_is_that_of_the_last_look_before_a_moment(statuses: list[Status]) -> None:
    looks = [drifting(status, 1.0 + number) for number, status in enumerate(statuses)]
    assert drift_at(looks, STARTED_S + 2.5) == {("detect", "large"): 3.0, ("read", "only"): 1.0}
    assert drift_at(looks, STARTED_S - 1.0) == {}
