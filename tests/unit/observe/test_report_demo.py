"""The report of a demo: a whole page with both policies, readable without the account of the server or a second run."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tests.unit.observe.page_reading import parsed, text_of
from tests.unit.observe.test_demo_wording import RUN
from triscale.observe.report import render

SECONDS = 75


def document() -> dict[str, Any]:
    """A run of three phases of 25 s each: a decision and a look every second, two replicas more in the surge."""
    whole: dict[str, Any] = msgspec.to_builtins(RUN)
    for run in (whole, whole["against"]):
        run["series"] = {
            "sent": [4] * SECONDS,
            **{name: [1] * SECONDS for name in ("answered", "late", "dropped", "shed")},
            "failed": [0] * SECONDS,
            "cancelled": [0] * SECONDS,
            "p50_ms": [90.0] * SECONDS,
            "p99_ms": [None, *([600.0] * (SECONDS - 1))],
        }
        run["control"] = control()
    whole["problems"], whole["against"]["problems"] = ["one thing"], ["another thing"]
    return whole


def control() -> dict[str, Any]:
    seconds = [float(second) for second in range(1, SECONDS + 1)]
    surge = [25 < second <= 50 for second in range(1, SECONDS + 1)]
    return {
        "at_s": seconds,
        "answered_per_s": [1.0] * SECONDS,
        "capacity_per_s": [6.7] * SECONDS,
        "accuracy": [None, *(0.85 if busy else 0.89 for busy in surge[1:])],
        "cores_start": [1.0] * SECONDS,
        "cores_up": [1.0 if busy else 0.0 for busy in surge],
        "cores_out": [0.0] * SECONDS,
        "busy_cores": [0.9] * SECONDS,
        "replicas": [[second, 6 if busy else 4, 0] for second, busy in zip(seconds, surge, strict=True)],
        "mixes": {
            "detect": {
                "at_s": seconds,
                "items": {
                    "large": [0 if busy else 2 for busy in surge],
                    "<small>": [9 if busy else 0 for busy in surge],
                },
            },
            "read": {"at_s": seconds, "items": {"only": [1] * SECONDS}},
        },
        "decisions": [
            {"at_s": second, "mode": "accuracy", "demand": 13.0, "cores": 2, "accuracy": 0.85, "reason": f"<b>{second}"}
            for second in seconds
        ],
    }


@pytest.fixture(scope="module")
def page() -> str:
    return render(document())


def test_the_page_is_whole_and_tells_both_runs(page: str) -> None:
    parsed(page)
    text = text_of(page)
    assert "99.7 % of 390 requests answered within 800 ms under triscale, 61.5 % under static" in text
    assert "2.0 times what the most accurate variants can carry on 2 cores (6.7/s)." in text
    assert "✓ triscale answers 99.67 % of the surge in time" in text
    assert "surge, triscale surge, static" in text
    assert "85.0 % ± 2.0" in text
    assert "one thing" in text
    assert "under static: another thing" in text


def test_the_plots_show_both_policies_and_all_three_axes(page: str) -> None:
    labels = re.findall(r'<figure role="img" aria-label="([^"]*)"', page)
    assert [label.partition(":")[0] for label in labels] == [
        "Arrivals and what was answered in time, requests per second",
        "Attainment, % of the requests of each second",
        "Latency of the answers, ms, by second of arrival",
        "Accuracy",
        "Up",
        "Out",
        "detect",
    ]
    assert (
        "arrivals, answered in time under triscale, under static, the most accurate variants carry 6.7/s" in labels[0]
    )
    assert "what the planner leaves in the surge, 85.0 %" in labels[3]


def test_decisions_are_thinned_and_what_they_say_is_text(page: str) -> None:
    assert "75 decisions of triscale, 60 of them shown" in text_of(page)
    assert "<b>1.0" not in page
    assert "&lt;b&gt;1.0" in page
    assert "<small>" not in re.sub(r"<small>[^<]*</small>", "", page)


def test_a_single_run_is_told_without_a_comparison() -> None:
    alone = document()
    del alone["against"]
    page = render(alone)
    parsed(page)
    text = text_of(page)
    assert "static" not in text
    assert "Side by side" not in text


def test_cores_and_replicas_that_never_change_are_not_plotted() -> None:
    quiet = document()
    quiet["control"]["replicas"] = [[1.0, 4, 0], [2.0, 4, 0]]
    quiet["control"]["accuracy"] = quiet["against"]["control"]["accuracy"] = [None] * SECONDS
    labels = re.findall(r'<figure role="img" aria-label="([^":]*)', render(quiet))
    assert "Out" not in labels
    assert "Accuracy" not in labels
    assert "Up" in labels


def test_the_same_document_gives_the_same_page(page: str) -> None:
    assert render(document()) == page
