"""`triscale status`: what a running server is doing."""

from __future__ import annotations

import asyncio

import click
import msgspec

from triscale.cli.options import cacert_option, insecure_option, token_option, url_argument
from triscale.cli.status_client import StatusClient
from triscale.cli.status_text import print_status
from triscale.observe.status import Status
from triscale.traces.endpoint import Trust

__all__ = ["status"]


@click.command()
@url_argument
@token_option
@cacert_option
@insecure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(url: str, token: str, cacert: str | None, insecure: bool, as_json: bool) -> None:
    """Say what the server at URL is doing: its plan and why, its stages, what was missed, its latest decisions.

    URL is by default http://127.0.0.1:8000, where `triscale serve` listens.

    \b
    Example: triscale status http://127.0.0.1:8000 --json
    """
    found = asyncio.run(_ask(url, token, Trust(cacert=cacert or "", insecure=insecure)))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        print_status(found)


async def _ask(url: str, token: str, trust: Trust) -> Status:
    client = StatusClient(url, token, trust)
    try:
        return await client.status()
    finally:
        await client.close()
