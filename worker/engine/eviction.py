"""Which model gives way on a full device: the one longest without use, weighed by what that brings and costs.

Plain LRU is right where all models cost the same to bring back for each byte that they free. They do not: one that is
kept in host memory is back ten times sooner than one that has to be read from disk again; and one that is larger than
the room needed pays for more than is asked. So a model's idleness counts by the bytes that its leaving frees and that
are needed, for each second that it will take to bring it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

#: Bytes a second that come back from pinned host memory (a PCIe 4.0 bus with 16 lanes), and from files by way of
#: their checks and conversions (a good NVMe disk). Only the ratio matters.
_FROM_HOST, _FROM_DISK = 20e9, 2e9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on the device that may give way."""

    model_id: str
    #: Uses of any model since its own last one.
    idle: int
    #: Bytes that nothing else on the device needs.
    frees: int
    #: Whether host memory will keep them.
    kept: bool

    def worth(self, needed: float) -> float:
        """What its leaving is worth where so many bytes are needed."""
        if not self.frees:
            return 0.0
        back_s = self.frees / (_FROM_HOST if self.kept else _FROM_DISK)
        return self.idle * min(self.frees, needed) / back_s


def first_to_go(candidates: Iterable[Candidate], needed: float = math.inf) -> Candidate:
    """The candidate whose leaving is worth most where `needed` bytes are wanted; of equal ones the longest unused."""
    return max(candidates, key=lambda candidate: (candidate.worth(needed), candidate.idle))
