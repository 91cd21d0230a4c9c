"""Run the papers' experiments and print what they come to.

    python -m benchmarks.papers [--experiments themis,loki,...] [--seeds N] [--jobs N] [--quick] [--write]

`--write` puts the tables into docs/results.md, between the markers of each experiment; what stands around them stays.
`--quick` is a rehearsal: one seed, every trace in a tenth of its time; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.papers.ablation import ablation
from benchmarks.papers.experiment import Lab
from benchmarks.papers.joint import joint
from benchmarks.papers.loki import loki
from benchmarks.papers.motivation import motivation
from benchmarks.papers.report import PAGE, printed, written
from benchmarks.papers.section import Section
from benchmarks.papers.sweeps import sweeps
from benchmarks.papers.themis import themis
from triscale.engines.machine import usable_cores

EXPERIMENTS: Mapping[str, Callable[[Lab], Section]] = {
    "themis": themis,
    "motivation": motivation,
    "loki": loki,
    "ablation": ablation,
    "joint": joint,
    "sweeps": sweeps,
}
_QUICK = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Always 0: a claim that does not hold is a finding."""
    args = _arguments(argv)
    began = time.monotonic()
    with Lab(args.jobs, args.seeds, _QUICK if args.quick else 1.0, tell=True) as lab:
        sections = lab.together([EXPERIMENTS[name] for name in args.experiments])
    for section in sections:
        print(f"\n{printed(section, args.seeds)}")
    print(f"\n{time.monotonic() - began:.0f} s in {args.jobs} processes", file=sys.stderr)
    if args.write:
        PAGE.write_text(written(PAGE.read_text(), sections, args.seeds))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.papers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", type=_names, default=list(EXPERIMENTS), help=f"some of {','.join(EXPERIMENTS)}; all by default"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of everything, on other arrivals each; 3")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes; as many as cores")
    parser.add_argument("--quick", action="store_true", help="a rehearsal of a minute or two")
    parser.add_argument("--write", action="store_true", help="into docs/results.md")
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds and --jobs are 1 or more")
    if args.quick:
        if args.write:
            parser.error("--quick is a rehearsal, and its figures do not belong on the page; leave out one of the two")
        args.seeds = 1
    return args


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
