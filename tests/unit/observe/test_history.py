"""The history says, second by second, what the accounts counted: no more, no less, and for ten minutes."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.observe.live_scene import STARTED_S, LiveScene
from triscale.core.request import Outcome
from triscale.observe.axes import Axes
from triscale.observe.history import KEPT, HistoryDocument


def busy_scene() -> LiveScene:
    """Three seconds: two requests; six, of which the reader cannot serve all in time; none."""
    scene = LiveScene()
    scene.arrive()
    scene.arrive()
    scene.seconds()
    for _ in range(6):
        scene.arrive()
    scene.seconds(2)
    return scene


def test_the_samples_add_up_to_the_accounts() -> None:
    scene = busy_scene()
    samples = scene.history.recent()
    accounts = scene.dispatcher.accounts
    assert [sample.number for sample in samples] == [1, 2, 3]
    assert [sample.arrived for sample in samples] == [2, 6, 0]
    for outcome in Outcome:
        assert sum(sample.outcomes[outcome] for sample in samples) == accounts.outcomes[outcome]
    assert accounts.outcomes[Outcome.DROPPED] > 0
    for key, count in accounts.causes.items():
        assert sum(sample.causes.get(key, 0) for sample in samples) == count
    for s, stage in enumerate(accounts.stages):
        assert sum(sample.stages[s].completed for sample in samples) == stage.completed
        assert [sum(c) for c in zip(*(sample.stages[s].items for sample in samples), strict=True)] == stage.items_run
        assert sum(sum(sample.stages[s].given_up.values()) for sample in samples) == sum(stage.given_up.values())
    assert sum(sample.accuracy_sum for sample in samples) == pytest.approx(scene.recorder.accuracy_sum)


def test_the_columns_say_what_happened_in_each_second() -> None:
    scene = busy_scene()
    document = scene.history.since()
    assert document.started_s == STARTED_S
    assert list(document.at_s) == [STARTED_S + 1, STARTED_S + 2, STARTED_S + 3]
    assert list(document.arrivals_per_s) == [2.0, 6.0, 0.0]
    assert list(document.capacity_per_s) == [15.0] * 3
    assert document.answered_per_s[0] == 2.0
    # Two requests of 200 ms, whose four items then pass one lane of 100 ms each.
    assert document.p50_ms[0] == pytest.approx(400.0, rel=0.02)
    assert document.p99_ms[0] == pytest.approx(600.0, rel=0.02)
    assert (document.p99_ms[2], document.accuracy[2]) == (None, None)
    assert document.accuracy[0] == 0.9
    assert (document.cores_start[0], document.cores_up[0], document.cores_out[0]) == (3.0, 1.0, 0.0)
    assert document.busy_cores[0] == pytest.approx(0.8)
    assert document.stages["read"].items_per_s[0] == 4.0
    dropped = document.causes_per_s["dropped/predicted_late"]
    assert list(dropped) == list(document.dropped_per_s)
    assert sum(dropped) == scene.dispatcher.accounts.outcomes[Outcome.DROPPED]


def test_a_batch_counts_as_work_in_the_seconds_in_which_it_runs_not_in_the_one_in_which_it_ends() -> None:
    scene = LiveScene()
    for _ in range(3):
        scene.arrive()  # three lanes, each busy for 200 ms
    for _ in range(6):
        scene.run(scene.now + 0.05)
        scene.history.sample(scene.now, STARTED_S + scene.now)
    busy = [core_s / 0.05 for core_s in (sample.stages[0].busy_core_s for sample in scene.history.recent())]
    assert busy == pytest.approx([3.0, 3.0, 3.0, 3.0, 0.0, 0.0], abs=1e-6)


def test_whoever_asks_again_gets_only_what_is_new() -> None:
    scene = busy_scene()
    assert len(scene.history.since(2).at_s) == 1
    everything = scene.history.since(0)
    assert everything.last == 3
    assert list(scene.history.since(everything.last).at_s) == []
    scene.seconds()
    assert len(scene.history.since(everything.last).at_s) == 1


def test_a_sample_that_comes_late_covers_the_time_since_the_last() -> None:
    scene = LiveScene()
    scene.arrive()
    scene.arrive()
    scene.run(4.0)
    scene.history.sample(scene.now, STARTED_S + 4.0)
    document = scene.history.since()
    assert document.arrivals_per_s == [0.5]


def test_ten_minutes_are_kept_and_no_more() -> None:
    scene = LiveScene()
    for second in range(KEPT + 50):
        scene.history.sample(float(second), STARTED_S + second)
    document = scene.history.since()
    assert len(document.at_s) == KEPT
    assert document.last == KEPT + 50
    assert document.at_s[-1] == STARTED_S + KEPT + 49


def test_a_plan_that_knows_no_capacity_says_none() -> None:
    scene = LiveScene()
    scene.dispatcher.plan = msgspec.structs.replace(scene.dispatcher.plan, capacity=0.0)
    scene.axes = Axes()
    scene.seconds()
    assert scene.history.since().capacity_per_s == [None]


def test_the_document_goes_through_json_unchanged() -> None:
    document = busy_scene().history.since()
    assert msgspec.json.decode(msgspec.json.encode(document), type=HistoryDocument) == document
