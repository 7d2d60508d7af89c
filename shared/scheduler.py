"""The scheduler: who renders what, and when.

Start-time fair queueing [Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996] over flows, a flow being an account
with a priority. A flow that begins to wait gets the tag `max(virtual time, its own last finish)`; the flow with the
least tag is served, and each job it gets advances its tag by the job's predicted GPU seconds over the flow's weight.
So one account's 50,000 jobs and another's single job interleave, whatever was submitted first.

Tags are given at the claim, not at the enqueue: jobs that are cancelled were never charged for, so calling off a
backlog costs its owner nothing. docs/architecture.md argues the choice and states the bound on unfairness.

Every verb is one Lua script, and so atomic; every change of state and its event are written by the same script.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from shared.errors import RendermillError
from shared.jobs import JobStatus, Lease, NewJob, Stage
from shared.limits import Refused, Standing
from shared.redis_client import PREFIX, Script
from shared.requests import RenderRequest

#: Jobs accepted by one script call: about 10 ms of Redis's time, so that others are served in between.
_ENQUEUE_CHUNK = 500
#: A call's name is remembered for one lease; 96 random bits never meet in that time.
_CALL_NAME_BYTES = 12
#: Jobs of each kind that one sweep repairs.
_SWEEP_LIMIT = 500
#: Flows looked at for the oldest job: those to be served first, so what is left out is not neglected but queued much.
_FLOWS_SEEN = 256


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
class Accepted:
    """The job that a request led to; `replayed` where an earlier request with its key had made it."""

    id: str
    replayed: bool
    #: Where the account stands with its limits now; None after a replay, which counts against none.
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Claim:
    leases: list[Lease]
    #: Jobs of the model that could be claimed next.
    queued: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a queued job stands: jobs expected to be served before it, and seconds until it is done."""

    ahead: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class Swept:
    leases_ended: int
    retries: int
    expired: int


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """A worker's claim on a batch. The fence is new with each claim: every write of the worker carries it."""

    id: str
    fence: int


class BatchLost(Exception):
    """Another worker has the batch: stop and drop everything."""


class Scheduler:
    """Every verb on jobs. Safe to share between threads."""

    def __init__(
        self,
        redis: Redis,
        *,
        lease_s: float,
        max_attempts: int,
        retry_delay_s: float,
        max_queued: int = 0,
        prefix: str = PREFIX,
    ) -> None:
        """`max_queued` bounds the jobs that wait in the whole farm; 0 for no bound."""
        self._max_queued = max_queued
        self._redis = redis
        self._prefix = prefix
        self._lease_ms = round(lease_s * 1000)
        self._max_attempts = max_attempts
        self._retry_ms = round(retry_delay_s * 1000)
        self._enqueue = Script(redis, "enqueue", prefix)
        self._claim = Script(redis, "claim", prefix)
        self._renew = Script(redis, "renew", prefix)
        self._complete = Script(redis, "complete", prefix)
        self._fail = Script(redis, "fail", prefix)
        self._release = Script(redis, "release", prefix)
        self._abandon = Script(redis, "abandon", prefix)
        self._cancel = Script(redis, "cancel", prefix)
        self._expire = Script(redis, "expire", prefix)
        self._sweep = Script(redis, "sweep", prefix)
        self._position = Script(redis, "position", prefix)

    # What the front door does

    def enqueue(self, account: str, jobs: Sequence[NewJob], batch: BatchClaim | None = None) -> None:
        """Accept jobs of one account. Any number of them; repeating a call with the same ids changes nothing.

        They are not held to the account's rate of requests. Raises Refused where another limit stands against one of
        them: those before it are accepted, and the same call goes on there when it is made again later. Raises
        BatchLost where `batch`, to which they belong, was taken over by another worker.
        """
        held = (batch.id, batch.fence) if batch else ("", "")
        for start in range(0, len(jobs), _ENQUEUE_CHUNK):
            chunk = _flatten(jobs[start : start + _ENQUEUE_CHUNK])
            answer = self._enqueue(account, "", "", 0, 0, self._max_queued, "", *held, *chunk)
            if answer[0] == "lost":
                raise BatchLost(held[0])
            self._verdict(answer)

    def replayed(self, account: str, key: str, fingerprint: str) -> str | None:
        """The id of the job that `accept` made under the key before, or None for a new key.

        Raises RendermillError `idempotency_mismatch` as `accept` does.
        """
        name = f"{self._prefix}idempotency:{account}:{key}"
        known, job_id = cast(list[str | None], self._redis.hmget(name, "fingerprint", "job"))
        if known is not None and known != fingerprint:
            raise _idempotency_mismatch()
        return job_id

    def accept(
        self, job: NewJob, *, key: str = "", fingerprint: str = "", remember_s: float = 0.0, anew: bool = False
    ) -> Accepted:
        """Accept the job of one request, unless its account used the idempotency `key` before.

        With `anew` an earlier use of the key is forgotten instead. Raises RendermillError `idempotency_mismatch` where
        the key was used with another fingerprint, and Refused where one of the account's limits, or the farm's, stands
        against it. A replay is never refused.
        """
        remember_ms = round(remember_s * 1000)
        arguments = (key, fingerprint, remember_ms, 1, self._max_queued, "1" if anew else "", "", "")
        answer = self._enqueue(job.account, *arguments, *_flatten([job]))
        match answer[0]:
            case "mismatch":
                raise _idempotency_mismatch()
            case "replayed":
                return Accepted(str(answer[1]), replayed=True, standing=None)
            case _:
                return Accepted(job.id, replayed=False, standing=self._verdict(answer))

    @staticmethod
    def _verdict(answer: Sequence[str]) -> Standing:
        verdict, detail, *row = answer
        standing = Standing.from_answer(row)
        if verdict != "accepted":
            raise Refused(verdict, detail, standing)
        return standing

    def cancel(self, job_id: str, account: str) -> JobStatus:
        """Call a job off: a queued one ends at once, a running one at its next denoising step, a finished one stays.

        Raises RendermillError `not_found` where the account has no such job.
        """
        status = self._cancel(job_id, account)
        if status == "unknown":
            raise RendermillError("not_found", f"There is no job {job_id}.")
        return JobStatus(status)

    def cancel_all(self, job_ids: Sequence[str], account: str) -> None:
        """Call many jobs off in one round trip; those that do not exist are passed over."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            self._cancel.into(pipeline, job_id, account)
        pipeline.execute()

    def expire_all(self, job_ids: Sequence[str]) -> int:
        """End those of the jobs that wait past their deadline; how many that were."""
        return int(self._expire(*job_ids))

    def position(self, job_id: str, workers: int) -> Position | None:
        """Where a queued job stands with that many workers at its model; None where it waits in no queue."""
        return _placed(self._position(job_id), workers)

    def forecast(self, job: NewJob, workers: int) -> Position:
        """Where the job would stand if it were accepted now."""
        answer = self._position("", job.request.model, job.account, job.priority, f"{job.cost:.6g}")
        position = _placed(answer, workers)
        assert position is not None
        return position

    # What a worker does

    def claim(self, model: str, worker: str, *, max_images: int) -> Claim:
        """Lease a batch of compatible jobs: together at most `max_images`, or one job with more alone.

        Where the client repeats the call because the answer was lost, it gets the jobs that the first one leased.
        """
        call = secrets.token_urlsafe(_CALL_NAME_BYTES)
        queued, *jobs = self._claim(model, worker, max_images, self._lease_ms, call)
        return Claim([_lease(*job) for job in jobs], int(queued))

    def renew(self, progress: Mapping[Lease, Progress]) -> dict[Lease, Renewal]:
        """Renew leases and report progress; what became of each lease."""
        arguments: list[str | int | float] = []
        for lease, report in progress.items():
            arguments += [lease.id, lease.attempt, report.stage, f"{report.progress:.3g}"]
        if not arguments:
            return {}
        answers = self._renew(self._lease_ms, *arguments)
        return {lease: Renewal(answer) for lease, answer in zip(progress, answers, strict=True)}

    def complete(
        self,
        lease: Lease,
        *,
        images: Mapping[str, Mapping[str, Any]],
        result: Mapping[str, Any],
        render_s: float | None,
    ) -> bool:
        """End a job with its pictures, records by image id; False where the lease was lost or the job called off.

        `render_s` are the device seconds this job took, which correct predictions; None where they say nothing.
        """
        flat = [text for id_, record in images.items() for text in (id_, _json(record))]
        measured = "" if render_s is None or not 0 < render_s < math.inf else repr(render_s)
        return bool(self._complete(lease.id, lease.attempt, _json(result), measured, *flat) == "succeeded")

    def fail(self, lease: Lease, code: str, message: str, *, retriable: bool) -> JobStatus | None:
        """End an attempt that failed: the job's status now, or None where the lease was lost."""
        attempts = self._max_attempts if retriable else 1
        status = self._fail(lease.id, lease.attempt, code, message, attempts, self._retry_ms)
        return None if status == "lost" else JobStatus(status)

    def release(self, lease: Lease) -> bool:
        """Give a job back unharmed, without charging an attempt; False where the lease was lost."""
        return bool(self._release(lease.id, lease.attempt) != "lost")

    def abandon(self, lease: Lease) -> bool:
        """End a running job that its owner called off, once the worker has stopped; False where there is no such."""
        return bool(self._abandon(lease.id, lease.attempt) == "canceled")

    # What upkeep does

    def sweep(self) -> Swept:
        """End leases that were not renewed, start retries that are due, expire jobs whose deadline passed."""
        return Swept(*self._sweep(_SWEEP_LIMIT, self._max_attempts))

    def queued(self) -> dict[str, int]:
        """Jobs that a worker could claim now, by model; those that wait for a retry are left out."""
        models = sorted(cast(set[str], self._redis.smembers(self._prefix + "models")))
        pipeline = self._redis.pipeline(transaction=False)
        for model in models:
            pipeline.hget(f"{self._prefix}model:{model}", "queued")
        return {model: int(count or 0) for model, count in zip(models, pipeline.execute(), strict=True)}

    def oldest_wait_s(self, model: str) -> float:
        """How long the oldest job that waits for the model has waited, in seconds; 0 where none waits."""
        flows = cast(list[str], self._redis.zrange(f"{self._prefix}flows:{model}", 0, _FLOWS_SEEN - 1))
        pipeline = self._redis.pipeline(transaction=False)
        for flow in flows:
            pipeline.zrange(f"{self._prefix}lanes:{model}:{flow}", 0, 0, withscores=True)
        # A lane's score is the sequence number of its oldest job.
        heads = [(seq, flow, lane) for flow, rows in zip(flows, pipeline.execute(), strict=True) for lane, seq in rows]
        if not heads:
            return 0.0
        _, flow, lane = min(heads)
        oldest = cast(list[str], self._redis.zrange(f"{self._prefix}queue:{model}:{flow}:{lane}", 0, 0))
        created = self._redis.hget(f"{self._prefix}job:{oldest[0]}", "created") if oldest else None
        seconds, microseconds = self._redis.time()
        return 0.0 if created is None else max(0.0, seconds + microseconds / 1e6 - int(cast(str, created)) / 1000)


def _idempotency_mismatch() -> RendermillError:
    return RendermillError("idempotency_mismatch", "This Idempotency-Key came with another body before; use a new key.")


def _placed(answer: Sequence[str], workers: int) -> Position | None:
    if int(answer[0]) < 0:
        return None
    work_s = float(answer[1]) * float(answer[2])
    return Position(ahead=int(answer[0]), eta_s=round(work_s / max(1, workers), 1))


def _flatten(jobs: Iterable[NewJob]) -> list[str | int | float]:
    flat: list[str | int | float] = []
    for job in jobs:
        deadline = "" if job.deadline_s is None else round(job.deadline_s * 1000)
        hooks = ",".join(job.webhook_events) if job.webhook_url else ""
        flat += [job.id, job.request.model, job.request.lane, job.priority, job.request.n, f"{job.cost:.6g}"]
        flat += [deadline, hooks, job.price, _json(job.spec())]
    return flat


def _lease(id_: str, attempt: int, account: str, cost: str, waited_ms: str, spec: str) -> Lease:
    data = json.loads(spec)
    return Lease(
        id=id_,
        attempt=attempt,
        account=account,
        name=data.get("name"),
        request=RenderRequest.from_dict(data["request"]),
        cost=float(cost),
        queued_s=int(waited_ms) / 1000,
    )


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
