"""Run every benchmark beside this file, one after the other: `python -m benchmarks`."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """The number of benchmarks that missed their floor."""
    missed = 0
    for found in pkgutil.iter_modules(benchmarks.__path__):
        if found.ispkg or found.name == "__main__":
            continue
        module = importlib.import_module(f"benchmarks.{found.name}")
        print(f"== {found.name}", flush=True)
        missed += bool(module.main([]))
    return missed


if __name__ == "__main__":
    sys.exit(main())
