"""Live and simulated, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.live.cases import Experiment
from benchmarks.live.run import Pair

__all__ = ["agreement", "gains", "heading", "overheads", "side_by_side"]

_STEPS = ("launch", "resize", "hold", "drain")


def heading(name: str, experiment: Experiment) -> str:
    """What was run, in a sentence or two."""
    case = experiment.case
    end = experiment.start_s + experiment.seconds
    nodes = f"{len(case.nodes)} nodes of {case.nodes[0].cores:g} cores"
    said = (
        f"**{name}**: `{case.pipeline.name}`, {case.pipeline.slo_ms:g} ms, on {nodes}; seconds {experiment.start_s:g} "
        f"to {end:g} of {case.trace.label}; a cold start takes {case.world.cold_start_s:g} s, a resize "
        f"{case.world.resize_s:g} s."
    )
    if experiment.dilation != 1.0:
        said += (
            f" Time is dilated {experiment.dilation:g} times: the server's clock, the latencies, the delays and the "
            f"objective are all {experiment.dilation:g} times slower and the load is {experiment.dilation:g} times "
            "lower, which leaves every queue as it is; the figures are in the server's time."
        )
    return said


def side_by_side(pairs: Sequence[Pair]) -> str:
    """The table of results."""
    rows = []
    for pair in pairs:
        result, report = pair.simulated, pair.report
        rows.append(
            [
                _name(pair),
                f"{100 * pair.live_violations:.2f} %",
                f"{100 * pair.simulated_violations:.2f} %",
                "yes" if pair.agrees else "**no**",
                f"{report.mean_cores:.1f}",
                f"{result.mean_cores:.1f}",
                _number(report.accuracy, 4),
                _number(result.accuracy, 4),
                _number(pair.live_p99_ms, 0),
                _number(result.latency_ms.p99, 0),
                "/".join(str(report.actions[what]) for what in _STEPS),
                "/".join(str(result.actions.get(what, 0)) for what in _STEPS),
            ]
        )
    head = [
        "policy",
        "violations live",
        "simulated",
        "agree",
        "cores live",
        "simulated",
        "accuracy live",
        "simulated",
        "p99 ms live",
        "simulated",
        "launches/resizes/loads/drains live",
        "simulated",
    ]
    return _markdown(head, rows)


def overheads(pairs: Sequence[Pair]) -> str:
    """The table of what the machine itself added."""
    rows = []
    for pair in pairs:
        cost = pair.report.overheads
        rows.append(
            [
                _name(pair),
                f"{100 * cost.front_end:.0f} %",
                f"{100 * cost.deciding:.0f} %",
                f"{100 * cost.replicas:.0f} %",
                _pair(cost.loop_lag_ms),
                _pair(cost.batch_ms),
                f"{100 * cost.batch_part:.1f} %",
                _pair(cost.decide_ms),
                f"{_number(pair.phase.behind_ms.p99, 1)} ms",
                f"{100 * pair.seen_late:.2f} %",
            ]
        )
    head = [
        "policy",
        "event loop",
        "deciding",
        "replicas",
        "timers late",
        "batches longer by",
        "in all",
        "deciding takes",
        "generator late, p99",
        "late at the client only",
    ]
    return _markdown(head, rows)


def gains(pairs: Sequence[Pair]) -> str:
    """How many times the violations of the first policy each other one has, live and simulated."""
    if len(pairs) < 2:
        return ""
    live = {pair.policy: pair.live_violations for pair in pairs}
    simulated = {pair.policy: pair.simulated_violations for pair in pairs}
    return (
        f"Violations in multiples of {pairs[0].policy}'s: live {_times(live)}; simulated {_times(simulated)}.\n"
        f"Order: live {_order(live)}; simulated {_order(simulated)}."
    )


def _times(violations: Mapping[str, float]) -> str:
    (_, base), *others = violations.items()
    return ", ".join(f"{name} {value / base:.1f}" if base > 0.0 else f"{name} -" for name, value in others)


def _order(violations: Mapping[str, float]) -> str:
    return " < ".join(sorted(violations, key=violations.__getitem__))


def agreement(pairs: Sequence[Pair]) -> str:
    """Whether live and simulated agree, and what speaks against trusting the live runs."""
    agree = sum(pair.agrees for pair in pairs)
    lines = [f"Violation ratios within 2 points or 25 % of each other: {agree} of {len(pairs)}."]
    for pair in pairs:
        lines += [f"- {pair.policy}: {problem}" for problem in (*pair.replay.problems, *pair.report.complaints)]
        failed = pair.phase.failed + pair.phase.cancelled
        if failed:
            lines.append(f"- {pair.policy}: {failed} requests failed or were cancelled")
        if pair.report.requests != pair.phase.sent:
            lines.append(f"- {pair.policy}: the client sent {pair.phase.sent}, the server saw {pair.report.requests}")
    return "\n".join(lines)


def _name(pair: Pair) -> str:
    return f"{pair.policy}, {pair.setting}" if pair.setting else pair.policy


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _pair(two: tuple[float, float]) -> str:
    return f"{two[0]:.1f} / {two[1]:.1f} ms"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
