"""The form of a simulation's JSON, which is promised to stay: `simulate` prints one object of it, `compare` a list."""

from __future__ import annotations

KEYS = [
    "policy",
    "seed",
    "requests",
    "attainment",
    "violations",
    "accuracy",
    "core_seconds",
    "mean_cores",
    "latency_ms",
    "simulated_s",
    "wall_s",
    "items",
]
