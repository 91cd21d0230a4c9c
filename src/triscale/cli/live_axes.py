"""The three axes of a server at one moment, in a few lines: cores up, replicas out, and the accuracy there is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.text import Text

from triscale.cli.status_text import MODE_STYLES, decision_rows, mixes
from triscale.observe.status import Status
from triscale.observe.wording import count, percent

__all__ = ["axes_lines", "axes_words"]

_DECISIONS = 3
_BLOCKS = 16
_AXIS_STYLES = (("start", "bright_black"), ("up", "cyan"), ("out", "magenta"))


def axes_lines(status: Status) -> list[Text]:
    """Cores, replicas, accuracy, the mix of variants of each stage, and the latest decisions, newest first."""
    return [
        _line("up", *_cores(status)),
        _line("out", _replicas(status)),
        _line("accuracy", *_accuracy(status)),
        Text(""),
        *mixes(status),
        Text(""),
        *decision_rows(status.decisions[-_DECISIONS:]),
    ]


def axes_words(status: Status) -> str:
    """The same for a log: one clause for each axis."""
    cores = f"{count(status.cores.held)} of {count(status.cores.total)} cores"
    return f"{cores}, {_replicas(status)}, {_expected(status)} expected accuracy ({status.plan.mode})"


def _cores(status: Status) -> list[str | tuple[str, str]]:
    """A bar of the cores held, by how they came, and what they do."""
    cores = status.cores
    blocks = _blocks([getattr(cores, axis) for axis, _ in _AXIS_STYLES], max(cores.total, cores.held, 1.0))
    bar: list[str | tuple[str, str]] = [
        ("█" * size, style) for size, (_, style) in zip(blocks, _AXIS_STYLES, strict=True)
    ]
    bar.append(("░" * (_BLOCKS - sum(blocks)), "bright_black"))
    busy = sum(stage.busy_cores for stage in status.stages)
    grown = [f"{count(amount)} {axis}" for axis, amount in (("up", cores.up), ("out", cores.out)) if amount]
    how = f" ({', '.join(grown)})" if grown else ""
    return [*bar, f"  {count(cores.held)} of {count(cores.total)} cores held{how}, {busy:.1f} at work"]


def _blocks(parts: Sequence[float], whole: float) -> list[int]:
    """How many blocks of the bar each part is; rounded at its ends, so that the sum is right."""
    ends = [min(_BLOCKS, round(_BLOCKS * end / whole)) for end in itertools.accumulate(parts, initial=0.0)]
    return [end - start for start, end in itertools.pairwise(ends)]


def _replicas(status: Status) -> str:
    phases = {phase: sum(stage.replicas.get(phase, 0) for stage in status.stages) for phase in ("starting", "draining")}
    ready = sum(stage.replicas.get("ready", 0) for stage in status.stages)
    others = "".join(f" + {number} {phase}" for phase, number in phases.items() if number)
    return f"{ready} replica{'' if ready == 1 else 's'}{others}"


def _accuracy(status: Status) -> list[str | tuple[str, str]]:
    plan = status.plan
    shed = f", {percent(1.0 - plan.served_fraction)} to be refused" if plan.served_fraction < 1.0 else ""
    return [
        f"{_expected(status)} of what is answered; ",
        (plan.mode, MODE_STYLES.get(plan.mode, "")),
        f" plan: {percent(plan.accuracy)}{shed}",
    ]


def _expected(status: Status) -> str:
    """Of the last seconds' answers; of the plan while there are none."""
    recent = status.windows[0].accuracy
    return percent(status.plan.accuracy if recent is None else recent)


def _line(name: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{name:<10}", "bright_black"), *parts)
