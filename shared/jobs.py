"""What a job is: its states, the moves between them, and the record that everybody reads.

The scheduler's Lua scripts receive `TRANSITIONS` and `Priority` weights from here, so there is one table for both
languages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from shared.requests import RenderRequest


class JobStatus(StrEnum):
    #: Accepted; waits for a worker.
    QUEUED = "queued"
    #: A worker holds a lease on it.
    RUNNING = "running"
    #: Its pictures are stored.
    SUCCEEDED = "succeeded"
    #: It ended without pictures; `error` says why.
    FAILED = "failed"
    #: Its owner called it off.
    CANCELED = "canceled"
    #: Its deadline passed before a worker began.
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]


#: Every move a job can make. A status without moves is terminal and never changes.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELED, JobStatus.EXPIRED}),
    JobStatus.RUNNING: frozenset({JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset(),
    JobStatus.EXPIRED: frozenset(),
}


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


#: A priority is a weight in the fair queue: each step is four times the share of the next, so that high work
#: passes a backlog within a batch or two while low work still moves, and none ever starves.
PRIORITY_WEIGHTS = {Priority.HIGH: 4.0, Priority.NORMAL: 1.0, Priority.LOW: 0.25}

#: The webhook event of each terminal status.
WEBHOOK_EVENTS = {
    JobStatus.SUCCEEDED: "job.succeeded",
    JobStatus.FAILED: "job.failed",
    JobStatus.CANCELED: "job.canceled",
    JobStatus.EXPIRED: "job.expired",
}


class Stage(StrEnum):
    """Where a job is, in finer steps than its status."""

    WAITING = "waiting"
    #: A mendable failure is to be tried again after a pause.
    RETRYING = "retrying"
    LOADING = "loading"
    RENDERING = "rendering"
    STORING = "storing"
    CANCELING = "canceling"
    DONE = "done"


#: The least predicted cost of a job, in seconds: large enough that adding it to the tags of years still counts.
MIN_COST_S = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job about to be accepted."""

    id: str
    account: str
    request: RenderRequest
    cost: float
    #: Millionths of a credit.
    price: int = 0
    priority: Priority = Priority.NORMAL
    name: str | None = None
    webhook_url: str | None = None
    webhook_events: tuple[str, ...] = tuple(WEBHOOK_EVENTS.values())
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    #: Seconds from now after which it must not start.
    deadline_s: float | None = None
    #: What its line is called in its batch.
    custom_id: str | None = None

    def __post_init__(self) -> None:
        # Tags advance by cost: one that is not positive would let its account take everything.
        if not MIN_COST_S <= self.cost < math.inf:
            raise ValueError(f"the cost of {self.id} must be at least {MIN_COST_S} s and finite, not {self.cost}")

    def spec(self) -> dict[str, Any]:
        """The part of the record that never changes, for JSON."""
        parts = {
            "request": self.request.to_dict(),
            "name": self.name,
            "webhook_url": self.webhook_url,
            "metadata": dict(self.metadata),
            "warnings": self.warnings,
            "deadline_s": self.deadline_s,
            "custom_id": self.custom_id,
        }
        return {key: value for key, value in parts.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as Redis knows it. Times are Unix seconds of Redis's own clock."""

    id: str
    account: str
    status: JobStatus
    stage: Stage
    progress: float
    priority: Priority
    request: RenderRequest
    cost: float
    #: Millionths of a credit that are reserved for it, or charged; 0 once they are given back.
    price: int
    #: Times a worker claimed it, those given back unharmed left out.
    attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    name: str | None
    webhook_url: str | None
    #: What the `webhook_url` is told of.
    webhook_events: list[str]
    metadata: dict[str, Any]
    warnings: list[str]
    deadline_s: float | None
    #: The batch that it belongs to, and what its line is called there.
    batch: str | None
    custom_id: str | None
    #: The finished pictures' image ids.
    images: list[str]
    #: `{code, message}` of a failed job.
    error: dict[str, str] | None
    #: Seconds: `queued_s`, `load_s`, `render_s`, `store_s`.
    timings: dict[str, float]
    #: Of a succeeded job, what made its pictures besides its request: `revisions`, `device`, `dtype`, `versions`.
    provenance: dict[str, Any] | None

    @classmethod
    def accepted(cls, new: NewJob, created_at: float) -> Self:
        """The job, of no batch, as its record says that was accepted at this moment and that nobody has touched."""
        return cls(
            id=new.id,
            account=new.account,
            status=JobStatus.QUEUED,
            stage=Stage.WAITING,
            progress=0.0,
            priority=new.priority,
            request=new.request,
            cost=new.cost,
            price=new.price,
            attempts=0,
            created_at=created_at,
            started_at=None,
            finished_at=None,
            name=new.name,
            webhook_url=new.webhook_url,
            webhook_events=list(new.webhook_events) if new.webhook_url else [],
            metadata=dict(new.metadata),
            warnings=list(new.warnings),
            deadline_s=new.deadline_s,
            batch=None,
            custom_id=None,
            images=[],
            error=None,
            timings={},
            provenance=None,
        )

    @classmethod
    def from_record(
        cls, id_: str, state: Mapping[str, str], spec: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Self:
        """The job of a `job:`, a `spec:` and a `result:` record."""

        def seconds(name: str) -> float | None:
            return int(state[name]) / 1000 if name in state else None

        timings: dict[str, float] = dict(result.get("timings", {}))
        if "started" in state:
            timings.setdefault("queued_s", round((int(state["started"]) - int(state["created"])) / 1000, 3))
        return cls(
            id=id_,
            account=state["account"],
            status=JobStatus(state["status"]),
            stage=Stage(state["stage"]),
            progress=float(state.get("progress", 0)),
            priority=Priority(state["priority"]),
            request=RenderRequest.from_dict(spec["request"]),
            cost=float(state["cost"]),
            price=int(state.get("price", 0)),
            attempts=int(state.get("attempt", 0)) - int(state.get("releases", 0)),
            created_at=int(state["created"]) / 1000,
            started_at=seconds("started"),
            finished_at=seconds("finished"),
            name=spec.get("name"),
            webhook_url=spec.get("webhook_url"),
            webhook_events=state["hooks"].split(",") if state.get("hooks") else [],
            metadata=spec.get("metadata", {}),
            warnings=spec.get("warnings", []) + result.get("warnings", []),
            deadline_s=spec.get("deadline_s"),
            batch=state.get("batch"),
            custom_id=spec.get("custom_id"),
            images=result.get("images", []),
            error=result.get("error"),
            timings=timings,
            provenance=result.get("provenance") or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's claim on a job. `attempt` is the fencing token: every write of the worker carries it."""

    id: str
    attempt: int
    account: str
    name: str | None
    request: RenderRequest
    cost: float
    #: Seconds the job has waited, for its timings.
    queued_s: float
