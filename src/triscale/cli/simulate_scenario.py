"""What `simulate` and `compare` have in common: the world that a policy is put into, from their options.

@click.command()
@scenario_options
def command(pipeline: str, **options: Unpack[ScenarioOptions]) -> None:
    scenario = build_scenario(pipeline, **options)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack, get_args

import click
import msgspec

from triscale.app.resolve import cores_for, profile_for
from triscale.app.simulation import Drop, run_simulation, window_for
from triscale.cli.options import cores_option, pipeline_argument, profile_option, set_option
from triscale.cli.plan_options import nodes_of, objective_of
from triscale.cli.trace_options import TraceOptions, build_trace, trace_options
from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.core.yaml_marks import parse
from triscale.errors import ConfigError
from triscale.replica.config import import_roots
from triscale.sim.result import Result
from triscale.sim.settings import Failure, FanOut, Service, SimSettings
from triscale.traces.trace import AnyTrace

__all__ = ["Scenario", "ScenarioOptions", "build_scenario", "scenario_options", "values_of"]

F = TypeVar("F", bound=Callable[..., Any])

_FAILURE = re.compile(r"^(?P<what>[^@]+)@(?P<at>[\d.]+)(?:\+(?P<down>[\d.]+))?$")
_DEFAULTS = SimSettings()


class ScenarioOptions(TraceOptions, total=False):
    """What `scenario_options` hands to a command, and `build_scenario` takes."""

    overrides: tuple[str, ...]
    trace: str
    cores: int | None
    nodes: tuple[Node, ...] | None
    profile_path: str | None
    slo_ms: float | None
    min_accuracy: float | None
    cold_start: float
    resize_delay: float
    hop: float
    drop: Drop | None
    admission: bool | None
    service: Service
    fan_out: FanOut
    failures: tuple[str, ...]
    warmup: float


_OPTIONS = (
    click.option(
        "--trace",
        required=True,
        metavar="TRACE",
        help="The load: a file, or one such as poisson:rate=50,seconds=60; `triscale trace --help` lists them.",
    ),
    trace_options,
    cores_option,
    click.option(
        "--nodes",
        callback=nodes_of,
        metavar="NODES",
        help="Nodes in place of --cores: [COUNTx]CORES[:MEMORY][:GPUS], separated by commas. `4x8` is four nodes of 8 "
        "cores. They need not exist.",
    ),
    profile_option,
    set_option,
    click.option("--slo-ms", type=float, callback=objective_of, help="Another latency objective than the file's."),
    click.option("--min-accuracy", type=click.FloatRange(0.0, 1.0), help="Least end-to-end accuracy of a plan."),
    click.option(
        "--cold-start",
        type=click.FloatRange(min=0.0),
        default=_DEFAULTS.cold_start_s,
        show_default=True,
        metavar="S",
        help="Seconds from the launch of a replica until it takes work.",
    ),
    click.option(
        "--resize-delay",
        type=click.FloatRange(min=0.0),
        default=_DEFAULTS.resize_s,
        show_default=True,
        metavar="S",
        help="Seconds from a resize until it holds.",
    ),
    click.option(
        "--hop",
        type=click.FloatRange(min=0.0),
        default=0.0,
        show_default=True,
        metavar="MS",
        help="Network milliseconds to a replica, and the same back, beyond what is in the profile.",
    ),
    click.option(
        "--drop",
        type=click.Choice(get_args(Drop)),
        help="What happens to an item that would be late, in place of what the policy's system does.",
    ),
    click.option(
        "--admission/--no-admission",
        default=None,
        help="Whether the door refuses what would be late, in place of what the policy's system does.",
    ),
    click.option(
        "--service",
        type=click.Choice(get_args(Service)),
        default=_DEFAULTS.service,
        show_default=True,
        help="How long a batch takes: drawn from the profile's quantiles, always its median, or exponential.",
    ),
    click.option(
        "--fan-out",
        type=click.Choice(get_args(FanOut)),
        default=_DEFAULTS.fan_out,
        show_default=True,
        help="How the number of items that an item emits varies around its mean.",
    ),
    click.option(
        "--fail",
        "failures",
        multiple=True,
        metavar="WHAT@S[+S]",
        help="Break something: node-2@30+20 is a node that is down from second 30 for 20 s, detect@30 the loss of a "
        "replica of a stage.",
    ),
    click.option(
        "--warmup",
        type=click.FloatRange(min=0.0),
        default=0.0,
        show_default=True,
        metavar="S",
        help="Seconds at the start that are simulated but not counted.",
    ),
)


def scenario_options(command: F) -> F:
    """Add PIPELINE and the options of the simulated world; they reach the command as `ScenarioOptions`."""
    with_options = functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)
    return pipeline_argument(with_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything but the policy and the seed. Can be sent to another process."""

    pipeline: Pipeline
    profile: Profile
    trace: AnyTrace
    nodes: Sequence[Node]
    settings: SimSettings
    min_accuracy: float
    drop: Drop | None
    admission: bool | None
    warnings: Sequence[str] = ()
    """About the profile."""

    def run(
        self, policy: str, seed: int, options: Mapping[str, Any], progress: Callable[[float], None] | None = None
    ) -> Result:
        """One policy with one seed; see `run_simulation`."""
        return run_simulation(
            self.pipeline,
            self.profile,
            self.trace,
            policy,
            self.nodes,
            msgspec.structs.replace(self.settings, seed=seed),
            options,
            self.min_accuracy,
            drop=self.drop,
            admission=self.admission,
            progress=progress,
        )


def build_scenario(path: str, **options: Unpack[ScenarioOptions]) -> Scenario:
    """The scenario of the command line. ConfigError or a usage error says what is amiss."""
    nodes, cores = options["nodes"], options["cores"]
    if nodes is not None and cores is not None:
        raise click.UsageError("give either --cores or --nodes: nodes say how many cores they have")
    slo_ms, overrides = options["slo_ms"], options["overrides"]
    pipeline = load_pipeline(path, overrides if slo_ms is None else (*overrides, f"slo_ms={slo_ms}"))
    profile, warnings = profile_for(pipeline, import_roots(pipeline_file(path)), options["profile_path"])
    if profile is None:
        raise ConfigError(
            f"there are no latencies of {pipeline.name!r} to simulate with; run `triscale profile {path}`, or state "
            "`latency_ms` of every variant in the file"
        )
    trace = build_trace(
        options["trace"],
        trace_column=options["trace_column"],
        trace_slice=options["trace_slice"],
        trace_stretch=options["trace_stretch"],
        trace_range=options["trace_range"],
        trace_scale=options["trace_scale"],
    )
    if options["warmup"] >= trace.seconds:
        raise ConfigError(
            f"--warmup {options['warmup']:g}: nothing would be counted, for the trace is {trace.seconds:g} s long; "
            "take a shorter warm-up or a longer trace"
        )
    memory_bytes = int((pipeline.resources.memory_gb or 0.0) * 2**30)
    machine = nodes or (Node(id=NodeId("node-1"), cores=cores_for(pipeline, cores), memory_bytes=memory_bytes),)
    settings = SimSettings(
        cold_start_s=options["cold_start"],
        resize_s=options["resize_delay"],
        hop_s=options["hop"] / 1000.0,
        service=options["service"],
        fan_out=options["fan_out"],
        failures=tuple(_failure(text, pipeline, machine, trace.seconds) for text in options["failures"]),
        warmup_s=options["warmup"],
        window_s=window_for(trace.seconds),
    )
    asked = options["min_accuracy"]
    return Scenario(
        pipeline=pipeline,
        profile=profile,
        trace=trace,
        nodes=machine,
        settings=settings,
        min_accuracy=pipeline.policy.min_accuracy if asked is None else asked,
        drop=options["drop"],
        admission=options["admission"],
        warnings=warnings,
    )


def values_of(options: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """`KEY=VALUE` options of a policy as a mapping; values are YAML. ConfigError for anything else.

    `prefix` stood before each of them.
    """
    found: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--option {prefix}{option}: is not KEY=VALUE, for example {prefix}{key.strip() or 'tick_s'}=1"
            )
        found[key.strip()] = parse(text, f"--option {prefix}{option}").data if text.strip() else None
    return found


def _failure(text: str, pipeline: Pipeline, nodes: Sequence[Node], seconds: float) -> Failure:
    """`node-2@30+20` or `detect@30`, in a trace of so many seconds."""
    found = _FAILURE.match(text)
    try:
        at, down = (float(found["at"]), float(found["down"]) if found["down"] else None) if found else (0.0, None)
    except ValueError:
        found = None
    if found is None:
        raise ConfigError(f"--fail {text}: is not WHAT@SECONDS or WHAT@SECONDS+SECONDS, for example node-1@30+20")
    if at >= seconds:
        raise ConfigError(f"--fail {text}: the trace is over by then, after {seconds:g} s; take an earlier second")
    what = found["what"]
    if what in pipeline.stages:
        if down is not None:
            raise ConfigError(f"--fail {text}: a lost replica of {what} is replaced, not repaired; write {what}@{at:g}")
        return Failure(at_s=at, stage=what)
    known = [str(node.id) for node in nodes]
    if what not in known:
        shown = ", ".join(known if len(known) <= 3 else [known[0], known[1], "...", known[-1]])
        raise ConfigError(
            f"--fail {text}: {what!r} is neither a node nor a stage; nodes are {shown}, stages "
            f"{', '.join(pipeline.stages)}"
        )
    return Failure(at_s=at, node=what, down_s=down)
