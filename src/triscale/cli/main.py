"""The `triscale` command: one file per subcommand, imported only when it is the one that was asked for."""

from __future__ import annotations

import importlib
import io
import sys

import click

import triscale
from triscale.errors import TriscaleError

__all__ = ["main"]

_COMMANDS = {
    "serve": "serve a pipeline over the Open Inference Protocol",
    "status": "say what a running server is doing, and why",
    "top": "watch a running server in the terminal",
    "demo": "serve a pipeline under load and report what happened",
    "profile": "measure every variant of a pipeline on this machine",
    "plan": "decide variants, lanes and replicas for a demand, without running anything",
    "simulate": "run a policy on a pipeline under a load in virtual time, on machines that need not exist",
    "compare": "simulate several policies on the same arrivals, side by side",
    "replay": "send a load to any server of the Open Inference Protocol, and report how the requests ended",
    "trace": "show a load: its rate over time, and arrivals drawn from it",
    "report": "make an HTML report of the JSON document of a demo or a replay",
    "validate": "check a pipeline file without running anything",
}


class _Lazy(click.Group):
    """Knows its commands by name and help line; imports the module of the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"triscale.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(triscale.__version__, prog_name="triscale")
def cli() -> None:
    """Serve pipelines of machine-learning models under one end-to-end latency objective."""


def main() -> None:
    """Run the command line; mistakes of the user end with their message and status 2, not with a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where there is no Unicode, a "?" is better than no answer
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except TriscaleError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
