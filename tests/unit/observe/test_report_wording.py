from __future__ import annotations

import pytest

from triscale.core.request import Reason
from triscale.observe.report_document import LatencyView, PhaseView, ReasonView
from triscale.observe.wording import NOTHING, phase_sentences, reason_text, text_of


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason])
def test_every_reason_of_ours_has_words(reason: Reason) -> None:
    assert reason_text(reason) != reason.replace("_", " ")


def test_reasons_of_others_are_shown_as_they_are() -> None:
    assert reason_text("http_502") == "http 502"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "a\nb"),
        (["the first line", "the second"], "the first line\nthe second"),
        ([4, 2, 3], "4 2 3"),
        (["a", "b"], "a b"),
        ({"a": "ü"}, '{"a": "ü"}'),
        (None, NOTHING),
    ],
)
def test_truths_and_answers_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_one_is_singular_and_missing_reasons_are_still_counted() -> None:
    phase = PhaseView(
        name="burst",
        seconds=2.5,
        sent=14,
        answered=10,
        dropped=1,
        failed=3,
        latency_ms=LatencyView(p99=80.0),
        reasons=(ReasonView(outcome="dropped", reason="expired", stage="detect", count=1),),
    )
    assert phase_sentences(phase, 100.0) == [
        "2.5 s: 10 of 14 (71.4 %) were answered within 100 ms, 99 of 100 answers within 80 ms.",
        "3 failed.",
        "1 was dropped (time ran out while waiting or running) at detect.",
    ]


def test_one_reason_at_several_stages_is_one_sentence() -> None:
    rows = [ReasonView(outcome="dropped", reason="expired", stage=stage, count=n) for stage, n in (("a", 2), ("b", 5))]
    phase = PhaseView(name="burst", seconds=1.0, sent=7, answered=0, dropped=7, reasons=tuple(rows))
    assert phase_sentences(phase, 100.0)[1:] == [
        "7 were dropped (time ran out while waiting or running): 5 at b, 2 at a."
    ]
