from __future__ import annotations

import io
from typing import Any

from rich.console import Console

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
    return console.file.getvalue()


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
