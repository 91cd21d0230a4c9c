"""`triscale simulate`: what a policy would do with a pipeline on a cluster under a load, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click
import msgspec
from rich.console import Console

from triscale.app.simulation import options_of
from triscale.cli.report import check_writable, write_page
from triscale.cli.simulate_facts import facts_of
from triscale.cli.simulate_progress import Bars
from triscale.cli.simulate_scenario import ScenarioOptions, build_scenario, scenario_options, values_of
from triscale.cli.simulate_text import print_simulation
from triscale.cli.warn import warn
from triscale.errors import ConfigError
from triscale.observe.simulation_report import render_simulation
from triscale.policy.autoscalers.registry import AUTOSCALERS, no_such_policy

__all__ = ["simulate"]


@click.command()
@click.option("--policy", metavar="NAME", help="The policy that decides; by default the pipeline file's.")
@click.option(
    "--option",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the policy; may be given several times.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of arrivals, latencies and fan-outs."
)
@scenario_options
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with plots too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def simulate(
    pipeline: str,
    policy: str | None,
    values: tuple[str, ...],
    seed: int,
    report: Path | None,
    as_json: bool,
    **options: Unpack[ScenarioOptions],
) -> None:
    """Simulate PIPELINE on a cluster under a load, with a policy deciding; the cluster need not exist.

    The queues, batching, drops and policies are the server's own, under a virtual clock. The same options and seed give
    the same result.

    \b
    Example: triscale simulate examples/traffic_analysis --trace poisson:rate=20,seconds=60 --nodes 4x8
    """
    if policy is not None and policy not in AUTOSCALERS:
        raise ConfigError(f"--policy: {no_such_policy(policy)}")
    if report is not None:
        check_writable(report, "--report")
    scenario = build_scenario(pipeline, **options)
    warn(scenario.warnings)
    chosen = policy or scenario.pipeline.policy.name
    given = values_of(values)
    with Bars(scenario.trace.seconds) as bars:
        result = scenario.run(chosen, seed, given, bars.add(f"simulating {chosen}"))
    warn(result.problems)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result.summary()), indent=2).decode())
    else:
        print_simulation(Console(), result)
    if report is not None:
        facts = facts_of(scenario, {chosen: options_of(scenario.pipeline, chosen, given)}, [seed])
        write_page(render_simulation(msgspec.to_builtins(result), facts), report, "--report")
        if not as_json:
            click.echo(f"\nreport with plots: {report}")
