"""`triscale plan`: which variants, where and how many, for a demand on a limited cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich.console import Console

from triscale.app.resolve import cores_for, profile_for
from triscale.cli.options import cores_option, pipeline_argument, profile_option, set_option
from triscale.cli.plan_explain import explain_document, explain_lines
from triscale.cli.plan_options import bounds_of, nodes_of, objective_of, range_of
from triscale.cli.plan_plot import check_name, write_sweep
from triscale.cli.plan_sweep import demands_of, print_sweep
from triscale.cli.plan_text import print_plan
from triscale.cli.warn import warn
from triscale.clock import monotonic
from triscale.core.cluster import Node, NodeId
from triscale.core.figures import counted
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan, VariantPlan
from triscale.core.profile import Profile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.policy.optimise.explain import explain
from triscale.policy.optimise.problem import Problem
from triscale.policy.optimise.settings import ReplicaBounds, Settings
from triscale.policy.optimise.solve import Solver, solve
from triscale.policy.waiting import WaitRule
from triscale.replica.config import import_roots

__all__ = ["plan", "plan_document"]

_STEPS = 24
"""Demands that a sweep looks at unless told otherwise."""


@click.command()
@pipeline_argument
@set_option
@cores_option
@click.option(
    "--nodes",
    callback=nodes_of,
    metavar="NODES",
    help="Nodes in place of --cores: [COUNTx]CORES[:MEMORY][:GPUS], separated by commas. `4x8` is four nodes of 8 "
    "cores, `2x16:64GB:1gpu,1x4` two of 16 cores, 64 GB and a GPU, and one of 4 cores. A lane does not span nodes.",
)
@profile_option
@click.option("--demand", type=click.FloatRange(min=0.0), help="Requests/s at the door to plan for.")
@click.option("--sweep", callback=range_of, metavar="LO:HI", help="Plan for demands from LO to HI in place of one.")
@click.option("--steps", type=click.IntRange(2, 1000), help=f"Demands of a sweep.  [default: {_STEPS}]")
@click.option(
    "--plot", "plot_path", type=click.Path(dir_okay=False), help="Draw the sweep into this file too, .svg or .html."
)
@click.option("--slo-ms", type=float, callback=objective_of, help="Another latency objective than the file's.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads per lane; by default any that were measured.")
@click.option("--min-accuracy", type=click.FloatRange(0.0, 1.0), help="Least end-to-end accuracy of a plan.")
@click.option(
    "--replicas",
    callback=bounds_of,
    multiple=True,
    metavar="STAGE=MIN..MAX",
    help="Fewest and most replicas of a stage, in place of the file's; `detect=2..` and `detect=..4` bound one side.",
)
@click.option(
    "--wait-model",
    type=click.Choice(get_args(WaitRule)),
    default="queue",
    show_default=True,
    help="Waiting that is planned for: predicted queues, or one of the papers' rules.",
)
@click.option(
    "--solver",
    type=click.Choice(get_args(Solver)),
    default="auto",
    show_default=True,
    help="How to search: exact (auto, milp), one variant per stage (dp), or at once (greedy).",
)
@click.option(
    "--sharing",
    type=click.Choice(["auto", "dedicated", "shared"]),
    default="auto",
    show_default=True,
    help="Whether every lane has cores of its own, or the lanes of a node share its cores; auto: shared where there "
    "are fewer cores than stages.",
)
@click.option("--explain", "explained", is_flag=True, help="Say what limits the plan and what a little more would buy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    nodes: tuple[Node, ...] | None,
    profile_path: str | None,
    demand: float | None,
    sweep: tuple[float, float] | None,
    steps: int | None,
    plot_path: str | None,
    slo_ms: float | None,
    threads: int | None,
    min_accuracy: float | None,
    replicas: Mapping[str, ReplicaBounds],
    wait_model: WaitRule,
    solver: Solver,
    sharing: str,
    explained: bool,
    as_json: bool,
) -> None:
    """Decide variants, shares, batches, lanes and replicas for PIPELINE, without running anything.

    In this order: carry the demand within the objective, at the highest accuracy, with the fewest cores. Where the
    demand cannot be carried at any accuracy, the plan carries as much as it can and says how much is shed.

    \b
    Example: triscale plan examples/traffic_analysis/car_branch.yaml --demand 500 --cores 18 --threads 1
    """
    _refuse_what_does_not_go_together(demand, sweep, cores, nodes, steps, plot_path, explained=explained)
    if sharing == "shared" and solver != "auto":
        raise click.UsageError(
            f"--solver {solver} gives every lane cores of its own; leave it out, or write --sharing dedicated"
        )
    if plot_path is not None:
        check_name(Path(plot_path))
    if slo_ms is not None:
        overrides = (*overrides, f"slo_ms={slo_ms}")
    checked = load_pipeline(pipeline, overrides)
    profile, warnings = profile_for(checked, import_roots(pipeline_file(pipeline)), profile_path)
    if profile is None:
        raise ConfigError(f"there are no latencies of {checked.name!r} to plan with; run `triscale profile {pipeline}`")
    warn(warnings)
    nodes = nodes or _machine(checked, cores)
    is_shared = sharing == "shared" or (sharing == "auto" and sum(node.cores for node in nodes) < len(checked.stages))
    settings = Settings(
        wait=wait_model,
        sharing="shared" if is_shared else "dedicated",
        threads=(threads,) if threads else (),
        min_accuracy=checked.policy.min_accuracy if min_accuracy is None else min_accuracy,
        replicas=replicas,
        service_quantile="p50" if wait_model == "half_slo" else "p95",
        utilisation=1.0 if wait_model in ("half_slo", "batch_fill") else Settings().utilisation,
    )
    problem = Problem.of(Graph.of(checked), profile, 0.0, nodes, settings)
    if sweep is not None:
        title = f"{checked.name} within {checked.slo_ms:g} ms on {counted(problem.cores, 'core')}"
        _sweep(problem, demands_of(*sweep, steps or _STEPS), solver, title, plot_path, as_json=as_json)
    else:
        _one(problem.at(demand or 0.0), profile, solver, explained=explained, as_json=as_json)


def _refuse_what_does_not_go_together(
    demand: float | None,
    sweep: tuple[float, float] | None,
    cores: int | None,
    nodes: tuple[Node, ...] | None,
    steps: int | None,
    plot_path: str | None,
    *,
    explained: bool,
) -> None:
    if (demand is None) == (sweep is None):
        raise click.UsageError("give either --demand R or --sweep LO:HI, for example --demand 100")
    if cores is not None and nodes is not None:
        raise click.UsageError("give either --cores or --nodes: nodes say how many cores they have")
    if sweep is None and (steps is not None or plot_path is not None):
        raise click.UsageError("--steps and --plot are for a sweep; add --sweep LO:HI, for example --sweep 50:1000")
    if sweep is not None and explained:
        raise click.UsageError("--explain is about one plan; give --demand R in place of --sweep")


def _machine(checked: Pipeline, cores: int | None) -> tuple[Node, ...]:
    """The one node of a plan without --nodes: what the pipeline file allows, else this machine."""
    memory_gb = checked.resources.memory_gb or 0.0
    return (Node(id=NodeId("node-1"), cores=cores_for(checked, cores), memory_bytes=int(memory_gb * 2**30)),)


def _one(problem: Problem, profile: Profile, solver: Solver, *, explained: bool, as_json: bool) -> None:
    found = solve(problem, solver, clock=monotonic)
    why = explain(problem, profile, found, solver, clock=monotonic) if explained else None
    if as_json:
        document = plan_document(found)
        _print_json({**document, "explain": explain_document(why)} if why else document)
        return
    print_plan(problem.graph.pipeline.name, problem.graph.pipeline.slo_ms, found)
    for line in explain_lines(why, found, Console().width) if why else ():
        click.echo(line)


def _sweep(
    problem: Problem, demands: list[float], solver: Solver, title: str, plot_path: str | None, *, as_json: bool
) -> None:
    found = [solve(problem.at(each), solver, clock=monotonic) for each in demands]
    if as_json:
        _print_json([plan_document(each) for each in found])
    else:
        print_sweep(found)
    if plot_path is not None:
        write_sweep(found, title, Path(plot_path))
        click.echo(f"drawn into {plot_path}", err=as_json)


def _print_json(document: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


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
