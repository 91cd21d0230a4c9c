"""`triscale report`: the JSON of a run as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from triscale.errors import ConfigError
from triscale.observe.report import render

__all__ = ["check_writable", "report", "without_images", "write_page", "write_report"]


@click.command()
@click.argument("run", type=click.File("rb"))
@click.option("-o", "--out", default="report.html", show_default=True, type=click.Path(dir_okay=False))
def report(run: BinaryIO, out: str) -> None:
    """Write the HTML report of RUN, the JSON that `demo --json` or `replay --json` prints; `-` reads standard input.

    \b
    Example: triscale demo examples/digits --json > run.json; triscale report run.json
    """
    try:
        document = msgspec.json.decode(run.read(), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{run.name}: is not a JSON document: {error}") from None
    write_report(document, Path(out), "--out")
    click.echo(f"written to {out}")


def write_report(document: dict[str, object], path: Path, option: str) -> None:
    """Write the page of a run; ConfigError, naming `option`, when it cannot be written."""
    write_page(render(document), path, option)


def without_images(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the pictures, which are for the HTML report."""
    samples = [{**sample, "image": ""} for sample in document["samples"]]
    return {**document, "samples": samples}


def write_page(page: str, path: Path, option: str) -> None:
    """Write a page; ConfigError, naming `option`, when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, option, error) from None


def check_writable(path: Path, option: str) -> None:
    """ConfigError, naming `option`, when the page cannot be written; asked before the minutes that fill it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("a"):
            pass
        if not there:
            path.unlink()  # an empty page would be taken for a report
    except OSError as error:
        raise _unwritable(path, option, error) from None


def _unwritable(path: Path, option: str, error: OSError) -> ConfigError:
    return ConfigError(f"{option} {path}: cannot be written: {error.strerror}; name a file that you may write to")
