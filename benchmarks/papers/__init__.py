"""Both papers' headline experiments, and those that join them, simulated: `python -m benchmarks.papers`."""
