"""`triscale top`: a running server, live in the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import click
from rich.console import Console
from rich.live import Live

from triscale.cli.options import cacert_option, insecure_option, token_option, url_argument
from triscale.cli.status_client import StatusClient
from triscale.cli.top_view import Trail, screen
from triscale.errors import ConfigError, TriscaleError
from triscale.traces.endpoint import Trust

__all__ = ["top"]

_EVERY_S = 1.0


@click.command()
@url_argument
@token_option
@cacert_option
@insecure_option
def top(url: str, token: str, cacert: str | None, insecure: bool) -> None:
    """Watch the server at URL: its figures, stages, the last minutes as curves, and its decisions. Ctrl-C ends it.

    URL is by default http://127.0.0.1:8000, where `triscale serve` listens.

    \b
    Example: triscale top http://127.0.0.1:8000
    """
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        raise ConfigError("triscale top draws in a terminal, and this is none; use `triscale status` or the dashboard")
    try:
        asyncio.run(_watch(StatusClient(url, token, Trust(cacert=cacert or "", insecure=insecure)), console))
    except KeyboardInterrupt:
        pass


async def _watch(
    client: StatusClient, console: Console, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Redraw once a second until cancelled. TriscaleError when there is nothing to begin with."""
    trail = Trail()
    try:
        status = await client.status()
        trail.add(await client.history())
        with Live(console=console, screen=True, auto_refresh=False) as live:
            notice = ""
            while True:
                live.update(screen(status, trail, console.width, console.height, notice), refresh=True)
                await sleep(_EVERY_S)
                try:
                    status = await client.status()
                    if status.started_s != trail.started_s:
                        trail = Trail()
                    trail.add(await client.history(trail.last))
                    notice = ""
                except TriscaleError as error:
                    notice = f"connection lost, trying again every second: {error}"
    finally:
        await client.close()
