"""`triscale compare`: several policies on the same arrivals, over several seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec
from rich.console import Console

from triscale.app.simulation import options_of
from triscale.cli.compare_text import print_comparison
from triscale.cli.report import check_writable, write_page
from triscale.cli.simulate_facts import facts_of
from triscale.cli.simulate_pool import Task, run_all
from triscale.cli.simulate_progress import Bars
from triscale.cli.simulate_scenario import Scenario, ScenarioOptions, build_scenario, scenario_options, values_of
from triscale.cli.warn import warn
from triscale.engines.machine import usable_cores
from triscale.errors import ConfigError
from triscale.observe.simulation_comparison import standings
from triscale.observe.simulation_comparison_report import render_comparison
from triscale.policy.autoscalers.registry import AUTOSCALERS, no_such_policy
from triscale.sim.result import Result

__all__ = ["compare"]


@click.command()
@click.option(
    "--policies", required=True, metavar="A,B,C", help=f"Of {', '.join(AUTOSCALERS)}. The first is the measure."
)
@click.option(
    "--option",
    "values",
    multiple=True,
    metavar="POLICY.KEY=VALUE",
    help="An option of one of the policies; may be given several times.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="How many runs of each policy.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The first seed.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once; by default one per core of this machine.")
@scenario_options
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with plots too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one element for each policy and seed.")
def compare(
    pipeline: str,
    policies: str,
    values: tuple[str, ...],
    seeds: int,
    seed: int,
    jobs: int | None,
    report: Path | None,
    as_json: bool,
    **options: Unpack[ScenarioOptions],
) -> None:
    """Simulate several policies on PIPELINE under the same load, side by side.

    Every policy meets the same arrivals and the same items per request, with each of the seeds. A policy that cannot
    be run is named, and the others are compared; the exit status is then 2.

    \b
    Example: triscale compare examples/traffic_analysis --trace spike:base=10,peak=60,seconds=60 --nodes 4x8
      --policies triscale,loki,hpa,oracle
    """
    names = _names(policies)
    given = _options(values, names)
    if report is not None:
        check_writable(report, "--report")
    scenario = build_scenario(pipeline, **options)
    warn(scenario.warnings)
    tasks = [Task(name, number, given[name]) for name in names for number in range(seed, seed + seeds)]
    outcomes = _run(scenario, tasks, jobs or usable_cores())
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    problems = _problems(tasks, outcomes)
    if results:
        _show(scenario, results, problems, given, report, as_json=as_json)
    if problems:
        for problem in problems:
            click.echo(f"{click.style('error:', fg='red', bold=True)} {problem}", err=True)
        sys.exit(2)


def _names(text: str) -> list[str]:
    """The policies, each once and known; ConfigError with all that are amiss, before anything is run."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    problems = [f"--policies: {no_such_policy(name)}" for name in names if name not in AUTOSCALERS]
    problems += [
        f"--policies: {name} is named twice; name it once" for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    if not names:
        problems.append(f"--policies: names no policy; the policies are: {', '.join(AUTOSCALERS)}")
    if problems:
        raise ConfigError(*problems)
    return names


def _options(values: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Policy -> its options."""
    of_policy: dict[str, list[str]] = {name: [] for name in names}
    for value in values:
        policy, dot, option = value.partition(".")
        if not dot or policy not in of_policy:
            key, _, stated = value.partition("=")
            raise ConfigError(
                f"--option {value}: does not begin with one of the policies and a dot; write POLICY.KEY=VALUE, "
                f"for example {names[0]}.{key.rpartition('.')[2]}={stated or 1}"
            )
        of_policy[policy].append(option)
    return {name: values_of(options, f"{name}.") for name, options in of_policy.items()}


def _run(scenario: Scenario, tasks: Sequence[Task], jobs: int) -> list[Result | ConfigError]:
    """All tasks, with a bar for each policy."""
    runs = {task.policy: sum(other.policy == task.policy for other in tasks) for task in tasks}
    with Bars(scenario.trace.seconds) as bars:
        show = {policy: bars.add(policy, number) for policy, number in runs.items()}
        parts = [0.0] * len(tasks)

        def progress(number: int, part: float) -> None:
            policy = tasks[number].policy
            parts[number] = part
            show[policy](sum(parts[i] for i, task in enumerate(tasks) if task.policy == policy))

        return run_all(scenario, tasks, jobs, progress)


def _problems(tasks: Sequence[Task], outcomes: Sequence[Result | ConfigError]) -> list[str]:
    """What kept a policy from being run, by name; each thing once, however many seeds it stopped."""
    found: dict[str, None] = {}
    for task, outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, ConfigError):
            found.update(dict.fromkeys(f"{task.policy}: {problem}" for problem in outcome.problems))
    return list(found)


def _show(
    scenario: Scenario,
    results: Sequence[Result],
    problems: Sequence[str],
    given: dict[str, dict[str, Any]],
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    warn(dict.fromkeys(problem for result in results for problem in result.problems))
    if as_json:
        shown = msgspec.json.encode([result.summary() for result in results])
        click.echo(msgspec.json.format(shown, indent=2).decode())
    else:
        print_comparison(Console(), standings(results))
    if report is not None:
        documents = [msgspec.to_builtins(result) for result in results]
        policies = {name: options_of(scenario.pipeline, name, mine) for name, mine in given.items()}
        facts = facts_of(scenario, policies, sorted({result.seed for result in results}))
        write_page(render_comparison(documents, facts, problems), report, "--report")
        if not as_json:
            click.echo(f"\nreport with plots: {report}")
