"""What benchmarks share: a load generator, processes under measurement, servers to compare."""
