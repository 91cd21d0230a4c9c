"""Each decision is kept, counted and written down with what it was decided from."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.observe.decisions import Decision, DecisionFile, DecisionLog


def decision(number: int = 1, **changes: object) -> Decision:
    fields: dict[str, object] = {
        "number": number, "wall_s": 1.5, "policy": "triscale", "reason": "demand rose", "mode": "hardware",
        "demand": 30.0, "arrivals": 28.0, "queued": 4, "cores": 4.0, "cores_before": 2.0, "accuracy": 0.9,
        "accuracy_before": 0.9, "served_fraction": 1.0, "variants": {"read": {"small": 1.0}}, "ready": 1,
        "starting": 0, "decide_s": 0.001,
    }  # fmt: skip
    return Decision(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "cores_up"),
        ({"cores": 1.0}, "cores_down"),
        ({"cores": 2.0}, "other"),
        ({"accuracy": 0.8}, "accuracy_down"),
        ({"accuracy": 0.95, "cores": 1.0}, "accuracy_up"),
    ],
)
def test_a_decision_says_which_way_it_went(changes: dict[str, object], kind: str) -> None:
    assert decision(**changes).kind == kind  # type: ignore[arg-type]


def test_the_log_keeps_the_latest_and_counts_all() -> None:
    log = DecisionLog()
    for number in range(1, 1004):
        log.add(decision(number))
    assert log.total == 1003
    assert log.counts["hardware", "cores_up"] == 1003
    assert [each.number for each in log.since(1001)] == [1002, 1003]
    assert len(log.since(most=5000)) == 1000


def test_the_file_has_one_decision_a_line_at_once_behind_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("{}\n")
    file = DecisionFile(path, "ocr")
    log = DecisionLog(file.write)
    log.add(decision(1))
    log.add(decision(2, reason="demand fell\nagain"))
    first, second, third = [json.loads(line) for line in path.read_text().splitlines()]
    file.close()
    assert first == {}
    assert (second["pipeline"], second["number"], second["kind"]) == ("ocr", 1, "cores_up")
    assert second["variants"] == {"read": {"small": 1.0}}
    assert third["reason"] == "demand fell\nagain"


def test_a_file_that_was_truncated_is_written_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    file = DecisionFile(path, "ocr")
    file.write(decision(1))
    path.write_bytes(b"")
    file.write(decision(2))
    file.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [2]


def test_a_full_disk_costs_lines_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    file = DecisionFile(Path("/dev/full"), "ocr")
    log = DecisionLog(file.write)
    with caplog.at_level(logging.ERROR):
        log.add(decision(1))
        log.add(decision(2))
    file.close()
    assert log.total == 2
    assert [record.message for record in caplog.records] == [
        "/dev/full: decisions are not written to it: [Errno 28] No space left on device"
    ]


def test_a_file_that_cannot_be_opened_is_a_mistake_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        DecisionFile(tmp_path / "missing" / "decisions.jsonl", "ocr")
    assert str(error.value).endswith(
        "decisions.jsonl: cannot be written to: No such file or directory; name a file in a folder that exists"
    )
