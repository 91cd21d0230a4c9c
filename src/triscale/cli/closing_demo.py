"""The end of a demo in the terminal: what happened under each policy, their figures side by side, promises kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triscale.cli.live import OUTCOME_STYLES
from triscale.observe.demo_wording import promises, told_phases, uncertainty, while_it_ran
from triscale.observe.report_document import PhaseView, ReportDocument
from triscale.observe.wording import NOTHING, count, milliseconds, percent

__all__ = ["print_demo"]

_MARKS = {True: ("✓ ", "green"), False: ("✗ ", "red"), None: ("? ", "yellow")}


def print_demo(console: Console, run: ReportDocument) -> None:
    """Phases in words, figures in a table, then the promises and what may explain those that were not kept."""
    for told in told_phases(run):
        first, *others = map(_unbroken, told.sentences)
        console.print(Text.assemble((f"{told.name}  ", "bold"), first))
        for sentence in others:
            console.print(Padding(Text(sentence, "bright_black"), (0, 0, 0, 2)))
        console.print()
    console.print(_figures(run))
    shown = promises(run)
    if shown:
        console.print()
    for promise in shown:
        console.print(Text.assemble(_MARKS[promise.kept], _unbroken(promise.text)))
    for remark in while_it_ran(run):
        console.print(Text.assemble(("! ", "yellow"), remark))


def _unbroken(text: str) -> str:
    """No percent sign at the beginning of a line."""
    return text.replace(" %", "\u00a0%")


def _figures(run: ReportDocument) -> Table:
    """Figures down; phases across, each under both policies."""
    runs = [run] if run.against is None else [run, run.against]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    columns: list[PhaseView | None] = []
    for index, phase in enumerate(run.phases):
        for number, each in enumerate(runs):
            head = (f"{phase.name if number == 0 else ''}\n{each.policy}") if len(runs) > 1 else phase.name
            table.add_column(head, justify="right", no_wrap=True)
            columns.append(each.phases[index] if index < len(each.phases) else None)
    for name, figure in _rows([phase for phase in columns if phase is not None]):
        table.add_row(name, *(NOTHING if phase is None else figure(phase) for phase in columns))
    return table


def _rows(phases: list[PhaseView]) -> Iterator[tuple[str, Callable[[PhaseView], str | Text]]]:
    """The figures that there are."""
    yield "requests", lambda phase: count(phase.sent)
    yield "attainment", lambda phase: percent(phase.attainment)
    if any(phase.late_at_client for phase in phases):
        yield "at the client", lambda phase: percent(phase.attainment_at_client)
    yield "goodput", lambda phase: f"{count(phase.goodput_per_s)}/s"
    for outcome, style in OUTCOME_STYLES.items():
        if outcome != "answered" and any(getattr(phase, outcome) for phase in phases):
            yield outcome, _counted(outcome, style)
    yield "latency p50", lambda phase: milliseconds(phase.latency_ms.p50)
    yield "latency p99", lambda phase: milliseconds(phase.latency_ms.p99)
    if any(phase.expected_accuracy is not None for phase in phases):
        yield "accuracy expected", lambda phase: percent(phase.expected_accuracy)
    if any(phase.accuracy is not None for phase in phases):
        yield "accuracy measured", lambda phase: percent(phase.accuracy)
        yield "  ± at 95 %", lambda phase: uncertainty(phase) or NOTHING
    if any(phase.held_cores is not None for phase in phases):
        yield "cores held", lambda phase: _cores(phase.held_cores)
        yield "cores at work", lambda phase: _cores(phase.busy_cores)


def _counted(outcome: str, style: str) -> Callable[[PhaseView], Text]:
    def figure(phase: PhaseView) -> Text:
        number: int = getattr(phase, outcome)
        return Text(count(number), style if number else "bright_black")

    return figure


def _cores(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"
