"""`triscale demo`: serve a pipeline for real, load it from another process, and report what happened.

First the pipeline's variants are measured, unless they were before on this machine. Then a server is started, and a
load generator in a process of its own sends samples: first at a part of the planned capacity, then at twice, then at
six times of it.
In the end the client's counts are compared with the server's. Whatever was started is stopped, however this ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from triscale.app.resolve import cores_for
from triscale.cli.closing import print_closing
from triscale.cli.demo_document import demo_document, without_images
from triscale.cli.live import View, view_for
from triscale.cli.live_state import LiveState, StageState
from triscale.cli.options import cores_option, profile_option, set_option, variant_option
from triscale.cli.profile import measure_with_progress
from triscale.cli.report import write_report
from triscale.cli.serve import Ready
from triscale.cli.server_metrics import Scraper, ServerCounts, stage_states
from triscale.cli.server_process import ServerProcess
from triscale.clock import monotonic
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError, TriscaleError
from triscale.observe.wording import count
from triscale.profiler.store import cache_path, load_cached, write_profile
from triscale.replica.config import import_roots
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job
from triscale.traces.launch import ReplayProcess
from triscale.traces.messages import Finished, Preparing, Progress
from triscale.traces.results import ReplayResult

__all__ = ["demo"]

_DEFAULT = "examples/ocr"
_STEADY = 0.6
"""Part of the planned capacity that arrives in the steady phase."""
_BURST = 2.0
"""And in the burst: more than the plan's variants can carry, so that faster ones must help."""
_FLOOD = 6.0
"""And in the flood: more than any variant can carry, so that most must be refused."""
_SCRAPE_S = 0.5
_SETTLE_S = 5.0
"""Longest wait for the server to be done with the last request."""
_PROFILE_BUDGET_S = 40.0
_INTERRUPTED = 130


@click.command()
@click.argument("pipeline", metavar="[PIPELINE]", default=_DEFAULT)
@set_option
@cores_option
@profile_option
@variant_option
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(min=1.0), help="Length of the load.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0.01),
    help=f"Requests/s of the steady phase; by default {_STEADY:.0%} of the planned capacity.",
)
@click.option("--seed", default=7, show_default=True, help="Of the samples and of the arrivals.")
@click.option("--port", default=0, show_default=True, help="Port of the server; 0 picks a free one.")
@click.option("--report", "report_path", type=click.Path(dir_okay=False), help="HTML report  [reports/NAME.html]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; progress goes to standard error.")
def demo(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    profile_path: str | None,
    variants: tuple[str, ...],
    seconds: float,
    rate: float | None,
    seed: int,
    port: int,
    report_path: str | None,
    as_json: bool,
) -> None:
    """Serve PIPELINE, load it from another process, and report what happened.

    A third of the time requests arrive at 60 % of what the plan can carry, then at twice, then at six times of it.
    Ctrl-C ends the load early and still reports; a second one ends everything.

    \b
    Example: triscale demo examples/digits --seconds 10
    """
    console = Console(stderr=as_json)
    checked = load_pipeline(pipeline, overrides)
    roots = import_roots(pipeline_file(pipeline))
    arguments = [pipeline, "--port", str(port), "--metrics-port", "0", "--grace", "2"]
    arguments += ["--cores", str(cores_for(checked, cores))]
    arguments += [f"--set={value}" for value in overrides] + [f"--variant={value}" for value in variants]
    arguments += [f"--profile={profile_path}"] if profile_path else []
    with view_for(console) as view:
        view.step(*_profile(checked, roots, cores, profile_path, quiet=as_json))
        run = _Demo(checked, pipeline, roots, arguments, view, seconds=seconds, rate=rate, seed=seed)
        try:
            document = asyncio.run(run.run())
        except asyncio.CancelledError:
            raise click.Abort from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(without_images(document)), indent=2).decode())
    else:
        print_closing(console, document)
    report_path = report_path or f"reports/{checked.name}.html"
    write_report(document, Path(report_path), "--report")
    console.print(f"\nreport with plots: {report_path}", highlight=False, soft_wrap=True)
    if document["stopped"]:
        raise click.Abort


def _profile(
    pipeline: Pipeline, roots: Sequence[str], cores: int | None, path: str | None, *, quiet: bool
) -> tuple[str, str]:
    """Measure the variants unless they are known; what was done, in words."""
    variants = sum(len(stage.variants) for stage in pipeline.stages.values())
    if path is not None:
        return f"latencies of {variants} variants", f"from {path}"
    if load_cached(pipeline, roots) is None:
        if inline_profile(pipeline) is not None:
            return f"latencies of {variants} variants", "as the pipeline file states them"
        measured = measure_with_progress(pipeline, tuple(roots), _PROFILE_BUDGET_S, cores, quiet=quiet)
        write_profile(measured, cache_path(pipeline, roots))
        return f"measured {variants} variants on this machine", f"kept in {cache_path(pipeline, roots)}"
    return f"{variants} variants were measured before", "`triscale profile` measures them again"


class _Demo:
    """One demo: a server, a load generator, and what both said."""

    def __init__(
        self,
        pipeline: Pipeline,
        path: str,
        roots: Sequence[str],
        arguments: Sequence[str],
        view: View,
        *,
        seconds: float,
        rate: float | None,
        seed: int,
    ) -> None:
        self._pipeline = pipeline
        self._path = path
        self._roots = roots
        self._arguments = arguments
        self._view = view
        self._seconds = seconds
        self._rate = rate
        self._seed = seed
        self._history: list[ServerCounts] = []
        self._stages: tuple[StageState, ...] = ()
        self._started = 0.0
        self._generator: ReplayProcess | None = None
        self._main: asyncio.Task[Any] | None = None

    async def run(self) -> dict[str, Any]:
        """The document. CancelledError when interrupted before there was anything to report."""
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._main.cancel if self._main else self._interrupt)
        self._view.busy("starting the server")
        async with ServerProcess(self._arguments) as server:
            ready = server.ready
            capacity = f"carries about {count(ready.capacity_per_s)} requests/s" if ready.capacity_per_s else "no plan"
            self._view.step(f"serving {ready.pipeline} at {ready.url}", f"{ready.cores} cores; {capacity}")
            scraper = Scraper(ready.metrics_url)
            try:
                self._history.append(await scraper.scrape())
                result = await self._load(ready, scraper)
                trouble = await self._settle(scraper)
            finally:
                await scraper.close()
        document = demo_document(self._pipeline, self._path, ready, result, self._history, self._started, trouble)
        if server.killed:
            document["problems"].append("the server did not stop when it was told to, and was killed")
        return document

    def _interrupt(self) -> None:
        """Ctrl-C: the first one during load ends the load, any other everything."""
        generator, self._generator = self._generator, None
        if generator is not None:
            generator.stop()
        elif self._main is not None:
            self._main.cancel()

    async def _load(self, ready: Ready, scraper: Scraper) -> ReplayResult:
        async with ReplayProcess(self._job(ready)) as generator:
            scraping = asyncio.create_task(self._scrape(scraper))
            try:
                async for message in generator:
                    if isinstance(message, Preparing):
                        self._view.busy(f"making sample {message.made} of {message.total}")
                    elif isinstance(message, Progress):
                        self._generator = generator
                        self._show(message, ready)
                    elif isinstance(message, Finished):
                        return message.result
            finally:
                self._generator = None
                scraping.cancel()
                await asyncio.gather(scraping, return_exceptions=True)
        raise AssertionError("a load generator ends with its result or an error")

    def _job(self, ready: Ready) -> Job:
        pipeline = self._pipeline
        if pipeline.samples is None:
            raise ConfigError(
                f"pipeline {pipeline.name!r} names no samples, so there is nothing to send; "
                "add `samples: {source: package.module:function}`"
            )
        if self._rate is None and not ready.capacity_per_s:
            raise ConfigError(
                f"the plan of {pipeline.name!r} states no capacity to take a part of; give the rate with --rate"
            )
        steady = self._rate if self._rate is not None else _STEADY * ready.capacity_per_s
        return Job(
            url=ready.url,
            model=pipeline.name,
            phases=tuple(
                Phase(name, steady * factor / _STEADY, self._seconds / 3)
                for name, factor in (("steady", _STEADY), ("burst", _BURST), ("flood", _FLOOD))
            ),
            slo_ms=pipeline.slo_ms,
            source=pipeline.samples.source,
            score=pipeline.samples.score,
            seed=self._seed,
            import_roots=tuple(self._roots),
            batched=pipeline.max_batch_size > 0,
            timeout_ms=max(10_000.0, 5.0 * pipeline.slo_ms),
        )

    def _show(self, progress: Progress, ready: Ready) -> None:
        self._started = self._started or monotonic() - progress.at_s
        state = LiveState(
            slo_ms=self._pipeline.slo_ms,
            progress=progress,
            capacity_per_s=ready.capacity_per_s or None,
            stages=self._stages,
        )
        self._view.show(state)

    async def _scrape(self, scraper: Scraper) -> None:
        """Follow the server's counts until cancelled, or until it does not answer (the client will see why)."""
        try:
            while True:
                await asyncio.sleep(_SCRAPE_S)
                counts = await scraper.scrape()
                self._stages = stage_states(self._history[-1], counts)
                self._history.append(counts)
        except TriscaleError:
            return

    async def _settle(self, scraper: Scraper) -> str:
        """Take the server's counts when it is done with every request; what kept it from telling, if anything."""
        deadline = monotonic() + _SETTLE_S
        try:
            while (counts := await scraper.scrape()).live and monotonic() < deadline:
                await asyncio.sleep(0.05)
        except TriscaleError as error:
            return str(error)
        self._history.append(counts)
        return ""
