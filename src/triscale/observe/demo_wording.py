"""What a demo showed, in plain words: phase by phase under both policies, and whether it kept what it promises.

The same sentences stand in the terminal and in the HTML report. A promise that was not kept is said as plainly as one
that was, with what may explain it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from triscale.observe.report_document import PhaseView, ReportDocument, SurgeView
from triscale.observe.wording import count, milliseconds, misses, percent

__all__ = ["Promise", "Told", "accuracy_text", "promises", "told_phases", "uncertainty", "while_it_ran"]

_ATTAINED = 0.99
_STATIC_BELOW = 0.7
_BACK_S = 5.0
_NEARLY = 0.005
"""Accuracy that two means may differ by and still count as equal."""
_BUSY = 0.2
"""Cores of others from which on they are worth a remark."""
_SLOW = 1.15
"""Slowdown from which on it is worth a remark."""
_95 = 1.96


class Told(Struct, frozen=True, kw_only=True):
    """What happened in one phase."""

    name: str
    sentences: tuple[str, ...]


class Promise(Struct, frozen=True, kw_only=True):
    """What the demo is there to show, and what it showed."""

    kept: bool | None
    """None: it cannot be said."""
    text: str


def accuracy_text(phase: PhaseView) -> str:
    """Measured, with half of a 95 % confidence interval: `84.9 % ± 2.1`."""
    error = uncertainty(phase)
    return f"{percent(phase.accuracy)} ± {error}" if error else percent(phase.accuracy)


def uncertainty(phase: PhaseView) -> str:
    """Half of a 95 % confidence interval of the measured accuracy, in points; empty where it is not known."""
    if phase.accuracy is None or phase.accuracy_error is None:
        return ""
    return f"{100.0 * _95 * phase.accuracy_error:.1f}"


def told_phases(run: ReportDocument) -> list[Told]:
    """Each phase under the run's policy and, where there is one, under the other."""
    against = run.against
    others = against.phases if against is not None else ()
    found = []
    for index, phase in enumerate(run.phases):
        other = others[index] if index < len(others) else None
        sentences = [_load(run, index), *_answers(run, phase, against, other)]
        if run.surge is not None and index == run.surge.phase:
            sentences += _price(run, run.surge, phase)
        if run.surge is not None and index == run.surge.phase + 1:
            sentences.append(_return(run, run.surge))
        found.append(Told(name=phase.name, sentences=tuple(sentences)))
    return found


def promises(run: ReportDocument) -> list[Promise]:
    """What the surge was to show; nothing where there was none."""
    surge, against = run.surge, run.against
    if surge is None or len(run.phases) <= surge.phase:
        return []
    phase = run.phases[surge.phase]
    found = [_attained(run, phase)]
    if against is not None and against.policy == "static" and len(against.phases) > surge.phase:
        below = against.phases[surge.phase].attainment
        kept = None if below is None else below < _STATIC_BELOW
        goal = f"(expected: below {100.0 * _STATIC_BELOW:.0f} %)"
        found.append(Promise(kept=kept, text=f"static answers {percent(below)} of the surge in time {goal}"))
    if phase.expected_accuracy is not None:
        kept = phase.expected_accuracy >= min(surge.needs_accuracy, surge.needs_then or 1.0) - _NEARLY
        text = (
            f"accuracy falls no further than it must: {percent(phase.expected_accuracy)} expected of what ran; "
            f"the planner leaves {_left(surge)}"
        )
        found.append(Promise(kept=kept, text=text))
    if len(run.phases) > surge.phase + 1 and run.control is not None:
        after = surge.back_after_s
        when = f"is back {after:.0f} s after the surge" if after is not None else "is not back before the run ends"
        kept = after is not None and after <= _BACK_S
        found.append(Promise(kept=kept, text=f"the highest accuracy {when} (goal: within {_BACK_S:.0f} s)"))
    return found


def while_it_ran(run: ReportDocument) -> list[str]:
    """What else kept the machine busy, and how fast the models were: what may explain a promise that was not kept."""
    found = []
    for each in (run, run.against):
        if each is None:
            continue
        who = f" under {each.policy}" if run.against is not None else ""
        if each.others_cores is not None and each.others_cores >= _BUSY:
            found.append(f"Other processes used {each.others_cores:.1f} cores of this machine during the run{who}.")
        if each.slowdown is not None and each.slowdown >= _SLOW:
            found.append(f"In the end models took {each.slowdown:.1f} times as long as profiled{who}.")
    return found


def _attained(run: ReportDocument, surge: PhaseView) -> Promise:
    whole = sum(phase.answered for phase in run.phases) / max(1, sum(phase.sent for phase in run.phases))
    kept = None if surge.attainment is None else surge.attainment >= _ATTAINED and whole >= _ATTAINED
    return Promise(
        kept=kept,
        text=f"{run.policy or 'the server'} answers {_exactly(surge.attainment)} of the surge in time, "
        f"{_exactly(whole)} of all requests (goal: {100.0 * _ATTAINED:.0f} %)",
    )


def _exactly(share: float | None) -> str:
    """With two decimals, and more where what fell just short of the goal would read as if it had not."""
    return percent(share, 2, _ATTAINED)


def _load(run: ReportDocument, index: int) -> str:
    phase = run.phases[index]
    rate = f"{count(phase.rate_per_s)} requests/s" if phase.rate_per_s is not None else f"{count(phase.sent)} requests"
    load = f"{rate} for {count(phase.seconds)} s"
    if run.ceiling is None or run.surge is None:
        return f"{load}."
    if index == run.surge.phase:
        cores = f" on {count(run.plan.cores)} cores" if run.plan is not None and run.plan.cores else ""
        carried = f"{count(run.ceiling.capacity_per_s)}/s"
        return f"{load}: {run.surge.times:.1f} times what the most accurate variants can carry{cores} ({carried})."
    return f"{load}; the most accurate variants answer up to {count(run.ceiling.within_slo_per_s)}/s in time."


def _answers(
    run: ReportDocument, phase: PhaseView, against: ReportDocument | None, other: PhaseView | None
) -> list[str]:
    within = f"within {milliseconds(run.slo_ms)}"
    found = [f"{run.policy or 'The server'} answered {_share(phase)} {within}{_tail(phase)}.", *misses(phase)]
    if against is not None and other is not None:
        found += [f"{against.policy} answered {_share(other)}{_tail(other)}.", *misses(other)]
    return found


def _share(phase: PhaseView) -> str:
    if not phase.sent:
        return "nothing, for nothing was sent,"
    if phase.answered == phase.sent:
        return f"all {count(phase.sent)}"
    return f"{percent(phase.answered / phase.sent)} of {count(phase.sent)}"


def _tail(phase: PhaseView) -> str:
    facts = []
    if phase.latency_ms.p99 is not None:
        facts.append(f"p99 {milliseconds(phase.latency_ms.p99)}")
    if phase.held_cores is not None:
        facts.append(f"{phase.held_cores:.1f} cores held")
    return f" ({', '.join(facts)})" if facts else ""


def _price(run: ReportDocument, surge: SurgeView, phase: PhaseView) -> Iterator[str]:
    """What the surge cost in accuracy."""
    top = run.ceiling.accuracy if run.ceiling is not None else None
    if phase.expected_accuracy is not None and top is not None:
        yield (
            f"Faster variants made room: {percent(phase.expected_accuracy)} expected accuracy instead of "
            f"{percent(top)}. By the planner this load leaves {_left(surge)}."
        )
    if phase.accuracy is not None:
        text = f"Measured on {count(phase.scored)} answers: {accuracy_text(phase)}"
        other = run.against.phases[surge.phase] if run.against and len(run.against.phases) > surge.phase else None
        if other is not None and other.accuracy is not None and run.against is not None:
            text += f"; {run.against.policy} {accuracy_text(other)} on the {count(other.scored)} that it answered"
        yield f"{text}."


def _left(surge: SurgeView) -> str:
    """Accuracy, as profiled and, where that differs, on the machine as it was."""
    text = percent(surge.needs_accuracy) + _served(surge.needs_served)
    if surge.needs_then is None or abs(surge.needs_then - surge.needs_accuracy) < _NEARLY:
        return text
    return f"{text}, and {percent(surge.needs_then)}{_served(surge.served_then)} on the machine as fast as it was then"


def _served(part: float) -> str:
    return f" for {percent(part)} of the requests" if part < 1.0 else ""


def _return(run: ReportDocument, surge: SurgeView) -> str:
    if run.control is None:
        return "Nothing is known of when accuracy came back."
    if surge.back_after_s is None:
        return "Answers were not back at the highest accuracy before the run ended."
    return f"{surge.back_after_s:.0f} s after the surge answers were back at the highest accuracy."
