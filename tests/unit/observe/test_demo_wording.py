from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from triscale.observe.demo_wording import accuracy_text, promises, told_phases, while_it_ran
from triscale.observe.report_document import (
    CeilingView,
    ControlView,
    LatencyView,
    PhaseView,
    PlanView,
    ReasonView,
    ReportDocument,
    SurgeView,
)
from triscale.observe.wording import headline

CONTROL = ControlView(
    at_s=(1.0,), answered_per_s=(1.0,), capacity_per_s=(None,), accuracy=(0.9,), cores_start=(2.0,), cores_up=(0.0,),
    cores_out=(0.0,), busy_cores=(1.0,),
)  # fmt: skip
CEILING = CeilingView(variants={"detect": "large"}, accuracy=0.89, within_slo_per_s=3.7, capacity_per_s=6.7)
SURGE = SurgeView(phase=1, times=2.0, needs_accuracy=0.85, back_after_s=2.0)


def phase(name: str, sent: int, answered: int, rate: float, **more: Any) -> PhaseView:
    return PhaseView(
        name=name, seconds=25.0, rate_per_s=rate, sent=sent, answered=answered, attainment=answered / sent, **more
    )


CALM = phase("calm", 40, 40, 2.2, latency_ms=LatencyView(p99=600.0), held_cores=1.5)
BURST = phase(
    "surge", 300, 299, 13.4, expected_accuracy=0.86, accuracy=0.85, accuracy_error=0.01, scored=299, held_cores=2.0,
    shed=1, reasons=(ReasonView(outcome="shed", reason="overloaded", count=1),),
)  # fmt: skip
AGAIN = phase("calm again", 50, 50, 2.2)
STATIC = ReportDocument(
    pipeline="ocr",
    slo_ms=800.0,
    policy="static",
    phases=(CALM, phase("surge", 300, 150, 13.4, accuracy=0.88, scored=150, shed=150), AGAIN),
)
RUN = ReportDocument(
    pipeline="ocr", slo_ms=800.0, policy="triscale", phases=(CALM, BURST, AGAIN), against=STATIC, control=CONTROL,
    ceiling=CEILING, surge=SURGE, plan=PlanView(cores=2),
)  # fmt: skip


def with_surge(run: ReportDocument = RUN, **fields: Any) -> ReportDocument:
    assert run.surge is not None
    return replace(run, surge=replace(run.surge, **fields))


def with_burst(**fields: Any) -> ReportDocument:
    return replace(RUN, phases=(CALM, replace(BURST, **fields), AGAIN))


def test_the_headline_names_both() -> None:
    assert headline(RUN) == ("99.7 % of 390 requests answered within 800 ms under triscale, 61.5 % under static")


def test_each_phase_is_told_under_both_policies() -> None:
    calm, surge, again = told_phases(RUN)
    assert calm.sentences == (
        "2.2 requests/s for 25 s; the most accurate variants answer up to 3.7/s in time.",
        "triscale answered all 40 within 800 ms (p99 600 ms, 1.5 cores held).",
        "static answered all 40 (p99 600 ms, 1.5 cores held).",
    )
    assert surge.sentences == (
        "13.4 requests/s for 25 s: 2.0 times what the most accurate variants can carry on 2 cores (6.7/s).",
        "triscale answered 99.7 % of 300 within 800 ms (2.0 cores held).",
        "1 was refused at the door (no room behind the work already admitted).",
        "static answered 50.0 % of 300.",
        "150 were refused at the door.",
        (
            "Faster variants made room: 86.0 % expected accuracy instead of 89.0 %. "
            "By the planner this load leaves 85.0 %."
        ),
        "Measured on 299 answers: 85.0 % ± 2.0; static 88.0 % on the 150 that it answered.",
    )
    assert again.sentences[-1] == "2 s after the surge answers were back at the highest accuracy."


def test_one_run_is_told_without_another() -> None:
    calm, _, _ = told_phases(replace(RUN, against=None, surge=None, ceiling=None))
    assert calm.sentences[0] == "2.2 requests/s for 25 s."
    assert not any("static" in sentence for sentence in calm.sentences)


def test_a_run_that_was_stopped_is_told_as_far_as_it_went() -> None:
    stopped = replace(RUN, phases=(CALM, BURST), against=replace(STATIC, phases=(CALM,)))
    assert [told.name for told in told_phases(stopped)] == ["calm", "surge"]
    assert [promise.text.split()[0] for promise in promises(stopped)] == ["triscale", "accuracy"]
    assert promises(replace(RUN, phases=(CALM,))) == []


def test_what_was_promised_was_kept() -> None:
    assert [(promise.kept, promise.text) for promise in promises(RUN)] == [
        (True, "triscale answers 99.67 % of the surge in time, 99.74 % of all requests (goal: 99 %)"),
        (True, "static answers 50.0 % of the surge in time (expected: below 70 %)"),
        (True, "accuracy falls no further than it must: 86.0 % expected of what ran; the planner leaves 85.0 %"),
        (True, "the highest accuracy is back 2 s after the surge (goal: within 5 s)"),
    ]


@pytest.mark.parametrize(
    ("run", "broken", "text"),
    [
        (with_burst(attainment=0.9899), 0, "98.99 % of the surge in time"),
        (replace(RUN, against=replace(STATIC, phases=(CALM, BURST, AGAIN))), 1, "99.7 % of the surge"),
        (with_burst(expected_accuracy=0.8), 2, "80.0 % expected of what ran; the planner leaves 85.0 %"),
        (with_surge(back_after_s=7.0), 3, "back 7 s after the surge"),
        (with_surge(back_after_s=None), 3, "is not back before the run ends"),
    ],
)
def test_what_was_promised_and_not_kept_is_said(run: ReportDocument, broken: int, text: str) -> None:
    found = promises(run)
    assert [index for index, promise in enumerate(found) if not promise.kept] == [broken]
    assert text in found[broken].text


def test_a_machine_slower_than_profiled_leaves_less_and_that_counts() -> None:
    slow = with_surge(with_burst(expected_accuracy=0.66), needs_then=0.65, served_then=0.9)
    promise = promises(slow)[2]
    assert promise.kept
    assert promise.text.endswith(
        "the planner leaves 85.0 %, and 65.0 % for 90.0 % of the requests on the machine as fast as it was then"
    )


def test_only_static_is_expected_to_fail() -> None:
    other = replace(RUN, against=replace(STATIC, policy="loki"))
    assert len(promises(other)) == 3


def test_what_may_explain_it_is_said() -> None:
    assert while_it_ran(RUN) == []
    busy = replace(RUN, others_cores=1.3, slowdown=2.24, against=replace(STATIC, others_cores=0.1, slowdown=1.5))
    assert while_it_ran(busy) == [
        "Other processes used 1.3 cores of this machine during the run under triscale.",
        "In the end models took 2.2 times as long as profiled under triscale.",
        "In the end models took 1.5 times as long as profiled under static.",
    ]
    assert while_it_ran(replace(busy, against=None))[0].endswith("during the run.")


def test_a_measured_accuracy_says_how_sure_it_is() -> None:
    assert accuracy_text(BURST) == "85.0 % ± 2.0"
    assert accuracy_text(replace(BURST, accuracy_error=None)) == "85.0 %"
