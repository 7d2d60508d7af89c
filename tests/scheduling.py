"""Jobs for tests of the scheduler, and a client that loses replies."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fakeredis import FakeRedis
from hypothesis import settings
from redis import Redis

from shared.answers import Aftermath
from shared.ids import new_id
from shared.jobs import JobStatus, Lease, NewJob, Priority
from shared.models import Mode
from shared.records import Records
from shared.requests import RenderRequest
from shared.scheduler import Scheduler

MODEL = "test/model"

#: Property-based tests try this many times as many examples: `TEST_EFFORT=50 make test` for a long run. At 1 they are
#: the same ones every time, so that a change that has nothing to do with the scheduler never fails here.
EFFORT = int(os.environ.get("TEST_EFFORT", "1"))


def state_machine_settings(redis: Redis, *, steps: int) -> settings:
    """For a state machine over the scheduler: on fakeredis, several times as slow, fewer runs of it."""
    runs = 10 if isinstance(redis, FakeRedis) else 40
    return settings(max_examples=runs * EFFORT, stateful_step_count=steps, deadline=None, derandomize=EFFORT == 1)


def new_job(
    account: str = "alice",
    *,
    model: str = MODEL,
    lane: int = 4,
    n: int = 1,
    image_cost: float = 1.0,
    price: int = 0,
    priority: Priority = Priority.NORMAL,
    deadline_s: float | None = None,
    webhook_url: str | None = None,
    prompt: str = "a red fox",
) -> NewJob:
    """A job; those of one model and the same `lane`, a number of steps, may share a batch."""
    request = RenderRequest(
        model=model,
        mode=Mode.TEXT_TO_IMAGE,
        prompt=prompt,
        width=256,
        height=256,
        num_steps=lane,
        guidance_scale=0.0,
        seed=1,
        n=n,
    )
    return NewJob(
        id=new_id("job"),
        account=account,
        request=request,
        cost=n * image_cost,
        price=price,
        priority=priority,
        webhook_url=webhook_url,
        deadline_s=deadline_s,
    )


def new_scheduler(redis: Redis, *, max_attempts: int = 3) -> Scheduler:
    """A scheduler whose leases and retries last longer than any test: time passes by `let_pass` alone."""
    return Scheduler(redis, lease_s=3600, max_attempts=max_attempts, retry_delay_s=3600)


def enqueue(scheduler: Scheduler, **shape: Any) -> NewJob:
    """Accept one job of that shape, as `new_job` takes it."""
    job = new_job(**shape)
    scheduler.enqueue(job.account, [job])
    return job


def claim_one(scheduler: Scheduler) -> Lease:
    (lease,) = scheduler.claim(MODEL, "w", max_images=1).leases
    return lease


def status(redis: Redis, job: NewJob) -> JobStatus:
    return Records(redis).get(job.id).status


def let_pass(redis: Redis, times: str, job_id: str) -> None:
    """Make a job's time in `leases`, `delayed` or `deadlines` come at once."""
    redis.zadd(f"rm:{times}", {job_id: 0}, xx=True)
    if times == "deadlines":
        redis.hset(f"rm:job:{job_id}", "deadline", "0")


def complete(scheduler: Scheduler, lease: Lease) -> bool:
    """Complete a job without pictures."""
    return status_of(scheduler.complete(lease, images={}, result={"images": []}, render_s=None)) is JobStatus.SUCCEEDED


def status_of(aftermath: Aftermath | None) -> JobStatus | None:
    """How a verb left the job; None where the lease was lost."""
    return None if aftermath is None else aftermath.status


class LossyRedis:
    """A client that loses the first reply of every script while `losing` is set, and so calls it again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.losing = False

    def register_script(self, source: str) -> Callable[..., Any]:
        script = self._redis.register_script(source)

        def call(**arguments: Any) -> Any:
            if self.losing:
                script(**arguments)
            return script(**arguments)

        return call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)
