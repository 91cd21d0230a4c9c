"""The simulator: the server's own `dispatch` and `policy` objects under a virtual clock, on a simulated engine."""
