"""A plan for people: one row per variant, and what it comes to."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from triscale.core.plan import Plan

__all__ = ["plan_table", "print_plan"]


def plan_table(title: str, *columns: str) -> Table:
    """An empty table: the first column to the left, figures to the right."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def print_plan(name: str, slo_ms: float, found: Plan) -> None:
    """Print the plan: its variants, its cores and accuracy, and why."""
    title = f"{name}: {found.demand:g} requests/s within {slo_ms:g} ms"
    # A replica each is the common case, and goes without saying.
    several = any(variant.replicas > 1 for chosen in found.stages.values() for variant in chosen.variants.values())
    columns = ["stage/variant", "share", *(["replicas"] if several else []), "lanes", "batch", "busy"]
    table = plan_table(title, *columns, "run ms", "wait ms")
    for stage, chosen in found.stages.items():
        for own, variant in chosen.variants.items():
            if variant.share > 0.0:
                table.add_row(
                    f"{stage}/{own}",
                    f"{variant.share:.0%}",
                    *([str(variant.replicas)] if several else []),
                    f"{variant.lanes} x {variant.threads}",
                    str(variant.batch),
                    f"{variant.utilisation:.0%}",
                    f"{variant.latency_s * 1000:.1f}",
                    f"{variant.wait_s * 1000:.1f}",
                )
    console = Console()
    console.print(table)
    shed = "" if found.served_fraction >= 1.0 else f"; {1.0 - found.served_fraction:.1%} of the demand is shed"
    console.print(
        f"{found.cores:g} cores, accuracy {found.accuracy:.2%}{shed} "
        f"({found.solver}, {found.solve_s * 1000:.1f} ms, proven to {found.gap:.2%})\n{found.reason}",
        highlight=False,
        soft_wrap=True,
    )
