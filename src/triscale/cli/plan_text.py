"""A plan for people: one row per variant, and what it comes to."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from triscale.core.figures import NOTHING, count, counted, percent
from triscale.core.plan import Plan

__all__ = ["accuracy_text", "optimum_text", "plan_table", "print_plan"]

_PROVEN = 1e-6
"""A smaller distance to the optimum comes from rounding inside the searches."""


def plan_table(title: str, *columns: str) -> Table:
    """An empty table: the first column to the left, figures to the right."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def accuracy_text(found: Plan) -> str:
    """`86.15 %`; a dash where nothing is served, of which there is no accuracy."""
    return percent(found.accuracy, 2) if found.served_fraction > 0.0 else NOTHING


def optimum_text(found: Plan) -> str:
    """How good the plan is beside the best that there could be, as far as that is known; empty where it is not."""
    if found.gap >= 1.0 or found.solver == "shared":
        return ""
    if found.gap > _PROVEN:
        return f"at most {percent(found.gap, 2)} from the optimum"
    # The dynamic program looks at no mixes; the most accurate variants alone need none.
    alone = found.solver == "dp" and found.mode != "hardware"
    return "the best with one variant per stage" if alone else "proven optimal"


def print_plan(name: str, slo_ms: float, found: Plan) -> None:
    """Print the plan: its variants, its cores and accuracy, and why."""
    console = Console()
    title = f"{name}: {count(found.demand)} requests/s within {slo_ms:g} ms"
    if found.served_fraction > 0.0:
        console.print(_variants(title, found))
        how = [found.solver, f"{found.solve_s * 1000:.1f} ms", optimum_text(found)]
        told = f" ({', '.join(part for part in how if part)})"
    else:
        console.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
        told = ""
    shed = "" if found.served_fraction >= 1.0 else f"; {percent(1.0 - found.served_fraction)} of the demand is shed"
    console.print(
        f"{counted(found.cores, 'core')}, accuracy {accuracy_text(found)}{shed}{told}\n{found.reason}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _variants(title: str, found: Plan) -> Table:
    # A replica each is the common case, and goes without saying.
    several = any(variant.replicas > 1 for chosen in found.stages.values() for variant in chosen.variants.values())
    columns = ["stage/variant", "share", *(["replicas"] if several else []), "lanes", "batch", "busy"]
    table = plan_table(title, *columns, "run ms", "wait ms")
    for stage, chosen in found.stages.items():
        for own, variant in chosen.variants.items():
            if variant.share > 0.0:
                table.add_row(
                    f"{stage}/{own}",
                    percent(variant.share, 0),
                    *([count(variant.replicas)] if several else []),
                    f"{variant.lanes} x {variant.threads}",
                    str(variant.batch),
                    # Predicted to a tenth of a percent at most; a plan for no demand is made for hardly any.
                    percent(round(variant.utilisation, 3), 0),
                    f"{variant.latency_s * 1000:.1f}",
                    f"{variant.wait_s * 1000:.1f}",
                )
    return table
