"""Benchmarks: each module measures one thing and prints it from `main()`, which returns 1 when its floor is missed."""
