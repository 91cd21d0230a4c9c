"""`triscale serve`: serve a pipeline until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import msgspec

from triscale.app.policy import choose_policy, nodes_for
from triscale.app.resolve import cores_for, profile_for
from triscale.app.system import Options, System
from triscale.cli.options import (
    cores_option,
    pipeline_argument,
    port_option,
    profile_option,
    set_option,
    variant_option,
    variants_of,
)
from triscale.cli.plan_options import nodes_of
from triscale.cli.warn import warn
from triscale.clock import SystemClock, monotonic
from triscale.control.process_decider import ProcessDecider
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.dashboard.page import dashboard
from triscale.errors import ConfigError
from triscale.replica.config import import_roots

__all__ = ["serve"]


class Ready(msgspec.Struct, frozen=True):
    """What `--json` prints, as one line, when requests are accepted."""

    pipeline: str
    url: str
    metrics_url: str
    slo_ms: float
    cores: int
    capacity_per_s: float
    accuracy: float
    variants: dict[str, str]
    batch: dict[str, int]
    reason: str
    startup_s: float
    warnings: tuple[str, ...] = ()


@click.command()
@pipeline_argument
@set_option
@cores_option
@profile_option
@variant_option
@click.option(
    "--nodes",
    metavar="NODES",
    callback=nodes_of,
    help="Stand for a cluster, for example 2x16: its replicas all run here, emulated. By default: this machine.",
)
@click.option("--policy", help="Autoscaler, with its default options; by default the pipeline file's `policy`.")
@click.option(
    "--demand",
    default=0.0,
    type=click.FloatRange(min=0.0),
    metavar="R",
    help="Requests/s expected at first, which the autoscaler's first plan is made for; by default hardly any.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for every one.")
@port_option(8000, "Port of the inference protocol; 0 picks a free one.")
@port_option(8002, "Port of /metrics; 0 picks a free one.", "--metrics-port")
@click.option("--token", envvar="TRISCALE_TOKEN", default="", help="Bearer token that every request must carry.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its private key, PEM.")
@click.option(
    "--otlp-endpoint",
    envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
    default="",
    metavar="URL",
    help="Send traces to the OpenTelemetry collector at this base URL, for example http://localhost:4318.",
)
@click.option(
    "--decision-log",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append every decision of the autoscaler to FILE, as one line of JSON.",
)
@click.option(
    "--grace",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0.0),
    help="Seconds that a shutdown waits for open requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document when ready.")
@click.option("-v", "--verbose", is_flag=True, help="Log what replicas do.")
def serve(
    pipeline: str,
    overrides: tuple[str, ...],
    cores: int | None,
    profile_path: str | None,
    variants: tuple[str, ...],
    nodes: tuple[Node, ...] | None,
    policy: str | None,
    demand: float,
    host: str,
    port: int,
    metrics_port: int,
    token: str,
    tls_cert: str | None,
    tls_key: str | None,
    otlp_endpoint: str,
    decision_log: Path | None,
    grace: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Serve PIPELINE over the Open Inference Protocol (REST) until SIGTERM or Ctrl-C.

    Triton's and KServe's clients and curl work unchanged; see docs/serving.md.

    \b
    Example: triscale serve examples/digits
    """
    started = monotonic()
    if port == metrics_port != 0:
        raise ConfigError(f"--port and --metrics-port are both {port}: each needs a port of its own; change one")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if policy is not None:
        overrides = (*overrides, f"policy.name={policy}")
    checked = load_pipeline(pipeline, overrides)
    roots = import_roots(pipeline_file(pipeline))
    profile, warnings = profile_for(checked, roots, profile_path)
    warn(warnings)
    count = cores_for(checked, cores)
    machines = nodes_for(checked, count, nodes or ())
    chosen = choose_policy(Graph.of(checked), profile, machines, variants_of(variants), checked.policy, demand)
    warn(chosen.warnings)
    plan = chosen.plan
    options = Options(
        host=host,
        port=port,
        metrics_port=metrics_port,
        token=token,
        tls=_tls(tls_cert, tls_key),
        grace_s=grace,
        page=dashboard(),
        otlp_endpoint=otlp_endpoint,
        decision_log=decision_log,
    )

    def announce(system: System) -> None:
        scheme = "https" if options.tls else "http"
        shown = f"[{host}]" if ":" in host else host
        path = plan.paths[0]
        ready = Ready(
            pipeline=checked.name,
            url=f"{scheme}://{shown}:{system.http.port}",
            metrics_url=f"http://{shown}:{system.metrics_http.port}/metrics",
            slo_ms=checked.slo_ms,
            cores=sum(int(node.cores) for node in machines),
            capacity_per_s=plan.capacity,
            accuracy=plan.accuracy,
            variants=dict(path.variants),
            batch={stage: plan.stages[stage].variants[name].batch for stage, name in path.variants.items()},
            reason=plan.reason,
            startup_s=monotonic() - started,
            warnings=(*warnings, *chosen.warnings),
        )
        click.echo(msgspec.json.encode(ready).decode() if as_json else _words(ready))
        sys.stdout.flush()

    async def run() -> None:
        decider = ProcessDecider(chosen.recipe) if chosen.recipe is not None else None
        system = System(checked, roots, profile, plan, SystemClock(), options, decider=decider, nodes=machines)
        await _serve_until_told(system, announce)

    _run(run())


async def _serve_until_told(system: System, announce: Callable[[System], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    starting = loop.create_task(system.start())
    stopping = loop.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    try:
        starting.result()
    except BaseException:
        stopping.cancel()
        raise
    announce(system)
    await stopping
    await system.close()


def _run(main: Coroutine[Any, Any, None]) -> None:
    """On uvloop, which is 15 to 20 % faster here; on asyncio's own loop where there is none."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("TLS needs both --tls-cert and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"--tls-cert {cert}, --tls-key {key}: cannot be used: {error}") from None
    return context


def _words(ready: Ready) -> str:
    variants = ", ".join(f"{stage} {name} (batch {ready.batch[stage]})" for stage, name in ready.variants.items())
    capacity = f"{ready.capacity_per_s:.1f} requests/s" if ready.capacity_per_s else "not known yet"
    return (
        f"serving {ready.pipeline!r} at {ready.url} (ready after {ready.startup_s:.2f} s; Ctrl-C stops)\n"
        f"  objective {ready.slo_ms:g} ms; {ready.cores} cores; capacity {capacity}; "
        f"expected accuracy {ready.accuracy:.3f}\n"
        f"  variants  {variants}\n"
        f"  infer     POST {ready.url}/v2/models/{ready.pipeline}/infer\n"
        f"  dashboard {ready.url}/\n"
        f"  metrics   {ready.metrics_url}"
    )
