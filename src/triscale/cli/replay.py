"""`triscale replay`: any load against any server of the Open Inference Protocol, open loop, and a report.

The load generator is a process of its own (`traces/replay_process.py`); this one asks the server what is not said,
shows the run, and makes the report.
"""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Any, Literal, Unpack

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console

from triscale.cli.closing import print_closing
from triscale.cli.live import View, view_for
from triscale.cli.load_run import LoadRun
from triscale.cli.replay_document import replay_document
from triscale.cli.replay_target import Wishes, headers_of, job_for, payload_words
from triscale.cli.report import check_writable, without_images, write_report
from triscale.cli.server_metrics import Scraper
from triscale.cli.trace_options import TraceOptions, build_trace, trace_options
from triscale.errors import ConfigError
from triscale.observe.wording import count
from triscale.traces.endpoint import Trust
from triscale.traces.trace import AnyTrace

__all__ = ["replay"]

_NOT_AGAIN = frozenset({"token", "header_lines", "as_json", "report_path", "record"})
"""Options that the command line shown in a report leaves out: secrets, and where results go."""

_positive = click.FloatRange(min=0.0, min_open=True)


@click.command()
@click.argument("target", metavar="TARGET")
@click.option("--trace", "spec", metavar="TRACE", required=True, help="The load; `triscale trace` shows what one is.")
@trace_options
@click.option("--model", metavar="NAME", help="By default the pipeline's name, or the only model that is served.")
@click.option("--pipeline", metavar="PIPELINE", help="Send the samples of this pipeline file, and score the answers.")
@click.option(
    "--payload",
    "payloads",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Send a recorded body: JSON, JSON lines, or JSON with binary tensors behind it. Several go round.",
)
@click.option(
    "--header-length",
    type=click.IntRange(min=0),
    help="Where the JSON ends in a binary --payload, if that cannot be read from it; 0: it is one raw tensor.",
)
@click.option(
    "--synthetic",
    is_flag=False,
    flag_value="random",
    type=click.Choice(["random", "zeros"]),
    help="Send made-up tensors of the declared shapes  [random]",
)
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,16", help="Of a synthetic input; open extents are 1.")
@click.option("--samples", default=64, show_default=True, type=click.IntRange(min=1), help="Different requests made.")
@click.option(
    "--encoding",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "binary", "json"]),
    help="Of tensors; auto: binary where the server takes it.",
)
@click.option("--slo-ms", type=_positive, help="The latency objective; by default what the server or pipeline states.")
@click.option("--deadline-ms", type=_positive, help="Tell the server with each request what is left of this time.")
@click.option("--timeout-ms", default=30_000.0, show_default=True, type=_positive, help="Longest wait for one answer.")
@click.option("--seed", default=0, show_default=True, help="Of the arrivals and the samples.")
@click.option("--connections", default=512, show_default=True, type=click.IntRange(min=1), help="Most open at a time.")
@click.option("--token", envvar="TRISCALE_TOKEN", default="", help="Bearer token to send.")
@click.option("--header", "header_lines", multiple=True, metavar="'NAME: VALUE'", help="Send a header.")
@click.option("--cacert", type=click.Path(exists=True, dir_okay=False), help="Certificates to trust, PEM.")
@click.option("--insecure", is_flag=True, help="Trust any certificate.")
@click.option("--metrics", "metrics_url", metavar="URL", help="A triscale server's /metrics, to compare its counts.")
@click.option("--record", type=click.Path(dir_okay=False), help="Write every request's result: .csv, or JSON lines.")
@click.option("--report", "report_path", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; progress goes to standard error.")
@click.pass_context
def replay(
    context: click.Context,
    target: str,
    spec: str,
    model: str | None,
    pipeline: str | None,
    payloads: tuple[str, ...],
    header_length: int | None,
    synthetic: Literal["random", "zeros"] | None,
    shapes: tuple[str, ...],
    samples: int,
    encoding: Literal["auto", "binary", "json"],
    slo_ms: float | None,
    deadline_ms: float | None,
    timeout_ms: float,
    seed: int,
    connections: int,
    token: str,
    header_lines: tuple[str, ...],
    cacert: str | None,
    insecure: bool,
    metrics_url: str | None,
    record: str | None,
    report_path: Path | None,
    as_json: bool,
    **options: Unpack[TraceOptions],
) -> None:
    """Send TARGET (http://HOST:PORT) the requests of a trace, each at its moment, and report how they ended.

    Open loop: requests leave when the trace says, whatever the server does, and latency counts from that moment. Any
    server of the Open Inference Protocol will do. Ctrl-C ends the load early and still reports; a second one ends
    everything.

    \b
    Example: triscale replay http://localhost:8000 --trace poisson:rate=50,seconds=30 --pipeline examples/digits
    """
    if report_path is not None:
        check_writable(report_path, "--report")
    wishes = Wishes(
        target=target,
        model=model,
        pipeline=pipeline,
        payloads=payloads,
        header_length=header_length,
        synthetic=synthetic,
        shapes=shapes,
        samples=samples,
        encoding=encoding,
        slo_ms=slo_ms,
        deadline_ms=deadline_ms,
        timeout_ms=timeout_ms,
        seed=seed,
        connections=connections,
        headers=headers_of(header_lines, token),
        trust=Trust(cacert=cacert or "", insecure=insecure),
        record=record or "",
    )
    trace = build_trace(spec, **options)
    console = Console(stderr=as_json)
    with view_for(console) as view:
        try:
            document = asyncio.run(_run(wishes, trace, metrics_url, view, _command_line(context)))
        except asyncio.CancelledError:
            raise click.Abort from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(without_images(document)), indent=2).decode())
    else:
        print_closing(console, document)
    if report_path is not None:
        write_report(document, report_path, "--report")
        console.print(f"\nreport with plots: {report_path}", highlight=False, soft_wrap=True)
    if record is not None:
        console.print(f"\nevery request: {record}", highlight=False, soft_wrap=True)
    if document["stopped"]:
        raise click.Abort


async def _run(wishes: Wishes, trace: AnyTrace, metrics_url: str | None, view: View, again: str) -> dict[str, Any]:
    """The document. CancelledError when interrupted before there was anything to report."""
    load = LoadRun(view)
    load.heed_signals()
    view.busy(f"asking {wishes.target}")
    job = await job_for(wishes, trace)
    view.step(f"replaying {trace.label} at {job.url}", f"model {job.model}, {payload_words(job)}")
    view.step(f"{trace.seconds:g} s", f"about {count(round(job.expected))} requests, objective {job.slo_ms:g} ms")
    if metrics_url is None:
        result = await load.run(job)
        return replay_document(job, result, (), load.started, "", again)
    scraper = Scraper(metrics_url)
    try:
        if not (await scraper.scrape()).stages:
            raise ConfigError(
                f"--metrics {metrics_url}: is not the metrics page of a triscale server, which is on port 8002 unless "
                "it was told otherwise"
            )
        result = await load.run(job, scraper)
        trouble = await load.settle(scraper)
    finally:
        await scraper.close()
    return replay_document(job, result, load.history, load.started, trouble, again)


def _command_line(context: click.Context) -> str:
    """What was typed, without secrets."""
    words = ["triscale", "replay", context.params["target"]]
    for parameter in context.command.params:
        name = parameter.name or ""
        if not isinstance(parameter, click.Option) or name in _NOT_AGAIN:
            continue
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if parameter.is_flag:
            words.append(parameter.opts[0])
        else:
            values = value if parameter.multiple else (value,)
            words += [part for given in values for part in (parameter.opts[0], str(given))]
    return shlex.join(words)
