"""How much each benchmark does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int
    #: Jobs accepted in one round.
    batch: int
    #: How long the peer of a batch, and each front door, are measured in one round, in seconds.
    measure_s: float
    #: Jobs in the short queue and in the long one.
    short_queue: int
    long_queue: int
    #: Timed calls in one round, where one call is timed by itself.
    calls: int


FULL = Sizes(rounds=5, batch=50_000, measure_s=3.0, short_queue=1_000, long_queue=1_000_000, calls=200)
QUICK = Sizes(rounds=3, batch=10_000, measure_s=1.0, short_queue=1_000, long_queue=100_000, calls=100)
#: Enough to see that everything runs; the figures mean nothing.
SMOKE = Sizes(rounds=1, batch=50, measure_s=0.05, short_queue=50, long_queue=100, calls=2)
