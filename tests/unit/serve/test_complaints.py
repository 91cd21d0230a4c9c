"""The same thing is said at once, and then seldom, with how often it was kept back."""

from __future__ import annotations

from triscale.serve.complaints import Complaints


def test_what_is_said_all_the_time_is_said_seldom_and_counted_meanwhile() -> None:
    complaints = Complaints(every_s=10.0)
    said = [(now, complaints.about("detect/large", float(now))) for now in range(25)]
    assert [(now, kept_back) for now, kept_back in said if kept_back is not None] == [(0, 0), (10, 9), (20, 9)]


def test_one_subject_does_not_silence_another() -> None:
    complaints = Complaints()
    assert complaints.about("detect/large", 5.0) == 0
    assert complaints.about("detect/small", 5.0) == 0
