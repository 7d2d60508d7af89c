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
from itertools import chain
from typing import Any, cast

from redis import Redis

from shared.answers import Accepted, Aftermath, Claim, Placement, Position, Progress, Renewal, Swept
from shared.batch_claims import BatchClaim, BatchLost
from shared.errors import RendermillError, idempotency_mismatch
from shared.jobs import Lease, NewJob
from shared.limits import Refused, Standing
from shared.redis_client import PREFIX, Script, now_ms
from shared.requests import RenderRequest

#: Jobs accepted by one script call: about 4 ms of Redis's time, so that others are served in between.
_ENQUEUE_CHUNK = 500
#: A verdict of `enqueue.lua`, its detail and where the account stands; what follows is about the job of a request.
_VERDICT_FIELDS = 8
#: A call's name is remembered for one lease; 96 random bits never meet in that time.
_CALL_NAME_BYTES = 12
#: Jobs of each kind that one call of a sweep repairs: together about 30 ms of Redis's time, even among a million.
_SWEEP_STEP = 100
#: Flows looked at for the oldest job: those to be served first, so what is left out is not neglected but queued much.
_FLOWS_SEEN = 256


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
        self._enqueue = Script(redis, "enqueue", prefix, uses=["_idempotency", "_position"])
        self._claim = Script(redis, "claim", prefix)
        self._renew = Script(redis, "renew", prefix)
        self._complete = Script(redis, "complete", prefix)
        self._fail = Script(redis, "fail", prefix)
        self._release = Script(redis, "release", prefix)
        self._abandon = Script(redis, "abandon", prefix)
        self._cancel = Script(redis, "cancel", prefix)
        self._expire = Script(redis, "expire", prefix)
        self._sweep = Script(redis, "sweep", prefix)
        self._position = Script(redis, "position", prefix, uses=["_position"])

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
            answer = self._enqueue(account, "", "", 0, 0, self._max_queued, "", *held, "", *chunk)
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
            raise idempotency_mismatch()
        return job_id

    def accept(
        self,
        job: NewJob,
        *,
        workers: int = 1,
        key: str = "",
        fingerprint: str = "",
        remember_s: float = 0.0,
        anew: bool = False,
    ) -> Accepted:
        """Accept the job of one request, unless its account used the idempotency `key` before.

        `workers` are those at its model, by which its position is told. With `anew` an earlier use of the key is
        forgotten instead. Raises RendermillError `idempotency_mismatch` where the key was used with another
        fingerprint, and Refused where one of the account's limits, or the farm's, stands against it. A replay is never
        refused.
        """
        remember_ms = round(remember_s * 1000)
        arguments = (key, fingerprint, remember_ms, 1, self._max_queued, "1" if anew else "", "", "", workers)
        answer = self._enqueue(job.account, *arguments, *_flatten([job]))
        match answer[0]:
            case "mismatch":
                raise idempotency_mismatch()
            case "replayed":
                return Accepted(str(answer[1]), replayed=True, standing=None)
            case _:
                told = answer[_VERDICT_FIELDS:]
                return Accepted(job.id, False, self._verdict(answer), Placement.from_answer(*told) if told else None)

    @staticmethod
    def _verdict(answer: Sequence[str]) -> Standing:
        verdict, detail, *row = answer[:_VERDICT_FIELDS]
        standing = Standing.from_answer(row)
        if verdict != "accepted":
            raise Refused(verdict, detail, standing)
        return standing

    def cancel(self, job_id: str, account: str) -> Aftermath:
        """Call a job off: a queued one ends at once, a running one at its next denoising step, a finished one stays.

        Raises RendermillError `not_found` where the account has no such job.
        """
        answer = self._cancel(job_id, account)
        if answer[0] == "unknown":
            raise RendermillError("not_found", f"There is no job {job_id}.")
        aftermath = Aftermath.from_answer(answer)
        assert aftermath is not None, "whoever calls off has no lease to lose"
        return aftermath

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
        return Position.from_answer(self._position(workers, job_id))

    def forecast(self, job: NewJob, workers: int) -> Position:
        """Where the job would stand if it were accepted now."""
        as_if = (job.request.model, job.account, job.priority, f"{job.cost:.6g}")
        position = Position.from_answer(self._position(workers, "", *as_if))
        assert position is not None, "it is not accepted, so it is not finished either"
        return position

    # What a worker does

    def claim(self, model: str, worker: str, *, max_images: int) -> Claim:
        """Lease a batch of compatible jobs: together at most `max_images`, or one job with more alone."""
        return self.claim_first({model: max_images}, worker)

    def claim_first(self, models: Mapping[str, int], worker: str) -> Claim:
        """The same for the first of these models that has work, each with the most images of its batches.

        Where the client repeats the call because the answer was lost, it gets the jobs that the first one leased.
        """
        return self._lease_batch("", models, worker)

    def join(self, model: str, lane: str, worker: str, *, room: int, others: Iterable[str] = ()) -> Claim:
        """Lease more jobs for a batch of that model and lane: those that are next, if they have at most `room` images.

        The answer tells whether `others`, further models, have work.
        """
        return self._lease_batch(lane, dict.fromkeys([model, *others], room), worker)

    def _lease_batch(self, lane: str, models: Mapping[str, int], worker: str) -> Claim:
        call = secrets.token_urlsafe(_CALL_NAME_BYTES)
        order: list[str | int] = list(chain.from_iterable(models.items()))
        answer = self._claim(worker, self._lease_ms, call, lane, *order)
        model, room, elsewhere, queued, tickets, *jobs = answer
        return Claim(
            model=model,
            leases=[_lease(*job) for job in jobs],
            room=int(room),
            queued=int(queued),
            tickets=int(tickets),
            elsewhere=bool(int(elsewhere)),
        )

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
    ) -> Aftermath | None:
        """End a job with its pictures, records by image id; None where the lease was lost.

        Where its owner called it off meanwhile, it is `canceled`, and the pictures are not recorded.

        `render_s` are the device seconds this job took, which correct predictions; None where they say nothing.
        """
        flat = [text for id_, record in images.items() for text in (id_, _json(record))]
        measured = "" if render_s is None or not 0 < render_s < math.inf else repr(render_s)
        return Aftermath.from_answer(self._complete(lease.id, lease.attempt, _json(result), measured, *flat))

    def fail(self, lease: Lease, code: str, message: str, *, retriable: bool) -> Aftermath | None:
        """End an attempt that failed; None where the lease was lost."""
        attempts = self._max_attempts if retriable else 1
        return Aftermath.from_answer(self._fail(lease.id, lease.attempt, code, message, attempts, self._retry_ms))

    def release(self, lease: Lease) -> Aftermath | None:
        """Give a job back unharmed, without charging an attempt; None where the lease was lost."""
        return Aftermath.from_answer(self._release(lease.id, lease.attempt))

    def abandon(self, lease: Lease) -> Aftermath | None:
        """End a running job that its owner called off, once the worker has stopped; None where there is no such."""
        return Aftermath.from_answer(self._abandon(lease.id, lease.attempt))

    # What upkeep does

    def sweep(self) -> Swept:
        """End leases that were not renewed, start retries that are due, expire jobs whose deadline passed: all of them.

        In steps, so that others are served in between.
        """
        steps: list[list[int]] = []
        while not steps or max(steps[-1]) == _SWEEP_STEP:
            steps.append(self._sweep(_SWEEP_STEP, self._max_attempts))
        return Swept(*map(sum, zip(*steps, strict=True)))

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
        return 0.0 if created is None else max(0.0, (now_ms(self._redis) - int(cast(str, created))) / 1000)


def _flatten(jobs: Iterable[NewJob]) -> list[str | int]:
    """The jobs as `enqueue.lua` takes them: what many have in common is sent, and written, once."""
    kinds: dict[tuple[str | int, ...], int] = {}
    flat: list[str | int] = []
    for job in jobs:
        request = job.request
        deadline = "" if job.deadline_s is None else round(job.deadline_s * 1000)
        hooks = ",".join(job.webhook_events) if job.webhook_url else ""
        kind = (request.model, request.lane, job.priority, request.n, f"{job.cost:.6g}", deadline, hooks, job.price)
        flat += (job.id, kinds.setdefault(kind, len(kinds) + 1), _json(job.spec()))
    return [len(kinds), *chain.from_iterable(kinds), *flat]


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


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
