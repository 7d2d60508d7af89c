"""Benchmarks: what Rendermill does per second, each beside a peer in the same run."""

import worker.engine  # noqa: F401  Before torch: it says how torch's threads wait, here as in a worker.
