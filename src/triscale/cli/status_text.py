"""A server's status in words and tables: what `triscale status` prints, and parts of what `triscale top` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from triscale.observe.decisions import Decision
from triscale.observe.status import Cause, StageStatus, Status, VariantStatus
from triscale.observe.wording import NOTHING, count, counted, milliseconds, percent, reason_text

__all__ = [
    "LABEL",
    "MODE_STYLES",
    "decision_rows",
    "facts",
    "figures",
    "headline",
    "mixes",
    "print_status",
    "stage_table",
]

MODE_STYLES = {"hardware": "cyan", "accuracy": "yellow", "overload": "red"}
_WIDE = 160
"""Characters that a table may take where no terminal says how many there are."""
LABEL = 18
"""Characters of the names of figures, at the left."""
_GAP = 2
_DECISIONS = 5
_CAUSES = 4
_GOOD, _BAD = 0.99, 0.95
"""Attainment from which on it is well, and below which it is not."""


def print_status(status: Status) -> None:
    """Everything, for people."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    for line in (headline(status), *facts(status), Text(""), *figures(status), Text("")):
        console.print(line, soft_wrap=True)
    console.print(stage_table(status, console.width))
    console.print()
    console.print(_variant_table(status, console.width))
    if status.decisions:
        console.print()
        console.print(f"decisions: {count(status.decisions_total)}, the latest first")
        for row in decision_rows(status.decisions[-_DECISIONS:]):
            console.print(row, soft_wrap=True)


def headline(status: Status) -> Text:
    """Which pipeline, under which policy, for how long."""
    ready = ("ready", "green") if status.ready else ("not ready", "yellow")
    facts = f" · policy {status.policy} · objective {milliseconds(status.slo_ms)} · up {_duration(status.uptime_s)}"
    return Text.assemble((status.pipeline, "bold"), " · ", ready, facts)


def facts(status: Status) -> Iterable[Text]:
    """The plan in a line, and what is wrong, if anything is."""
    plan = status.plan
    yield Text.assemble((plan.mode, MODE_STYLES.get(plan.mode, "")), f": {plan.reason or 'no reason given'}")
    if (part := _shed_besides(plan.served_fraction, plan.reason)) is not None:
        yield Text(f"{part} of the demand is shed at the door", "red")
    if status.replica_exits:
        yield Text(f"{counted(status.replica_exits, 'replica')} died since the start", "yellow")
    if not status.requests.arrived:
        yield Text(f"no requests yet: {NOTHING} stands for what is not known without any", "bright_black")


def figures(status: Status) -> list[Text]:
    """The pipeline's figures, one line each."""
    recent, minute, long = status.windows
    plan, cores, requests, latency = status.plan, status.cores, status.requests, status.latency_ms
    late = latency.p99 is not None and latency.p99 > status.slo_ms
    carried = f" of {count(plan.capacity)}/s that the plan carries" if plan.capacity else ""
    arrivals = count(round(status.arrivals_per_s, 1))
    axes = f"{count(cores.start)} from the start, {count(cores.up)} up, {count(cores.out)} out"
    busy = sum(stage.busy_cores for stage in status.stages)
    missed = [f"{count(number)} {name}" for name, number in requests.outcomes.items() if number and name != "answered"]
    answered = f"{count(requests.arrived)} arrived, {count(requests.outcomes['answered'])} answered in time"
    lines = [
        _line(
            "answered in time",
            (percent(recent.attainment), _mood(recent.attainment)),
            f" in 10 s, {percent(minute.attainment)} in 1 min, {percent(long.attainment)} in 10 min",
        ),
        _line("arrivals", f"{arrivals}/s{carried}; {count(requests.live)} in progress"),
        _line("latency", f"p50 {milliseconds(latency.p50)}, p99 ", (milliseconds(latency.p99), "red" if late else "")),
        _line("accuracy", f"{percent(recent.accuracy)}; the plan expects {percent(plan.accuracy)}"),
        _line(
            "cores",
            f"{count(cores.held)} of {count(cores.total)}: {axes}; {busy:.1f} at work",
            ", shared by the stages" if cores.shared else "",
        ),
        _line("requests", ", ".join([answered, *missed])),
    ]
    if requests.recent_causes:
        lines.append(_line("missed in 10 s", "; ".join(_cause(cause) for cause in requests.recent_causes[:_CAUSES])))
    return lines


def mixes(status: Status) -> list[Text]:
    """One line per stage: what each variant runs of the items and, in brackets, what it is to, if that differs."""
    width = max(len(stage.name) for stage in status.stages) + 3
    return [Text.assemble(stage.name.ljust(width), (_mix(stage), "bright_black")) for stage in status.stages]


def stage_table(status: Status, width: int = _WIDE) -> Table:
    """One row per stage, the root first, with as many columns as there is room for."""
    columns: dict[str, list[Text]] = {
        "stage": [Text(stage.name) for stage in status.stages],
        "attained": [Text(percent(stage.attainment), _mood(stage.attainment)) for stage in status.stages],
        "queue": [Text(count(stage.queued)) for stage in status.stages],
        "wait p99": [Text(milliseconds(stage.queue_ms.p99)) for stage in status.stages],
        "cores at work": [Text(_cores(stage)) for stage in status.stages],
        "replicas": [Text(_replicas(stage)) for stage in status.stages],
        "items/s": [Text(count(round(stage.items_per_s, 1))) for stage in status.stages],
        "run p99": [Text(milliseconds(stage.service_ms.p99)) for stage in status.stages],
    }
    return _table(columns, width, ("replicas", "wait p99", "items/s", "run p99", "cores at work"))


def decision_rows(decisions: Sequence[Decision]) -> list[Text]:
    """The newest first: when, in which mode, what changed and why."""
    rows = []
    for decision in reversed(decisions):
        at = datetime.fromtimestamp(decision.wall_s).astimezone().strftime("%H:%M:%S")
        mode = (f"{decision.mode:<9}", MODE_STYLES.get(decision.mode, ""))
        rows.append(Text.assemble((at, "bright_black"), "  ", mode, f" {_change(decision)}: {decision.reason}"))
    return rows


def _variant_table(status: Status, width: int) -> Table:
    """One row per variant that runs, or is to run."""
    used = [(stage, variant) for stage in status.stages for variant in _used(stage)]
    columns: dict[str, list[Text]] = {
        "stage/variant": [Text(f"{stage.name}/{variant.name}") for stage, variant in used],
        "accuracy": [Text(percent(variant.accuracy)) for _, variant in used],
        "planned": [Text(percent(variant.share)) for _, variant in used],
        "mix in 10 s": [Text(percent(variant.mix)) for _, variant in used],
        "items": [Text(count(variant.items)) for _, variant in used],
        "batch": [Text(str(variant.batch)) for _, variant in used],
        "drift": [Text(NOTHING if variant.drift is None else f"{variant.drift:.2f}") for _, variant in used],
    }
    return _table(columns, width, ("batch", "drift", "items", "accuracy"))


def _table(columns: Mapping[str, Sequence[Text]], width: int, first_to_go: Sequence[str]) -> Table:
    """A table with names at the left and figures at the right; where it is too wide, columns go rather than digits."""
    widths = {name: max(len(name), *(cell.cell_len for cell in cells), 0) for name, cells in columns.items()}
    for name in first_to_go:
        if sum(widths.values()) + _GAP * len(widths) > width:
            del widths[name]
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    for index, name in enumerate(widths):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in zip(*(columns[name] for name in widths), strict=True):
        table.add_row(*row)
    return table


def _line(name: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{name:<{LABEL}}", "bright_black"), *parts)


def _cores(stage: StageStatus) -> str:
    lanes = stage.lanes
    wanted = f" ({lanes.cores_wanted} wanted)" if lanes.cores_wanted != lanes.cores_granted else ""
    return f"{stage.busy_cores:.1f} of {lanes.cores_granted}{wanted}"


def _replicas(stage: StageStatus) -> str:
    shown = [(phase, number) for phase, number in stage.replicas.items() if number or phase == "ready"]
    return " + ".join(f"{number} {phase}" for phase, number in shown)


def _used(stage: StageStatus) -> list[VariantStatus]:
    """The variants that run, or are to run, the most used first."""
    used = [variant for variant in stage.variants if variant.share > 0.0 or variant.mix]
    return sorted(used, key=lambda variant: -(variant.mix if variant.mix is not None else variant.share))


def _mix(stage: StageStatus) -> str:
    return ", ".join(
        f"{variant.name} {percent(variant.mix)}"
        + (f" ({percent(variant.share)})" if variant.mix != variant.share else "")
        for variant in _used(stage)
    )


def _change(decision: Decision) -> str:
    parts = []
    if decision.cores != decision.cores_before:
        parts.append(f"cores {count(decision.cores_before)} → {count(decision.cores)}")
    if decision.accuracy != decision.accuracy_before:
        parts.append(f"accuracy {percent(decision.accuracy_before)} → {percent(decision.accuracy)}")
    if (part := _shed_besides(decision.served_fraction, decision.reason)) is not None:
        parts.append(f"{part} shed")
    return ", ".join(parts) or f"{counted(decision.cores, 'core')} as before"


def _shed_besides(served_fraction: float, reason: str) -> str | None:
    """What part is shed, unless nothing is or the reason says it: nobody wants to read it twice."""
    part = percent(1.0 - served_fraction)
    return part if served_fraction < 1.0 and part not in reason else None


def _cause(cause: Cause) -> str:
    why = f" ({reason_text(cause.reason)})" if cause.reason else ""
    return f"{count(cause.requests)} {cause.outcome}{f' at {cause.stage}' if cause.stage else ''}{why}"


def _mood(share: float | None) -> str:
    if share is None:
        return "bright_black"
    return "green" if share >= _GOOD else "red" if share < _BAD else ""


def _duration(seconds: float) -> str:
    """3725 -> `1 h 2 min`: the two largest units."""
    rest = int(seconds)
    words: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        whole, rest = divmod(rest, size)
        if whole or (unit == "s" and not words):
            words.append(f"{whole} {unit}")
    return " ".join(words[:2])
