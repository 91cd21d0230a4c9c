from __future__ import annotations

import io
from typing import Any

import msgspec
from rich.console import Console

from tests.unit.observe.test_demo_wording import RUN
from triscale.cli.closing import print_closing
from triscale.observe.wording import NOTHING

DOCUMENT: dict[str, Any] = {
    "pipeline": "ocr",
    "slo_ms": 250.0,
    "counts_agree": True,
    "phases": [
        {"name": "steady", "seconds": 3.0, "rate_per_s": 10.0, "sent": 30, "answered": 30, "attainment": 1.0},
        {
            "name": "burst",
            "seconds": 3.0,
            "sent": 20,
            "answered": 12,
            "shed": 8,
            "attainment": 0.6,
            "accuracy": 0.9,
            "reasons": [{"outcome": "shed", "reason": "overloaded", "count": 8}],
        },
    ],
    "stages": [{"name": "detect", "variants": ["small"], "cores": 1.25, "items": 42}],
    "samples": [{"truth": ["one line of text", "two"], "read": "one line of text", "score": 0.5, "latency_ms": 80.0}],
    "score_says": "Character accuracy of a page.",
    "plan": {"reason": "because"},
    "commands": [{"does": "then send one:", "line": "curl -s http://127.0.0.1:8000/" + "x" * 100}],
    "problems": ["mistrust [this]"],
}


def closing(document: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_closing(console, document)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().replace("\u00a0", " ")


def test_it_tells_the_run_in_words_and_figures() -> None:
    text = closing(DOCUMENT)
    assert "84.0 % of 50 requests answered within 250 ms" in text
    assert "8 were refused at the door (no room behind the work already admitted)." in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["requests"][-2:] == ["30", "20"]
    assert rows["shed"][-2:] == ["0", "8"]
    assert rows["attainment"][-4:] == ["100", "%", "60.0", "%"]
    assert rows["detect"] == ["detect", "small", "1.25", "42", NOTHING, NOTHING, NOTHING]
    assert "cancelled" not in text
    assert "✓ server and client counted the same requests in every outcome" in text
    assert "accuracy: Character accuracy of a page." in text
    assert "! mistrust [this]" in text


def test_an_answer_stands_below_the_truth() -> None:
    text = closing(DOCUMENT)
    assert "  truth  one line of text\n         two\n  read   one line of text\n" in text


def test_a_command_stays_on_one_line_to_be_copied() -> None:
    assert "curl -s http://127.0.0.1:8000/" + "x" * 100 + "\n" in closing(DOCUMENT)


def test_a_disagreement_is_said() -> None:
    assert "✗ server and client counted differently" in closing(DOCUMENT | {"counts_agree": False})
    assert "server and client" not in closing(DOCUMENT | {"counts_agree": None})


DEMO: dict[str, Any] = msgspec.to_builtins(RUN)


def test_a_demo_is_told_with_both_policies_side_by_side() -> None:
    text = closing(DEMO)
    assert "surge  13.4 requests/s for 25 s: 2.0 times what the most accurate variants can" in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["requests"][1:] == ["40", "40", "300", "300", "50", "50"]
    assert rows["attainment"][1:] == ["100", "%", "100", "%", "99.7", "%", "50.0", "%", "100", "%", "100", "%"]
    assert rows["shed"][1:] == ["0", "0", "1", "150", "0", "0"]
    assert rows["accuracy measured"][4:] == ["85.0", "%", "88.0", "%", NOTHING, NOTHING]
    assert "✓ triscale answers 99.67 % of the surge in time" in text
    assert "plan:" not in text


def test_its_table_fits_a_terminal_of_80_characters() -> None:
    assert max(map(len, closing(DEMO).splitlines())) <= 80
    assert "…" not in closing(DEMO)


def test_a_promise_that_was_not_kept_is_marked_and_what_may_explain_it_said() -> None:
    missed = msgspec.to_builtins(RUN)
    missed["phases"][1]["attainment"] = 0.9
    missed["others_cores"] = 1.3
    missed["against"]["problems"] = ["it was killed"]
    text = closing(missed)
    assert "✗ triscale answers 90.00 % of the surge in time" in text
    assert "! Other processes used 1.3 cores of this machine" in text
    assert "! under static: it was killed" in text


def test_one_run_alone_has_one_column_for_each_phase() -> None:
    text = closing({**DEMO, "against": None})
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["requests"][1:] == ["40", "300", "50"]
    assert "static" not in text
