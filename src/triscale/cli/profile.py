"""`triscale profile`: measure every variant of a pipeline on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from triscale.app.profiling import FEWEST_LABELLED, measure
from triscale.app.resolve import cores_for
from triscale.cli.options import cores_option, pipeline_argument, set_option
from triscale.cli.profile_table import print_profile
from triscale.clock import SystemClock
from triscale.core.figures import counted
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile, inline_profile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.profiler.grid import Wanted
from triscale.profiler.measure import Effort, Progress, quick
from triscale.profiler.store import cache_path, write_profile
from triscale.replica.config import import_roots

__all__ = ["measure_with_progress", "profile"]


class Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0, separated by commas."""

    name = "N,..."

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, ascending."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = {int(number) for number in value.split(",")}
        except ValueError:
            numbers = {0}
        if min(numbers) < 1:
            self.fail(f"{value!r} is not a list of whole numbers above 0, for example 1,2,4", param, ctx)
        return tuple(sorted(numbers))


@click.command()
@pipeline_argument
@set_option
@cores_option
@click.option("--budget", default=120.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds it may take.")
@click.option("--batches", type=Counts(), help="Batch sizes; by default 1, 2, 4 and so on up to the variant's largest.")
@click.option("--threads", type=Counts(), help="Threads per lane; by default as many as make the variant faster.")
@click.option("--lanes", type=Counts(), help="Lanes at a time, besides one; by default up to the cores.")
@click.option(
    "--accuracy-samples",
    default=300,
    show_default=True,
    type=click.IntRange(min=0),
    help="Most labelled samples to run through every path of variants; fewer where time is short, 0 for none.",
)
@click.option("--quick", "is_quick", is_flag=True, help="What `demo` measures: medians, one thread, no accuracies.")
@click.option("--out", type=click.Path(dir_okay=False), help="Also write the profile to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON document.")
def profile(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    budget: float,
    batches: tuple[int, ...] | None,
    threads: tuple[int, ...] | None,
    lanes: tuple[int, ...] | None,
    accuracy_samples: int,
    is_quick: bool,
    out: str | None,
    as_json: bool,
) -> None:
    """Measure every variant of PIPELINE for real, in replica processes, on the pipeline's own samples.

    Latencies over batches, threads and lanes, load time, memory, fan-out, and where the samples are labelled the
    end-to-end accuracy of the paths of variants. The result is cached for this machine: `serve`, `demo` and `plan`
    use it from there. docs/profiles.md says how each figure is measured.

    \b
    Example: triscale profile examples/digits --budget 30
    """
    checked = load_pipeline(pipeline, overrides)
    roots = import_roots(pipeline_file(pipeline))
    if is_quick and (batches or threads or lanes):
        raise click.UsageError("--quick has a grid of its own; leave out --batches, --threads and --lanes")
    here = cores_for(checked, cores)
    if lanes and lanes[-1] > here:
        cores_here = counted(here, "core")
        raise click.UsageError(f"--lanes {lanes[-1]}: is more than {cores_here} can keep busy; write at most {here}")
    if checked.samples is None and inline_profile(checked) is not None:
        raise ConfigError(
            f"pipeline {checked.name!r} names no samples to measure with, and needs no profile: its file states "
            "`latency_ms` of every variant, and the other commands use those"
        )
    if is_quick:
        measured = measure_with_progress(checked, roots, budget, cores, quiet=as_json)
    else:
        effort = Effort(Wanted(batches, threads, lanes))
        measured = _measure(checked, roots, effort, budget, cores, accuracy_samples, quiet=as_json)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(measured)).decode())
    else:
        _print(checked, measured, accuracy_samples if not is_quick else 0)
    # Last, so that what took minutes to measure is shown even if it cannot be written.
    _write(measured, cache_path(checked, roots), Path(out) if out is not None else None, quiet=as_json)


def _print(checked: Pipeline, measured: Profile, accuracy_samples: int) -> None:
    console = Console()
    print_profile(Graph.of(checked), measured, console)
    if accuracy_samples and not measured.paths and checked.samples and checked.samples.score:
        few = min(accuracy_samples, FEWEST_LABELLED)
        words = (
            f"accuracies are the file's: there are no labelled samples, or no time for {few} (try a longer --budget)"
        )
        console.print(f"\n{words}", highlight=False, soft_wrap=True)


def _write(measured: Profile, cached: Path, out: Path | None, *, quiet: bool) -> None:
    """Into the cache, and to `out`; ConfigError when one of them cannot be written, after the other has been."""
    problems: list[str] = []
    for path, name in ((cached, f"{cached}"), (out, f"--out {out}")):
        if path is None:
            continue
        try:
            write_profile(measured, path)
        except OSError as error:
            problems.append(f"{name}: cannot be written: {error.strerror}")
    if problems:
        raise ConfigError(*problems)
    if not quiet:
        click.echo(f"written to {out or cached}")


def measure_with_progress(
    pipeline: Pipeline, roots: tuple[str, ...], budget_s: float, cores: int | None, *, quiet: bool
) -> Profile:
    """Profile quickly, just enough to serve with; a progress bar on standard error unless `quiet`."""
    return _measure(pipeline, roots, quick(cores_for(pipeline, cores)), budget_s, cores, 0, quiet=quiet)


def _measure(
    pipeline: Pipeline,
    roots: tuple[str, ...],
    effort: Effort,
    budget_s: float,
    cores: int | None,
    most_labelled: int,
    *,
    quiet: bool,
) -> Profile:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("starting replicas", total=None, left="")

        def show(progress: Progress) -> None:
            left = f"about {progress.left_s:.0f} s left" if progress.left_s >= 1.0 else ""
            total = progress.elapsed_s + progress.left_s
            bar.update(task, completed=progress.elapsed_s, total=total, description=progress.what, left=left)

        return asyncio.run(
            measure(
                pipeline,
                roots,
                SystemClock(),
                effort=effort,
                budget_s=budget_s,
                cores=cores_for(pipeline, cores),
                most_labelled=most_labelled,
                on_progress=show,
            )
        )
