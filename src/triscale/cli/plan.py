"""`triscale plan`: which variants, where and how many, for a demand on a limited cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table

from triscale.app.resolve import cores_for, profile_for
from triscale.cli.options import cores_option, pipeline_argument, profile_option, set_option
from triscale.clock import monotonic
from triscale.core.graph import Graph
from triscale.core.plan import Plan, VariantPlan
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import Settings
from triscale.policy.optimise.solve import Solver, solve
from triscale.policy.waiting import WaitRule
from triscale.replica.config import import_roots

__all__ = ["plan", "plan_document"]

_STEPS = 12
"""Demands that a sweep looks at."""


@click.command()
@pipeline_argument
@set_option
@cores_option
@profile_option
@click.option("--demand", type=click.FloatRange(min=0.0), help="Requests/s at the door to plan for.")
@click.option("--sweep", metavar="LO:HI", help="Plan for demands from LO to HI in place of one.")
@click.option("--slo-ms", type=float, help="Another latency objective than the file's.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads per lane; by default any that were measured.")
@click.option("--min-accuracy", type=click.FloatRange(0.0, 1.0), help="Least end-to-end accuracy of a plan.")
@click.option("--wait-model", type=click.Choice(get_args(WaitRule)), default="queue", show_default=True)
@click.option("--solver", type=click.Choice(get_args(Solver)), default="auto", show_default=True)
@click.option("--sharing", type=click.Choice(["dedicated", "shared"]), default="dedicated", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    profile_path: str | None,
    demand: float | None,
    sweep: str | None,
    slo_ms: float | None,
    threads: int | None,
    min_accuracy: float | None,
    wait_model: WaitRule,
    solver: Solver,
    sharing: str,
    as_json: bool,
) -> None:
    """Decide variants, shares, batches, lanes and replicas for PIPELINE, without running anything.

    In this order: carry the demand within the objective, at the highest accuracy, with the fewest cores. Where the
    demand cannot be carried at any accuracy, the plan carries as much as it can and says how much is shed.

    \b
    Example: triscale plan examples/traffic_analysis/car_branch.yaml --demand 500 --cores 18 --threads 1
    """
    if (demand is None) == (sweep is None):
        raise click.UsageError("give either --demand R or --sweep LO:HI, for example --demand 100")
    if slo_ms is not None:
        overrides = (*overrides, f"slo_ms={slo_ms}")
    checked = load_pipeline(pipeline, overrides)
    profile, warnings = profile_for(checked, import_roots(pipeline_file(pipeline)), profile_path)
    if profile is None:
        raise ConfigError(f"there are no latencies of {checked.name!r} to plan with; run `triscale profile {pipeline}`")
    for warning in warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
    settings = Settings(
        wait=wait_model,
        sharing="shared" if sharing == "shared" else "dedicated",
        threads=(threads,) if threads else (),
        min_accuracy=checked.policy.min_accuracy if min_accuracy is None else min_accuracy,
        service_quantile="p50" if wait_model == "half_slo" else "p95",
        utilisation=1.0 if wait_model in ("half_slo", "batch_fill") else Settings().utilisation,
    )
    demands = [demand] if demand is not None else _demands(sweep or "")
    problem = Problem.of(Graph.of(checked), profile, demands[0], cores_for(checked, cores), settings)
    found = [solve(problem.at(each), solver, clock=monotonic) for each in demands]
    if as_json:
        documents = [plan_document(each) for each in found]
        shown = msgspec.json.encode(documents[0] if sweep is None else documents)
        click.echo(msgspec.json.format(shown, indent=2).decode())
    elif sweep is None:
        _print(checked.name, checked.slo_ms, found[0])
    else:
        _print_sweep(found)


def plan_document(found: Plan) -> dict[str, object]:
    """A plan as `--json` prints it: a stable form."""
    return {
        "feasible": found.feasible,
        "mode": found.mode,
        "demand": found.demand,
        "served_fraction": found.served_fraction,
        "accuracy": found.accuracy,
        "cores": found.cores,
        "gap": found.gap,
        "solve_s": found.solve_s,
        "solver": found.solver,
        "reason": found.reason,
        "stages": {
            stage: {name: _variant(variant) for name, variant in chosen.variants.items()}
            for stage, chosen in found.stages.items()
        },
        "paths": [
            {"variants": dict(path.variants), "share": path.share, "latency_ms": path.latency_s * 1000.0}
            for path in found.paths
        ],
    }


def _variant(variant: VariantPlan) -> Mapping[str, object]:
    return {
        "share": variant.share,
        "batch": variant.batch,
        "threads": variant.threads,
        "lanes": variant.lanes,
        "replicas": variant.replicas,
        "utilisation": variant.utilisation,
        "latency_ms": (variant.latency_s + variant.wait_s) * 1000.0,
    }


def _demands(sweep: str) -> list[float]:
    low, colon, high = sweep.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (0.0, 0.0)
    if not colon or not 0.0 <= bounds[0] < bounds[1] < float("inf"):
        raise click.BadParameter(f"{sweep!r} is not LO:HI with LO below HI, for example 50:1000", param_hint="--sweep")
    step = (bounds[1] - bounds[0]) / (_STEPS - 1)
    return [bounds[0] + step * index for index in range(_STEPS)]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _print(name: str, slo_ms: float, found: Plan) -> None:
    title = f"{name}: {found.demand:g} requests/s within {slo_ms:g} ms"
    table = _table(title, "stage/variant", "share", "lanes", "batch", "busy", "run ms", "wait ms")
    for stage, chosen in found.stages.items():
        for own, variant in chosen.variants.items():
            if variant.share > 0.0:
                table.add_row(
                    f"{stage}/{own}",
                    f"{variant.share:.0%}",
                    f"{variant.lanes} x {variant.threads}",
                    str(variant.batch),
                    f"{variant.utilisation:.0%}",
                    f"{variant.latency_s * 1000:.1f}",
                    f"{variant.wait_s * 1000:.1f}",
                )
    console = Console()
    console.print(table)
    shed = "" if found.served_fraction >= 1.0 else f"; {1.0 - found.served_fraction:.1%} of the demand is shed"
    console.print(
        f"{found.cores:g} cores, accuracy {found.accuracy:.2%}{shed} "
        f"({found.solver}, {found.solve_s * 1000:.1f} ms, proven to {found.gap:.2%})\n{found.reason}",
        highlight=False,
        soft_wrap=True,
    )


def _print_sweep(found: list[Plan]) -> None:
    table = _table("", "requests/s", "mode", "cores", "accuracy", "served")
    for each in found:
        table.add_row(
            f"{each.demand:.0f}", each.mode, f"{each.cores:g}", f"{each.accuracy:.2%}", f"{each.served_fraction:.1%}"
        )
    Console().print(table)
