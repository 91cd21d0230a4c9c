"""The explanation of a plan, in words and as a document."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from triscale.cli.plan_text import optimum_text
from triscale.core.figures import count, counted, percent
from triscale.core.plan import Plan
from triscale.policy.optimise.explain import SLO_STEP_S, Explanation, Gain, Limit, SlowestPath, WhatIf

__all__ = ["explain_document", "explain_lines"]

_TIMES = {2.0: "twice", 4.0: "four times", 8.0: "eight times"}
_STEP = f"{SLO_STEP_S * 1000:g} ms"


def explain_document(found: Explanation) -> dict[str, object]:
    """As `--json --explain` prints it, under the key `explain`."""
    slowest = found.slowest
    return {
        "limits": [
            {
                "constraint": limit.constraint,
                "stage": limit.stage or None,
                "used": limit.used,
                "allowed": limit.allowed,
                "bound": "least" if limit.least else "most",
                "factor": limit.factor or None,
                "gain": _gain(limit.gain),
            }
            for limit in found.limits
        ],
        "slowest_path": {
            "variants": dict(slowest.variants),
            "route": list(slowest.route),
            "latency_ms": slowest.latency_s * 1000.0,
            "slo_ms": slowest.slo_s * 1000.0,
            "stage": slowest.stage,
            "stage_ms": slowest.stage_s * 1000.0,
        }
        if slowest
        else None,
        "one_more_core": _what_if(found.one_more_core),
        "longer_slo": {"by_ms": SLO_STEP_S * 1000.0, **_what_if(found.longer_slo)},
        "hardware_until": found.hardware_until,
        "accuracy_until": found.accuracy_until,
        "headroom": found.headroom,
    }


def _what_if(found: WhatIf) -> dict[str, object]:
    return {
        "gain": _gain(found.gain),
        "hardware_until": found.hardware_until,
        "accuracy_until": found.accuracy_until,
    }


def _gain(gain: Gain) -> dict[str, float]:
    return {"served_per_s": gain.served_per_s, "accuracy": gain.accuracy, "cores": gain.cores}


def explain_lines(found: Explanation, plan: Plan, width: int) -> list[str]:
    """The same for people, to be printed below the plan; lines are at most `width` long where words allow it."""
    bought = [
        ("one more core", _bought(found.one_more_core, found, plan, of_cores=True)),
        (f"{_STEP} more SLO", _bought(found.longer_slo, found, plan, of_cores=False)),
    ]
    smaller = f"; the plan is {optimum_text(plan)}, and smaller gains are not shown"
    parts = (
        ("What limits it", _limits(found, plan)),
        ("What a little more would buy" + (smaller if 1e-3 < plan.gap < 1.0 else ""), bought),
        ("How far the demand may grow", _phases(found, plan)),
    )
    return [line for title, rows in parts for line in ("", title, *_aligned(rows, width))]


def _aligned(rows: list[tuple[str, str]], width: int) -> Iterator[str]:
    """Names in one column, texts in another, wrapped inside it."""
    wide = max(len(name) for name, _ in rows)
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(30, width - wide - 4), break_long_words=False, break_on_hyphens=False)
        for index, line in enumerate(wrapped):
            yield f"  {'' if index else name:<{wide}}  {line}"


def _limits(found: Explanation, plan: Plan) -> list[tuple[str, str]]:
    rows = [(_name(limit), _limit(limit, found.slowest, plan)) for limit in found.limits]
    if not rows and plan.mode == "hardware":
        rows = [("nothing but the demand", "no limit that can be loosened would make the plan better")]
    return rows or [("no limit alone", "none, loosened by itself up to eight times, would make the plan better")]


def _name(limit: Limit) -> str:
    names = {"slo": "SLO", "gpus": "GPUs", "replicas": f"replicas of {limit.stage}"}
    return names.get(limit.constraint, limit.constraint)


def _limit(limit: Limit, slowest: SlowestPath | None, plan: Plan) -> str:
    loosened = f"with {_TIMES[limit.factor]} the {_name(limit)}" if limit.factor else "without the limit"
    gains = ", ".join(_gains(limit.gain, plan, of_cores=limit.constraint == "cores"))
    return f"{_use(limit, slowest, plan)}; {loosened}: {gains}"


def _use(limit: Limit, slowest: SlowestPath | None, plan: Plan) -> str:
    used, allowed = limit.used, limit.allowed
    if limit.constraint == "slo":
        if slowest is None:
            return f"no path fits {allowed * 1000:g} ms"
        route = " -> ".join(
            f"{stage}/{variant}" for stage, variant in slowest.variants.items() if stage in slowest.route
        )
        return (
            f"{count(slowest.latency_s * 1000)} of {allowed * 1000:g} ms on the path {route}, "
            f"{count(slowest.stage_s * 1000)} of them at {slowest.stage}"
        )
    if limit.constraint == "memory":
        return f"{used / 2**30:.2f} of {allowed / 2**30:.2f} GB on all nodes together are in use"
    if limit.constraint == "min_accuracy":
        return f"at least {allowed:g}, and {f'the plan has {used:.4g}' if _serves(plan) else 'nothing is served'}"
    if limit.constraint == "replicas":
        asked = f"at least {count(allowed)} are asked for" if limit.least else f"at most {count(allowed)} are allowed"
        return f"{count(used)}, {asked}"
    return f"{count(used)} of {count(allowed)} are in use"


def _serves(plan: Plan) -> bool:
    return plan.served_fraction > 0.0


def _gains(gain: Gain, plan: Plan, *, of_cores: bool) -> Iterator[str]:
    """What is gained, and what is lost for it, in the order of the aims; that more cores are used goes without saying
    where there are more of them. Beside a plan that serves nothing everything is gained.
    """
    if not _serves(plan) and gain.better:
        what = f"{count(gain.served_per_s)} requests/s" if gain.served_per_s else "requests"
        on = "" if of_cores else f" on {counted(-gain.cores, 'core')}"
        yield f"{what} could be served at all, at {percent(gain.accuracy, 2)} accuracy{on}"
        return
    if gain.served_per_s:
        yield f"{count(abs(gain.served_per_s))} requests/s {'more' if gain.served_per_s > 0 else 'fewer'}"
    if gain.accuracy:
        yield f"accuracy {gain.accuracy * 100:+.2f} points"
    if gain.cores and not (of_cores and gain.cores < 0.0):
        yield f"{counted(abs(gain.cores), 'core')} {'fewer' if gain.cores > 0 else 'more'}"


def _bought(what: WhatIf, found: Explanation, plan: Plan, *, of_cores: bool) -> str:
    """What is gained at this demand, and how much later the modes end."""
    parts = list(_gains(what.gain, plan, of_cores=of_cores)) or [f"nothing at {count(plan.demand)} requests/s"]
    for now, then, who in (
        (found.hardware_until, what.hardware_until, "the most accurate variants carry up to"),
        (found.accuracy_until, what.accuracy_until, "all is carried up to"),
    ):
        # Both were found to a tenth of a percent.
        if abs(then - now) > 3e-3 * max(now, then):
            parts.append(f"{who} {count(then)} instead of {count(now)} requests/s")
    return "; ".join(parts)


def _phases(found: Explanation, plan: Plan) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if found.hardware_until > 0.0:
        rows.append(
            (f"up to {count(found.hardware_until)} requests/s", "hardware: the most accurate variants carry all of it")
        )
    if found.accuracy_until > found.hardware_until:
        rows.append(
            (f"up to {count(found.accuracy_until)} requests/s", "accuracy: faster variants help, all of it is carried")
        )
    if not rows:
        return [("any demand", "overload: not one request can be served in time")]
    rows.append(("beyond", "overload: the rest is shed"))
    if plan.mode != "overload":
        rows.append(("now", f"{count(plan.demand)} requests/s; {count(found.headroom)} more until the mode changes"))
    return rows
