"""What the verbs of the scheduler answer, and what a worker reports to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from shared.jobs import JobStatus, Lease, Stage
from shared.limits import Standing


class Renewal(StrEnum):
    """What a worker learns of a lease when it renews it."""

    HELD = "held"
    #: The owner called the job off: stop, then `abandon`.
    CANCELED = "canceled"
    #: The lease ended: stop and drop everything.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker reports of a job when it renews its lease; `progress` runs from 0 to 1."""

    stage: Stage
    progress: float


@dataclass(frozen=True, slots=True)
class Position:
    """Where a queued job stands: jobs expected to be served before it, and seconds until it is done.

    Nobody knows the latter before a first job of the model was measured.
    """

    ahead: int
    eta_s: float | None

    @classmethod
    def from_answer(cls, answer: Sequence[str]) -> Self | None:
        """As `position.lua` tells it; None for a job that waits in no queue."""
        ahead, eta_ms = int(answer[0]), int(answer[-1])
        return None if ahead < 0 else cls(ahead=ahead, eta_s=None if eta_ms < 0 else round(eta_ms / 1000, 1))


@dataclass(frozen=True, slots=True)
class Placement:
    """How things stood when a job came to its queue."""

    #: Unix seconds of Redis's clock.
    created_at: float
    #: Jobs of its model that could be claimed, itself among them, and the tickets that lay for them.
    queued: int
    tickets: int
    position: Position

    @classmethod
    def from_answer(cls, created_ms: str, queued: str, tickets: str, *standing: str) -> Self:
        """As `enqueue.lua` tells it."""
        position = Position.from_answer(standing)
        assert position is not None, "it was queued by the same script"
        return cls(int(created_ms) / 1000, int(queued), int(tickets), position)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that a request led to; `replayed` where an earlier request with its key had made it."""

    id: str
    replayed: bool
    #: Where the account stands with its limits now; None after a replay, which counts against none.
    standing: Standing | None
    #: None where an earlier call made the job, be it one of ours whose answer was lost.
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A batch, or what was added to one."""

    model: str
    leases: list[Lease]
    #: Images that could still join the batch.
    room: int
    #: Jobs of the model that could be claimed next, and the tickets that lie for them.
    queued: int
    tickets: int
    #: Whether others of the models that were asked for have jobs that could be claimed.
    elsewhere: bool

    @property
    def leaves_work(self) -> bool:
        """Whether the worker that made the claim will find more to do."""
        return self.queued > 0 or self.elsewhere


@dataclass(frozen=True, slots=True)
class Aftermath:
    """How a job stands after a verb that may end it, or its attempt, and what that leaves to be done."""

    status: JobStatus
    #: Jobs of its model that could be claimed now, and the tickets that lie for them.
    queued: int
    tickets: int
    #: Whether it was the last of its batch, which is due to be finalized.
    ends_batch: bool
    #: Seconds by which it succeeded later than its owner was told at first; None where nobody asked while it waited.
    late_s: float | None

    @classmethod
    def from_answer(cls, answer: Sequence[str]) -> Self | None:
        """As the scripts tell it; None where the lease was lost."""
        if answer[0] == "lost":
            return None
        status, queued, tickets, ends_batch, late_ms = answer
        return cls(
            status=JobStatus(status),
            queued=int(queued),
            tickets=int(tickets),
            ends_batch=bool(int(ends_batch)),
            late_s=int(late_ms) / 1000 if late_ms else None,
        )


@dataclass(frozen=True, slots=True)
class Swept:
    leases_ended: int
    retries: int
    expired: int
