"""Senders are woken by the scripts that make deliveries, few times however many there are, and by the sweep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from shared.batches import Batch
from shared.deliveries import Deliveries
from shared.jobs import Job, NewJob
from shared.outbox import Outbox
from shared.scheduler import Scheduler
from tests.scheduling import claim_one, complete, enqueue, let_pass, new_job, new_scheduler

URL = "https://receiver.test/hook"


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis)


def wake_ups(redis: Redis) -> int:
    return redis.llen("rm:wake_ups")


def succeeds(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:  # noqa: ARG001
    complete(scheduler, claim_one(scheduler))


def fails(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:  # noqa: ARG001
    scheduler.fail(claim_one(scheduler), "invalid_input", "no", retriable=False)


def is_called_off(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:  # noqa: ARG001
    scheduler.cancel(job.id, "alice")


def is_abandoned(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:  # noqa: ARG001
    lease = claim_one(scheduler)
    scheduler.cancel(job.id, "alice")
    scheduler.abandon(lease)


def expires(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:
    let_pass(redis, "deadlines", job.id)
    scheduler.sweep()


def loses_its_worker(scheduler: Scheduler, redis: Redis, job: NewJob) -> None:
    claim_one(scheduler)
    let_pass(redis, "leases", job.id)
    scheduler.sweep()


@pytest.mark.parametrize("end", [succeeds, fails, is_called_off, is_abandoned, expires, loses_its_worker])
def test_however_a_job_ends_one_sender_is_woken_for_each_delivery(
    redis: Redis, end: Callable[[Scheduler, Redis, NewJob], None]
) -> None:
    Deliveries(redis).add_endpoint("alice", URL, ["job.succeeded", "job.failed", "job.canceled", "job.expired"])
    scheduler = new_scheduler(redis, max_attempts=1)
    job = enqueue(scheduler, webhook_url=URL, deadline_s=60)
    assert wake_ups(redis) == 0
    end(scheduler, redis, job)
    assert (Deliveries(redis).due(), wake_ups(redis)) == (2, 2)


def test_a_job_that_nobody_is_told_of_wakes_nobody(redis: Redis, outbox: Outbox) -> None:
    scheduler = new_scheduler(redis)
    enqueue(scheduler)
    complete(scheduler, claim_one(scheduler))
    outbox.wake_senders()
    assert wake_ups(redis) == 0


def test_any_number_of_deliveries_leaves_few_wake_ups(redis: Redis, outbox: Outbox) -> None:
    scheduler = new_scheduler(redis)
    jobs = [new_job(webhook_url=URL) for _ in range(200)]
    scheduler.enqueue("alice", jobs)
    scheduler.cancel_all([job.id for job in jobs], "alice")
    outbox.wake_senders()
    assert (Deliveries(redis).due(), wake_ups(redis)) == (200, 64)


def test_the_sweep_replaces_wake_ups_that_were_lost_and_adds_none_to_those_that_lie_there(
    redis: Redis, outbox: Outbox
) -> None:
    scheduler = new_scheduler(redis)
    for _ in range(3):
        enqueue(scheduler, webhook_url=URL)
        complete(scheduler, claim_one(scheduler))
    redis.delete("rm:wake_ups")
    for _ in range(2):
        outbox.wake_senders()
        assert wake_ups(redis) == 3
    assert outbox.sleep(60), "one is taken"
    outbox.wake_senders()
    assert wake_ups(redis) == 3


def test_a_retry_that_becomes_due_wakes_a_sender_at_the_next_sweep(redis: Redis, outbox: Outbox) -> None:
    scheduler = new_scheduler(redis)
    enqueue(scheduler, webhook_url=URL)
    complete(scheduler, claim_one(scheduler))
    assert outbox.sleep(60)
    claimed = outbox.claim(60)
    assert claimed
    outbox.record(claimed.delivery.id, {"result": "http_5xx"}, status="pending", retry_in_s=300)
    outbox.wake_senders()
    assert wake_ups(redis) == 0
    redis.zadd("rm:due", {claimed.delivery.id: 0})
    outbox.wake_senders()
    assert wake_ups(redis) == 1


def test_who_is_not_woken_sleeps_no_longer_than_it_wants(outbox: Outbox) -> None:
    assert not outbox.sleep(0.01)


def test_a_claim_tells_the_job_its_pictures_and_what_signs(redis: Redis, outbox: Outbox) -> None:
    scheduler = new_scheduler(redis)
    job = enqueue(scheduler, webhook_url=URL, n=3)
    records = {f"image_{name}": _image(job, name) for name in "abc"}
    scheduler.complete(claim_one(scheduler), images=records, result={"images": list(records)}, render_s=None)
    redis.delete("rm:image:image_b")  # its owner deleted it before its webhook was sent
    redis.sadd("rm:published", "image_c", "image_of_another_job")
    redis.hset("rm:account:alice", "webhook_secret", "whsec_new")
    redis.set("rm:old_webhook_secret:alice", "whsec_old")
    claimed = outbox.claim(60)
    assert claimed
    assert isinstance(claimed.subject, Job)
    assert (claimed.subject.id, claimed.subject.webhook_url) == (job.id, URL)
    assert [image.name for image in claimed.images.values()] == ["a", "c"]
    assert claimed.published == {"image_c"}
    assert claimed.secrets == ["whsec_new", "whsec_old"]
    assert claimed.endpoint is None


def test_a_claim_tells_the_endpoint_and_the_batch(redis: Redis, outbox: Outbox) -> None:
    endpoint = Deliveries(redis).add_endpoint("alice", URL, ["batch.completed"])
    record = {"account": "alice", "file": "file_x", "endpoint": "/v1/jobs", "window": "24h", "priority": "low"}
    counts = dict.fromkeys(("created", "expires", "offset", "line", "total", "bad", "open"), 7)
    redis.hset("rm:batch:batch_x", mapping={**record, **counts, "metadata": "null", "status": "completed"})
    delivery = {"job": "batch_x", "account": "alice", "event": "batch.completed", "endpoint": endpoint.id}
    redis.hset("rm:delivery:msg_x", mapping={**delivery, "status": "pending", "attempts": 0, "created": 1})
    redis.zadd("rm:due", {"msg_x": 0})
    claimed = outbox.claim(60)
    assert claimed
    assert isinstance(claimed.subject, Batch)
    assert (claimed.subject.id, claimed.subject.total, claimed.endpoint) == ("batch_x", 7, endpoint)


def _image(job: NewJob, name: str) -> dict[str, object]:
    shape = {"width": 8, "height": 8, "format": "png", "size": 1, "created_at": 1.0}
    return {"account": "alice", "name": name, "key": f"outputs/{job.id}/1/{name}.png", **shape}
