"""Warnings for people: one line each on standard error, so that what a command prints stays what was asked for."""

from __future__ import annotations

from collections.abc import Iterable

import click

__all__ = ["warn"]


def warn(warnings: Iterable[str]) -> None:
    """Print them."""
    for warning in warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
