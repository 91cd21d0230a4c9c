"""`triscale profile`: measure every variant of a pipeline on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from triscale.cli.options import cores_option, pipeline_argument, set_option
from triscale.clock import SystemClock
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile, VariantProfile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.profiler.measure import Progress, profile_pipeline
from triscale.profiler.samples import sample_requests
from triscale.profiler.store import cache_path, write_profile
from triscale.replica.config import import_roots

__all__ = ["measure_with_progress", "profile"]

_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("stage/variant", "left"),
    ("p50 ms", "right"),
    ("p95", "right"),
    ("ms/item", "right"),
    ("all lanes", "right"),
    ("fan-out", "right"),
    ("load s", "right"),
    ("MB", "right"),
)

SAMPLES = 24
SEED = 1


@click.command()
@pipeline_argument
@set_option
@cores_option
@click.option("--budget", default=60.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds to measure.")
@click.option("--out", type=click.Path(dir_okay=False), help="Also write the profile to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON document.")
def profile(
    pipeline: str, overrides: tuple[str, ...], cores: int | None, budget: float, out: str | None, as_json: bool
) -> None:
    """Measure every variant of PIPELINE for real, in replica processes, on the pipeline's own samples.

    The result is cached for this machine; `serve`, `demo` and the planner use it from there.

    \b
    Example: triscale profile examples/digits --budget 20
    """
    checked = load_pipeline(pipeline, overrides)
    roots = import_roots(pipeline_file(pipeline))
    measured = measure_with_progress(checked, roots, budget, cores, quiet=as_json)
    path = cache_path(checked, roots)
    write_profile(measured, path)
    if out is not None:
        write_profile(measured, Path(out))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(measured)).decode())
    else:
        _print(measured)
        click.echo(f"written to {out or path}")


def measure_with_progress(
    pipeline: Pipeline, roots: tuple[str, ...], budget_s: float, cores: int | None, *, quiet: bool
) -> Profile:
    """Profile, with a progress bar on standard error unless `quiet`."""
    samples = sample_requests(pipeline, roots, SAMPLES, SEED)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("starting replicas", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, description=f"measuring {progress.what}")

        return asyncio.run(
            profile_pipeline(pipeline, roots, samples, SystemClock(), budget_s=budget_s, cores=cores, on_progress=show)
        )


def _print(measured: Profile) -> None:
    machine = measured.machine
    title = f"{measured.pipeline} on {machine.cpu}, {machine.cores} cores"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column, justify in _COLUMNS:
        table.add_column(column, justify=justify, no_wrap=True)
    for stage, variants in measured.stages.items():
        for name, variant in variants.items():
            alone = [point for point in variant.latency if point.lanes == 1]
            one = alone[0]
            best = min(alone, key=lambda point: point.p50_s / point.batch)
            table.add_row(
                f"{stage}/{name}",
                f"{one.p50_s * 1000:.2f}",
                f"{one.p95_s * 1000:.2f}",
                f"{best.p50_s * 1000 / best.batch:.2f} at {best.batch}",
                _crowding(variant),
                ", ".join(f"{mean:.1f}" for mean in variant.fan_out.values()),
                f"{variant.load_s:.2f}",
                f"{variant.memory_bytes / 2**20:.0f}",
            )
    Console().print(table)


def _crowding(variant: VariantProfile) -> str:
    """How much slower a lane is when all lanes are busy: the worst that was measured."""
    alone = {point.batch: point.p50_s for point in variant.latency if point.lanes == 1}
    crowded = [point.p50_s / alone[point.batch] for point in variant.latency if point.lanes > 1]
    if not crowded:
        return ""
    factor = max(crowded)
    return f"x{factor:.2f}"
