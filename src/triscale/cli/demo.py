"""`triscale demo`: serve a pipeline for real, load it from another process, and report what happened.

First the pipeline's variants are measured, unless they were before on this machine. Then a server is started under
`triscale`, and a load generator in a process of its own sends samples: as many as the most accurate variants answer
in time, then twice what they can carry at all, then as many as at first. The same load then meets a server that has
only the most accurate variants. In the end the client's counts are compared with the servers', and the runs with each
other. Whatever was started is stopped, however this ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from triscale.app.ceiling import Yardstick
from triscale.app.policy import nodes_for
from triscale.app.resolve import cores_for, profile_for
from triscale.cli.closing import print_closing
from triscale.cli.demo_document import demo_document, without_images
from triscale.cli.demo_load import WARM_UP, made_up_inputs, phases_of
from triscale.cli.demo_run import STATIC, Contender, RunRecord, contender_of, run_contender
from triscale.cli.live import View, view_for
from triscale.cli.options import cores_option, port_option, profile_option, set_option
from triscale.cli.plan_options import nodes_of
from triscale.cli.profile import measure_with_progress
from triscale.cli.report import check_writable, write_report
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import inline_profile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.observe.wording import count, percent
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.policy.autoscalers.registry import AUTOSCALERS
from triscale.profiler.store import cache_path, load_cached, write_profile
from triscale.replica.config import import_roots
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job
from triscale.traces.payload import Synthetic

__all__ = ["demo"]

_DEFAULT = "examples/ocr"
_NONE = "none"
_LIVE = [name for name in AUTOSCALERS if name != "oracle"]
"""The oracle knows the rate to come, which only a simulation does."""
_PROFILE_BUDGET_S = 40.0


@click.command()
@click.argument("pipeline", metavar="[PIPELINE]", default=_DEFAULT)
@set_option
@cores_option
@click.option(
    "--nodes",
    metavar="NODES",
    callback=nodes_of,
    help="Stand for a cluster, for example 4x4, with a pipeline whose variants are all emulated.",
)
@click.option("--cold-start", type=click.FloatRange(min=0.0), metavar="S", help="Seconds an emulated replica loads.")
@profile_option
@click.option("--policy", default="triscale", show_default=True, type=click.Choice(_LIVE), help="Decides.")
@click.option(
    "--against",
    default=STATIC,
    show_default=True,
    type=click.Choice([*_LIVE, _NONE]),
    help="Meets the same load afterwards; static: the most accurate variants alone; none: only one run.",
)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1.0),
    help="Length of the load in each run, the warm-up apart.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.01),
    help="Requests/s of the calm phases, with five times as many in the surge; by default from the profile.",
)
@click.option("--seed", default=7, show_default=True, help="Of the samples and of the arrivals.")
@port_option(0, "Port of the server; 0 picks a free one.")
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML report  [reports/NAME.html]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; progress goes to standard error.")
def demo(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    nodes: tuple[Node, ...] | None,
    cold_start: float | None,
    profile_path: str | None,
    policy: str,
    against: str,
    seconds: float,
    rate: float | None,
    seed: int,
    port: int,
    report_path: Path | None,
    as_json: bool,
) -> None:
    """Serve PIPELINE under a load that fits, surges beyond the most accurate variants, and falls again; then report.

    The same load then meets a server with the most accurate variants alone. Ctrl-C ends the load early and still
    reports; a second one ends everything.

    \b
    Example: triscale demo examples/ocr --seconds 30
    """
    console = Console(stderr=as_json)
    if cold_start is not None:
        overrides = (*overrides, *_cold_starts(load_pipeline(pipeline, overrides), cold_start))
    checked = load_pipeline(pipeline, overrides)
    report_path = report_path or Path(f"reports/{checked.name}.html")
    check_writable(report_path, "--report")
    roots = import_roots(pipeline_file(pipeline))
    payload = made_up_inputs(checked) if checked.samples is None else None
    machines = nodes_for(checked, cores_for(checked, cores), nodes or ())
    arguments = [pipeline, *(f"--set={value}" for value in overrides)]
    arguments += [f"--profile={profile_path}"] if profile_path else []
    arguments += ["--nodes", _written(nodes)] if nodes else ["--cores", str(cores_for(checked, cores))]
    with view_for(console) as view:
        view.step(*_profile(checked, roots, cores, profile_path, quiet=as_json))
        yardstick = _yardstick(checked, roots, profile_path, machines)
        ceiling = yardstick.ceiling() if yardstick is not None else None
        phases = phases_of(ceiling, seconds, rate, cold_start or 0.0)
        arguments += ["--demand", f"{phases[0].rate_per_s:g}"]
        contenders = [
            contender_of(name, checked.policy, ceiling, arguments) for name in (policy, against) if name != _NONE
        ]
        view.step(*_load_words(phases, ceiling))
        job = _job(checked, roots, phases, payload, seed)
        try:
            runs = asyncio.run(_runs(contenders, job, ceiling, view, port))
        except asyncio.CancelledError:
            raise click.Abort from None
    document = demo_document(checked, pipeline, runs, ceiling, yardstick)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(without_images(document)), indent=2).decode())
    else:
        print_closing(console, document)
    write_report(document, report_path, "--report")
    console.print(f"\nreport with plots: {report_path}", highlight=False, soft_wrap=True)
    if runs[-1].result.stopped:
        raise click.Abort


def _cold_starts(pipeline: Pipeline, seconds: float) -> Iterator[str]:
    """Overrides with which an emulated replica, which holds all its stage's variants, loads so long."""
    for name, stage in pipeline.stages.items():
        for index, variant in enumerate(stage.variants):
            if variant.runtime != "emulated":
                raise ConfigError(
                    f"--cold-start: variant {variant.name!r} of stage {name!r} really loads; "
                    "only pipelines whose variants are all `runtime: emulated` can pretend to"
                )
            yield f"stages.{name}.variants[{index}].load_ms={1000.0 * seconds / len(stage.variants):g}"


def _written(nodes: Sequence[Node]) -> str:
    """Nodes as `--nodes` takes them."""
    return ",".join(f"{node.cores:g}" for node in nodes)


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


def _yardstick(pipeline: Pipeline, roots: Sequence[str], path: str | None, nodes: Sequence[Node]) -> Yardstick | None:
    profile, _ = profile_for(pipeline, roots, path)
    return Yardstick(Graph.of(pipeline), profile, nodes, pipeline.policy) if profile is not None else None


def _load_words(phases: Sequence[Phase], ceiling: Ceiling | None) -> tuple[str, str]:
    """The load that is to come, and what it is measured against."""
    load = ", ".join(
        f"{phase.name} {count(phase.rate_per_s)}/s for {count(phase.seconds)} s"
        for phase in phases
        if phase.name != WARM_UP
    )
    if ceiling is None:
        return load, ""
    return load, (
        f"the most accurate variants ({percent(ceiling.accuracy)}) answer {count(ceiling.within_slo_per_s)}/s in time "
        f"and carry {count(ceiling.capacity_per_s)}/s at most"
    )


def _job(
    pipeline: Pipeline, roots: Sequence[str], phases: tuple[Phase, ...], payload: Synthetic | None, seed: int
) -> Job:
    samples = pipeline.samples
    return Job(
        url="http://127.0.0.1",
        model=pipeline.name,
        phases=phases,
        slo_ms=pipeline.slo_ms,
        source=samples.source if samples is not None else "",
        score=samples.score if samples is not None else "",
        payload=payload,
        seed=seed,
        import_roots=tuple(roots),
        batched=pipeline.max_batch_size > 0,
        timeout_ms=max(10_000.0, 5.0 * pipeline.slo_ms),
    )


async def _runs(
    contenders: Sequence[Contender], job: Job, ceiling: Ceiling | None, view: View, port: int
) -> list[RunRecord]:
    """One run after the other; those that come after one that was stopped are left out."""
    done: list[RunRecord] = []
    for contender in contenders:
        run = await run_contender(contender, job, ceiling, view, port=port)
        done.append(run)
        if run.result.stopped:
            break
    return done
