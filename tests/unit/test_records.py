"""Reading jobs: pages, cursors, and jobs that are gone."""

from __future__ import annotations

import pytest
from redis import Redis

from shared.errors import RendermillError
from shared.jobs import JobStatus
from shared.records import Records
from shared.redis_client import Script
from tests.scheduling import claim_one, complete, enqueue, new_scheduler


def pages(records: Records, limit: int, statuses: list[JobStatus]) -> list[list[str]]:
    found, after = [], None
    while True:
        page = records.page("alice", statuses=statuses, limit=limit, after=after)
        found.append([job.id for job in page.jobs])
        after = page.after
        if after is None:
            return found


@pytest.fixture
def job_ids(redis: Redis) -> list[str]:
    """Alice's jobs in several states, newest first, and one of Bob's."""
    scheduler = new_scheduler(redis)
    jobs = [enqueue(scheduler).id for _ in range(7)]
    complete(scheduler, claim_one(scheduler))
    scheduler.fail(claim_one(scheduler), "render_failed", "no", retriable=False)
    claim_one(scheduler)
    scheduler.cancel(jobs[6], "alice")
    enqueue(scheduler, account="bob")
    return jobs[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 100])
def test_pages_hold_every_job_once_newest_first_whatever_its_status(
    redis: Redis, job_ids: list[str], limit: int
) -> None:
    found = pages(Records(redis), limit, list(JobStatus))
    assert [job_id for page in found for job_id in page] == job_ids
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1], "no page is empty while there are jobs"


def test_pages_of_one_status_hold_that_status_alone(redis: Redis, job_ids: list[str]) -> None:
    # Newest first: one called off, three that wait, and the first three, which were claimed.
    canceled, *queued, running, failed, succeeded = job_ids
    records = Records(redis)
    assert pages(records, 2, [JobStatus.QUEUED]) == [queued[:2], queued[2:]]
    assert pages(records, 10, [JobStatus.FAILED, JobStatus.SUCCEEDED]) == [[failed, succeeded]]
    assert pages(records, 10, [JobStatus.RUNNING, JobStatus.CANCELED]) == [[canceled, running]]
    assert pages(records, 10, [JobStatus.EXPIRED]) == [[]]


def test_a_page_is_not_disturbed_by_jobs_that_are_newer_than_its_cursor(redis: Redis, job_ids: list[str]) -> None:
    records = Records(redis)
    first = records.page("alice", statuses=JobStatus, limit=3, after=None)
    enqueue(new_scheduler(redis))
    rest = records.page("alice", statuses=JobStatus, limit=10, after=first.after)
    assert [job.id for job in first.jobs + rest.jobs] == job_ids


@pytest.mark.parametrize("cursor", ["", "-1", "1.5", "inf", "abc", "١٢", "9" * 5000, "(1"])
def test_a_cursor_that_no_page_gave_is_refused(redis: Redis, cursor: str) -> None:
    with pytest.raises(RendermillError, match="bad_request"):
        Records(redis).page("alice", statuses=JobStatus, limit=1, after=cursor)


def test_a_job_is_not_found_by_others_and_gone_after_its_retention(redis: Redis) -> None:
    scheduler, records = new_scheduler(redis), Records(redis)
    job = enqueue(scheduler)
    scheduler.cancel(job.id, "alice")
    for account, code in (("alice", "gone"), ("bob", "not_found")):
        if account == "alice":
            assert records.get(job.id, account).id == job.id
            Script(redis, "forget")(job.id, 60)
        with pytest.raises(RendermillError, match=code):
            records.get(job.id, account)
    with pytest.raises(RendermillError, match="not_found"):
        records.get("job_never_was", "alice")


def test_a_forgotten_job_leaves_only_the_memory_of_its_id(redis: Redis) -> None:
    scheduler = new_scheduler(redis)
    job = enqueue(scheduler, deadline_s=60)
    lease = claim_one(scheduler)
    images = {"image_1": {"account": "alice"}}
    assert scheduler.complete(lease, images=images, result={"images": ["image_1"]}, render_s=None)
    assert Script(redis, "forget")(job.id, 60, "image_1") == 1
    left = {name.removeprefix("rm:").split(":")[0] for name in redis.keys("rm:*")}
    assert left == {"gone", "model", "models", "seq", "finished", "usage", "receipt"}
    assert sorted(redis.keys("rm:gone:*")) == [f"rm:gone:{'image_1'}", f"rm:gone:{job.id}"]
    assert all(redis.ttl(name) > 0 for name in redis.keys("rm:gone:*") + redis.keys("rm:receipt:*"))


def test_an_unfinished_job_is_never_forgotten(redis: Redis) -> None:
    job = enqueue(new_scheduler(redis))
    assert Script(redis, "forget")(job.id, 60) == 0
    assert Records(redis).get(job.id).status is JobStatus.QUEUED
