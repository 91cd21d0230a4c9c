"""Just enough PromQL to see what an expression refers to; promtool knows the rest, where it is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["misuses"]

_SELECTOR = re.compile(r"\b((?:pipeline:)?triscale_\w+(?::\w+)*)\s*(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
_RECORDED = re.compile(r"^pipeline:")
_QUANTILE = re.compile(r"histogram_quantile\(\s*[\d.]+\s*,\s*sum by \(le\b[^)]*\) \((?:rate\()?(\w+)")


def misuses(expression: str, series: Mapping[str, frozenset[str]], recorded: frozenset[str]) -> list[str]:
    """What the expression says that no server exposes, in words."""
    problems = []
    known: set[str] = set()
    for name, matchers in _SELECTOR.findall(expression):
        if _RECORDED.match(name):
            known.add("pipeline")
            if name not in recorded:
                problems.append(f"{name} is not recorded")
            continue
        labels = series.get(name)
        if labels is None:
            problems.append(f"{name} is not exposed")
            continue
        known |= labels
        used = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)
        problems += [f"{name} has no label {label}" for label in used if label not in labels]
    if not known and not problems:
        problems.append("it refers to no metric of triscale's")
    for grouping in _GROUPING.findall(expression):
        problems += [
            f"nothing in it has a label {label}" for label in re.findall(r"\w+", grouping) if label not in known
        ]
    quantiles = _QUANTILE.findall(expression)
    if len(quantiles) != expression.count("histogram_quantile"):
        problems.append("histogram_quantile needs `sum by (le, ...)` of buckets")
    problems += [f"{name} is not a bucket" for name in quantiles if not name.endswith("_bucket")]
    problems += [
        f"{name} is a counter, and is used without rate() or increase()"
        for name, _ in _SELECTOR.findall(expression)
        if name.endswith("_total") and not re.search(rf"(rate|increase)\(\s*{name}\b", expression)
    ]
    return problems
