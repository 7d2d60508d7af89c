"""How much each benchmark does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many workers share how many jobs."""

    workers: int
    jobs: int

    @property
    def patience_s(self) -> float:
        """Ten times as long as rendering takes at 100 ms a job, and a minute."""
        return 60 + self.jobs / self.workers


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
    #: Workers whose models sleep 100 ms a batch.
    fleets: tuple[Fleet, ...]
    #: The model that interactive jobs wait for, how many jobs of low priority wait when one comes, and how many come.
    visited: str
    backlog: int
    visits: int
    #: Pictures rendered in one measurement.
    pictures: int
    #: Jobs of several models.
    mixed: int


FULL = Sizes(
    rounds=5,
    batch=50_000,
    measure_s=3.0,
    short_queue=1_000,
    long_queue=1_000_000,
    calls=200,
    fleets=(Fleet(16, 5_000), Fleet(64, 20_000)),
    visited="synthetic-8",
    backlog=50_000,
    visits=20,
    pictures=80,
    mixed=1_000,
)
QUICK = Sizes(
    rounds=3,
    batch=10_000,
    measure_s=1.0,
    short_queue=1_000,
    long_queue=100_000,
    calls=100,
    fleets=(Fleet(16, 1_600), Fleet(64, 3_200)),
    visited="synthetic-8",
    backlog=50_000,
    visits=6,
    pictures=40,
    mixed=300,
)
#: Enough to see that everything runs; the figures mean nothing.
SMOKE = Sizes(
    rounds=1,
    batch=50,
    measure_s=0.05,
    short_queue=50,
    long_queue=100,
    calls=2,
    fleets=(Fleet(2, 40),),
    visited="synthetic-1",
    backlog=40,
    visits=1,
    pictures=8,
    mixed=8,
)
