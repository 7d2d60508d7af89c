"""Batches: many jobs handed in as one file.

A batch is a record with a cursor. Whoever claims it (`shared/batch_claims.py`) goes on where the record says. The id of
each job follows from the batch and its line: what is enqueued a second time is known already, and no list of the jobs
is needed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self, cast

from redis import Redis

from shared.errors import RendermillError, idempotency_mismatch
from shared.ids import derived_id, new_id
from shared.jobs import Priority
from shared.pages import newest_ids
from shared.redis_client import PREFIX, Script, now_ms

#: The OpenAI API's limit.
MAX_LINES = 50_000
#: How the fields of the record begin that tell of chunks with refused lines.
REFUSALS = "refusals_"


class BatchStatus(StrEnum):
    """The statuses of the OpenAI API."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
#: The moments that a Batch object tells.
_MOMENTS = (
    *("in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
    *("cancelling_at", "cancelled_at"),
)


def job_id(batch_id: str, line: int) -> str:
    """The id of the job of a line; lines are counted from 1."""
    return derived_id("job", f"{batch_id}:{line}")


def request_id(job_id_: str) -> str:
    """The id of a line's entry in the output and error files."""
    return job_id_.replace("job_", "batch_req_", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as Redis knows it. Times are Unix seconds."""

    id: str
    account: str
    input_file: str
    endpoint: str
    window: str
    priority: Priority
    metadata: dict[str, str] | None
    status: BatchStatus
    created_at: float
    expires_at: float
    moments: dict[str, float]
    #: Bytes and lines of the input that were read.
    offset: int
    line: int
    #: Lines that are not blank, those of them that became no job, and jobs that are not finished.
    total: int
    bad: int
    open: int
    #: Whether no more jobs will come.
    ingested: bool
    #: The limit that stood against its next lines when they were last tried, as {code, message}.
    held_up: dict[str, str] | None
    #: Of each chunk of lines that had refused ones, the last line before it and the fence of the claim that read it.
    refusals: dict[int, int]
    #: Jobs by the status in which they ended.
    ended: dict[str, int]
    output_file: str | None
    error_file: str | None
    errors: list[dict[str, Any]]

    @classmethod
    def from_record(cls, id_: str, record: dict[str, str]) -> Self:
        return cls(
            id=id_,
            account=record["account"],
            input_file=record["file"],
            endpoint=record["endpoint"],
            window=record["window"],
            priority=Priority(record["priority"]),
            metadata=json.loads(record["metadata"]),
            status=BatchStatus(record["status"]),
            created_at=int(record["created"]) / 1000,
            expires_at=int(record["expires"]) / 1000,
            moments={name: int(record[name]) / 1000 for name in _MOMENTS if name in record},
            offset=int(record["offset"]),
            line=int(record["line"]),
            total=int(record["total"]),
            bad=int(record["bad"]),
            open=int(record["open"]),
            ingested="ingested" in record,
            held_up=json.loads(record["held_up"]) if record.get("held_up") else None,
            refusals={
                int(name.removeprefix(REFUSALS)): int(fence)
                for name, fence in record.items()
                if name.startswith(REFUSALS)
            },
            ended={
                name.removeprefix("jobs_"): int(count) for name, count in record.items() if name.startswith("jobs_")
            },
            output_file=record.get("output_file"),
            error_file=record.get("error_file"),
            errors=json.loads(record.get("errors", "[]")),
        )

    def read_up_to(self, offset: int, line: int, bad: int) -> Self:
        """The batch with its cursor behind further lines, `bad` of which became no job."""
        return replace(self, offset=offset, line=line, bad=self.bad + bad)

    @property
    def finished(self) -> int:
        """Jobs that have ended."""
        return sum(self.ended.values())

    @property
    def ended_at(self) -> float | None:
        return self.moments.get(f"{self.status}_at") if self.status.is_terminal else None

    @property
    def folder(self) -> str:
        """Where in S3 it keeps what it needs on its way."""
        return f"batches/{self.id}/"

    @property
    def manifest_key(self) -> str:
        """Where the manifest is once it is finished."""
        return f"{self.folder}manifest.csv"

    def view(self) -> dict[str, Any]:
        """The Batch object of the OpenAI API, with its priority and what holds it up."""
        completed = self.ended.get("succeeded", 0)
        not_completed = self.bad + self.finished - completed
        failed = self.total - completed if self.status.is_terminal else not_completed
        moments = {**self.moments, "expires_at": self.expires_at}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file,
            "completion_window": self.window,
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": int(self.created_at),
            **{name: int(moments[name]) if name in moments else None for name in _MOMENTS},
            "request_counts": {"total": self.total, "completed": completed, "failed": failed},
            "metadata": self.metadata,
            "priority": self.priority,
            "held_up": self.held_up if self.status is BatchStatus.IN_PROGRESS else None,
        }


class Batches:
    """The records of batches. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._create = Script(redis, "create_batch", prefix, uses=["_idempotency"])
        self._cancel = Script(redis, "cancel_batch", prefix)

    # What the front door does

    def create(
        self,
        account: str,
        *,
        input_file: str,
        endpoint: str,
        window: str,
        window_s: float,
        priority: Priority,
        metadata: dict[str, str] | None,
        key: str = "",
        fingerprint: str = "",
        remember_s: float = 0.0,
        anew: bool = False,
    ) -> tuple[str, bool]:
        """Accept a batch, unless the account used the idempotency `key` before; its id, and whether it was known.

        With `anew` an earlier use of the key is forgotten instead.

        Raises RendermillError `idempotency_mismatch` where the key was used with another fingerprint, and `not_found`
        where the account has no such file for batches.
        """
        fields = {"endpoint": endpoint, "window": window, "priority": priority.value, "metadata": json.dumps(metadata)}
        flat = [text for pair in fields.items() for text in pair]
        window_ms, remember_ms = round(window_s * 1000), round(remember_s * 1000)
        once = (key, fingerprint, remember_ms, "1" if anew else "")
        answer = self._create(new_id("batch"), account, input_file, window_ms, *once, *flat)
        match answer[0]:
            case "mismatch":
                raise idempotency_mismatch()
            case "no_file":
                raise RendermillError(
                    "not_found", f"There is no file {input_file} with the purpose batch; upload one first."
                )
        return str(answer[1]), answer[0] == "replayed"

    def read(self, batch_id: str) -> Batch | None:
        record = cast(dict[str, str], self._redis.hgetall(f"{self._prefix}batch:{batch_id}"))
        return Batch.from_record(batch_id, record) if "status" in record else None

    def get(self, batch_id: str, account: str | None = None) -> Batch:
        """The batch. Raises RendermillError `not_found`, also for another account's."""
        batch = self.read(batch_id)
        if batch is None or account not in (None, batch.account):
            raise RendermillError("not_found", f"There is no batch {batch_id}.")
        return batch

    def page(self, account: str, *, limit: int, after: str | None) -> tuple[list[Batch], bool]:
        """Up to `limit` batches, newest first, after the batch `after`; and whether there are more.

        Raises RendermillError `bad_request` where `after` is not one of them.
        """
        index = f"{self._prefix}batches:{account}"
        ids, has_more = newest_ids(self._redis, index, limit=limit, after=after, kind="batches")
        found = [batch for id_ in ids if (batch := self.read(id_))]
        return found, has_more

    def finished_jobs(self, batch_id: str, *, limit: int, after: int) -> tuple[list[str], bool]:
        """Up to `limit` ids of its jobs in the order in which they ended, without the first `after`; any more?"""
        name = f"{self._prefix}batch_finished:{batch_id}"
        ids = cast(list[str], self._redis.lrange(name, after, after + limit))
        return ids[:limit], len(ids) > limit

    def cancel(self, batch_id: str, account: str) -> None:
        """Call a batch off. Raises RendermillError `not_found`, and `conflict` where it is too late."""
        status = self._cancel(batch_id, account)
        if status == "unknown":
            raise RendermillError("not_found", f"There is no batch {batch_id}.")
        if status not in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING):
            raise RendermillError("conflict", f"The batch is {status} already; it cannot be cancelled any more.")

    # What upkeep does

    def due(self) -> int:
        """How many batches are due for work."""
        return self._redis.zcount(self._prefix + "batches_due", "-inf", now_ms(self._redis))

    def finished_before(self, unix_s: float, limit: int) -> list[str]:
        """Ids of batches that ended before that time, the oldest first."""
        index = self._prefix + "retained_batches"
        return cast(list[str], self._redis.zrangebyscore(index, "-inf", unix_s * 1000, 0, limit))

    def forget(self, batch_id: str) -> None:
        """Remove the record of a finished batch."""
        account = cast(str | None, self._redis.hget(f"{self._prefix}batch:{batch_id}", "account"))
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(f"{self._prefix}batch:{batch_id}", f"{self._prefix}batch_finished:{batch_id}")
        pipeline.zrem(f"{self._prefix}batches:{account}", batch_id)
        pipeline.zrem(self._prefix + "retained_batches", batch_id)
        pipeline.execute()


def left_s(batch: Batch) -> float:
    """Seconds until what has not begun expires; at most 0 where that was before."""
    return batch.expires_at - time.time()
