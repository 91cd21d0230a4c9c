"""Run the papers' experiments for real, and the simulation of the very same arrivals beside them.

    python -m benchmarks.live [--case video|traffic] [--policies triscale,...] [--start S] [--seconds S]
                              [--dilation K] [--seed N] [--write]

Real are the server process with its autoscaler, the replicas as processes, their sockets, launches, resizes, drains,
and the load generator, a process of its own. The replicas sleep as long as the profile says (the `emulated` runtime),
all on this machine. `--dilation` lets all clocks go slower, so that a small machine keeps up. `--write` puts the tables
into docs/live.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.live.cases import CASES, experiment, sliced
from benchmarks.live.run import Pair, live_and_simulated
from benchmarks.live.tables import agreement, gains, heading, overheads, side_by_side
from triscale.errors import TriscaleError

PAGE = Path(__file__).parents[2] / "docs" / "live.md"


def main(argv: Sequence[str] | None = None) -> int:
    """1 where a run could not be made; 0 else, whatever it found."""
    args = _arguments(argv)
    for name in [args.case] if args.case else list(CASES):
        found = sliced(experiment(name), args.start, args.seconds, args.dilation)
        print(f"\n{heading(name, found)}\n", flush=True)
        pairs: list[Pair] = []
        for policy in args.policies or found.policies:
            print(f"{name}: {policy} ...", file=sys.stderr, flush=True)
            try:
                pairs.append(asyncio.run(live_and_simulated(name, found, policy, args.seed)))
            except TriscaleError as error:
                print(f"{name}: {policy}: {error}", file=sys.stderr)
                return 1
        text = "\n\n".join(filter(None, (side_by_side(pairs), gains(pairs), overheads(pairs), agreement(pairs))))
        print(text, flush=True)
        if args.write:
            _write(name, f"{heading(name, found)}\n\n{text}")
    return 0


def _write(name: str, text: str) -> None:
    """Put it into the page, between the case's markers; what stands around them stays."""
    page = PAGE.read_text()
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    if not after and end not in rest:
        raise SystemExit(f"{PAGE}: has no lines {begin.strip()!r} and {end.strip()!r} to write between; add them")
    PAGE.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(CASES), help="both by default")
    parser.add_argument("--policies", type=_policies, help="separated by commas; by default those of the case's paper")
    parser.add_argument("--start", type=float, help="second of the trace at which the slice begins")
    parser.add_argument("--seconds", type=float, help="length of the slice")
    parser.add_argument("--dilation", type=float, help="how many times slower than life; 1 = not")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals; 0")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/live.md")
    args = parser.parse_args(argv)
    if args.dilation is not None and args.dilation < 1.0:
        parser.error("--dilation is 1 or more: time cannot go faster than it does")
    if args.seconds is not None and args.seconds < 1.0:
        parser.error("--seconds is 1 or more")
    return args


def _policies(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
