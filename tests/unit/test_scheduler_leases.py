"""Leases, what a worker may do with one, and the sweep that ends those of workers that went silent."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from shared.answers import Progress, Renewal
from shared.jobs import JobStatus, Stage
from shared.scheduler import Scheduler
from tests.scheduling import MODEL, claim_one, complete, enqueue, let_pass, new_job, new_scheduler, status


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


# ── Leases ──


def test_a_zombie_changes_nothing_of_its_successors_job(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    zombie = claim_one(scheduler)
    let_pass(redis, "leases", job.id)
    scheduler.sweep()
    successor = claim_one(scheduler)
    before = redis.hgetall(f"rm:job:{job.id}"), redis.zscore("rm:leases", job.id), redis.xlen(f"rm:events:{job.id}")

    assert scheduler.renew({zombie: Progress(Stage.STORING, 0.9)}) == {zombie: Renewal.LOST}
    assert scheduler.fail(zombie, "render_failed", "zombie", retriable=False) is None
    assert not scheduler.release(zombie)
    assert not scheduler.abandon(zombie)
    assert not scheduler.complete(zombie, images={"image_z": {}}, result={"images": ["image_z"]}, render_s=9.0)

    after = redis.hgetall(f"rm:job:{job.id}"), redis.zscore("rm:leases", job.id), redis.xlen(f"rm:events:{job.id}")
    assert after == before
    assert redis.get("rm:image:image_z") is None
    assert complete(scheduler, successor)
    assert not complete(scheduler, zombie)
    assert status(redis, job) is JobStatus.SUCCEEDED


def test_a_lease_that_ended_is_revived_by_its_holder_while_nobody_else_has_the_job(
    redis: Redis, scheduler: Scheduler
) -> None:
    job = enqueue(scheduler)
    lease = claim_one(scheduler)
    let_pass(redis, "leases", job.id)
    assert scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)}) == {lease: Renewal.HELD}
    assert scheduler.sweep().leases_ended == 0


def test_a_completion_whose_reply_was_lost_can_be_made_again(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler, webhook_url="https://example.test/hook")
    lease = claim_one(scheduler)
    for _ in range(2):
        assert scheduler.complete(lease, images={"image_1": {"n": 1}}, result={"images": ["image_1"]}, render_s=2.0)
    assert redis.zrange("rm:images:alice", 0, -1) == ["image_1"]
    assert redis.zcard("rm:due") == 1
    assert json.loads(redis.get("rm:image:image_1") or "") == {"n": 1}
    assert status(redis, job) is JobStatus.SUCCEEDED


@pytest.mark.parametrize("render_s", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_measurement_that_says_nothing_leaves_the_prediction_alone(
    redis: Redis, scheduler: Scheduler, render_s: float | None
) -> None:
    enqueue(scheduler)
    assert scheduler.complete(claim_one(scheduler), images={}, result={}, render_s=render_s)
    assert redis.hget(f"rm:model:{MODEL}", "rate") is None


# ── The sweep ──


def test_a_sweep_repairs_all_that_is_due_in_steps_that_hold_redis_shortly(
    redis: Redis, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.scheduler._SWEEP_STEP", 3)
    jobs = [new_job(deadline_s=60) for _ in range(7)]
    scheduler.enqueue("alice", jobs)
    for job in jobs:
        let_pass(redis, "deadlines", job.id)
    steps: list[list[int]] = []
    sweep = scheduler._sweep
    monkeypatch.setattr(scheduler, "_sweep", lambda *arguments: steps.append(sweep(*arguments)) or steps[-1])
    assert scheduler.sweep().expired == 7
    assert [expired for _, _, expired in steps] == [3, 3, 1]


def test_jobs_whose_record_is_gone_stop_neither_the_sweep_nor_the_claims(redis: Redis, scheduler: Scheduler) -> None:
    jobs = [enqueue(scheduler, deadline_s=60) for _ in range(4)]
    leased = claim_one(scheduler)
    for job in jobs[:3]:
        redis.delete(f"rm:job:{job.id}")
    redis.zadd("rm:delayed", {"job_never_was": 0})
    for name in ("leases", "deadlines"):
        redis.zadd(f"rm:{name}", {jobs[0].id: 0})
    scheduler.sweep()
    assert not complete(scheduler, leased)
    batch = scheduler.claim(MODEL, "w", max_images=8)
    assert ([lease.id for lease in batch.leases], batch.queued) == ([jobs[3].id], 0)
    assert redis.zcard("rm:leases") == 1
    assert redis.zcard("rm:delayed") == 0
