"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "cacert_option",
    "cores_option",
    "insecure_option",
    "pipeline_argument",
    "port_option",
    "profile_option",
    "set_option",
    "token_option",
    "url_argument",
    "variant_option",
    "variants_of",
]

F = TypeVar("F", bound=Callable[..., Any])

pipeline_argument: Callable[[F], F] = click.argument("pipeline", metavar="PIPELINE")

set_option: Callable[[F], F] = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the file, for example slo_ms=500 or stages.detect.variants[0].accuracy=0.9.",
)

cores_option: Callable[[F], F] = click.option(
    "--cores", type=click.IntRange(min=1), help="Cores to use; by default `resources.cores` of the file, else all."
)

profile_option: Callable[[F], F] = click.option(
    "--profile",
    "profile_path",
    type=click.Path(dir_okay=False),
    help="Profile file to use; by default the cached one of this machine, else what the pipeline file states.",
)

variant_option: Callable[[F], F] = click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="STAGE=NAME",
    help="Fix the variant of a stage; the others are chosen.",
)


def port_option(default: int, says: str, name: str = "--port") -> Callable[[F], F]:
    """A port to listen on."""
    return click.option(name, default=default, show_default=True, type=click.IntRange(0, 65535), help=says)


url_argument: Callable[[F], F] = click.argument("url", metavar="[URL]", default="http://127.0.0.1:8000")

token_option: Callable[[F], F] = click.option(
    "--token", envvar="TRISCALE_TOKEN", default="", help="The server's bearer token; by default TRISCALE_TOKEN."
)

cacert_option: Callable[[F], F] = click.option(
    "--cacert",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificates to trust, PEM; by default those that the system trusts.",
)

insecure_option: Callable[[F], F] = click.option("--insecure", is_flag=True, help="Trust any certificate.")


def variants_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """`--variant` options as stage -> variant."""
    chosen: dict[str, str] = {}
    for pair in pairs:
        stage, equals, name = pair.partition("=")
        if not equals or not stage or not name:
            raise click.BadParameter(f"{pair!r} is not STAGE=NAME, for example detect=small", param_hint="--variant")
        chosen[stage] = name
    return chosen
