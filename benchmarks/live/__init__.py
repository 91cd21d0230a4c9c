"""The papers' experiments for real, beside their simulation: `python -m benchmarks.live`."""
