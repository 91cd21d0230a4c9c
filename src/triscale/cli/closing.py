"""The end of a run in the terminal: what happened in words, the figures in tables, what was read, what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triscale.cli.closing_demo import print_demo
from triscale.cli.live import OUTCOME_STYLES
from triscale.observe.report_document import PhaseView, ReportDocument, SampleView, read_document
from triscale.observe.wording import (
    NOTHING,
    cores_sentence,
    count,
    headline,
    milliseconds,
    percent,
    phase_sentences,
    text_of,
)

__all__ = ["print_closing"]

_LINES_OF_TEXT = 3
_SAMPLES = 3


def print_closing(console: Console, document: Mapping[str, object]) -> None:
    """Print the JSON of a run (`observe/report_document.py`) for people."""
    run = read_document(document)
    console.print()
    console.print(Text(headline(run), "bold"))
    console.print()
    if run.control is not None:
        print_demo(console, run)
    else:
        for phase in run.phases:
            _print_phase(console, phase, run.slo_ms)
        console.print(_figures(run))
    if run.stages:
        console.print()
        console.print(_stages(run))
    for sample in run.samples[:_SAMPLES]:
        console.print()
        _print_sample(console, sample)
    console.print()
    for line in _remarks(run):
        console.print(line)
    if run.commands:
        console.print()
    for command in run.commands:
        console.print(Text(command.does, "bright_black"))
        # Not wrapped: it is there to be copied.
        console.print(Text(f"  {command.line}"), soft_wrap=True)


def _print_phase(console: Console, phase: PhaseView, slo_ms: float) -> None:
    first, *others = phase_sentences(phase, slo_ms)
    console.print(Text.assemble((f"{phase.name}  ", "bold"), first))
    for sentence in others:
        console.print(Padding(Text(sentence, "bright_black"), (0, 0, 0, len(phase.name) + 2)))
    console.print()


def _figures(run: ReportDocument) -> Table:
    """Figures down, phases across."""
    table = _table("", *(phase.name for phase in run.phases))
    table.add_row("requests", *(count(phase.sent) for phase in run.phases))
    for outcome, style in OUTCOME_STYLES.items():
        numbers: list[int] = [getattr(phase, outcome) for phase in run.phases]
        if outcome != "cancelled" or any(numbers):
            table.add_row(outcome, *(Text(count(number), style if number else "bright_black") for number in numbers))
    for name, figure in _rates(run):
        table.add_row(name, *map(figure, run.phases))
    return table


def _rates(run: ReportDocument) -> Iterator[tuple[str, Callable[[PhaseView], str]]]:
    yield "attainment", lambda phase: percent(phase.attainment)
    if any(phase.late_at_client for phase in run.phases):
        yield "at the client", lambda phase: percent(phase.attainment_at_client)
    yield "goodput", lambda phase: f"{count(phase.goodput_per_s)}/s"
    yield "latency p50", lambda phase: milliseconds(phase.latency_ms.p50)
    yield "latency p95", lambda phase: milliseconds(phase.latency_ms.p95)
    yield "latency p99", lambda phase: milliseconds(phase.latency_ms.p99)
    if any(phase.accuracy is not None for phase in run.phases):
        yield "accuracy", lambda phase: percent(phase.accuracy)


def _stages(run: ReportDocument) -> Table:
    table = _table("stage", "variants", "cores", "items", "per batch", "wait", "batch time")
    table.columns[1].justify = "left"
    for stage in run.stages:
        table.add_row(
            stage.name,
            ", ".join(stage.variants) or NOTHING,
            NOTHING if stage.cores is None else f"{stage.cores:.2f}",
            NOTHING if stage.items is None else count(stage.items),
            NOTHING if stage.batch_mean is None else f"{stage.batch_mean:.1f}",
            milliseconds(stage.queue_ms),
            milliseconds(stage.service_ms),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _print_sample(console: Console, sample: SampleView) -> None:
    score = f"  accuracy {percent(sample.score)}" if sample.score is not None else ""
    latency = f"  {milliseconds(sample.latency_ms)}" if sample.latency_ms is not None else ""
    console.print(Text.assemble("one answer", (score + latency, "bright_black")))
    for name, value in (("truth", sample.truth), ("read", sample.read)):
        lines = text_of(value).splitlines() or [NOTHING]
        for number, line in enumerate(lines[:_LINES_OF_TEXT]):
            more = " …" if number == _LINES_OF_TEXT - 1 and len(lines) > _LINES_OF_TEXT else ""
            text = Text.assemble((f"  {name if number == 0 else '':<7}", "bright_black"), line + more)
            console.print(text, no_wrap=True, overflow="ellipsis")


def _remarks(run: ReportDocument) -> Iterator[Text]:
    agreed = [each.counts_agree for each in (run, run.against) if each is not None and each.counts_agree is not None]
    if agreed:
        yield (
            Text("✓ server and client counted the same requests in every outcome", "green")
            if all(agreed)
            else Text("✗ server and client counted differently", "red")
        )
    if run.plan is not None and run.plan.reason and run.control is None:
        yield Text.assemble("plan: ", (run.plan.reason, "bright_black"))
    if run.control is None and (cores := cores_sentence(run)):
        yield Text(cores)
    if run.score_says:
        yield Text.assemble("accuracy: ", (run.score_says, "bright_black"))
    for problem in run.problems:
        yield Text(f"! {problem}", "yellow")
    if run.against is not None:
        for problem in run.against.problems:
            yield Text(f"! under {run.against.policy}: {problem}", "yellow")
