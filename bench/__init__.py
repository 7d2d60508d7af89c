"""Benchmarks: what Rendermill does per second, each beside a peer in the same run."""
