"""Comparing two things on a machine that others use as well.

Ours and the peer's are measured in turn, round after round, and each round gives one ratio: what slows the machine down
for a while slows both. The median of the ratios is the result, their range tells how far to trust it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Rounds:
    """What each round measured, in one unit."""

    ours: list[float]
    peer: list[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the ratio of ours to the peer's, or, where there is a limit of its own, on ours."""

    limit: float
    #: Whether more is better: then the limit is the least that will do, else the most.
    at_least: bool
    on_ratio: bool = True

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a target it only explains another line."""

    measure: str
    unit: str
    peer: str
    rounds: Rounds
    target: Target | None = None

    @property
    def ratio(self) -> float:
        return median(self.rounds.ratios)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.target.met_by(self.ratio if self.target.on_ratio else median(self.rounds.ours))


def in_turn(rounds: int, ours: Callable[[], float], peer: Callable[[], float]) -> Rounds:
    """Measure both in every round; each goes first in every other one, lest one always find the machine warmer."""
    measured = Rounds([], [])
    for number in range(rounds):
        steps = [(measured.ours, ours), (measured.peer, peer)]
        for values, measure in steps if number % 2 == 0 else reversed(steps):
            values.append(measure())
    return measured


def median_ms(calls: int, timed: Callable[[], float]) -> float:
    """The median of `timed`, which takes seconds and tells how many, in milliseconds."""
    return 1000 * median(timed() for _ in range(calls))


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long the action takes by a clock."""
    started = clock()
    action()
    return clock() - started
