"""One account's bulk does not stand in another's way."""

from __future__ import annotations

from redis import Redis

from client import Client
from shared.accounts import Accounts
from tests.running_farm import RunningFarm

JOB = {"model": "sdxl-lightning", "prompt": "a cat", "width": 256, "height": 256}
#: Of each account.
JOBS = 56
#: What of the first account may be rendered before the second's first picture: the batch in flight and the one that
#: was claimed while the second account's jobs arrived, and one more for the pictures being stored.
BATCHES_BEFORE = 3
BATCH_LIMIT = 8


def test_a_second_account_is_served_within_the_first_batches(farm: RunningFarm) -> None:
    with Redis.from_url(farm.redis_url, decode_responses=True) as redis:
        key = Accounts(redis).create_key("second")
    with farm.client() as first, Client(farm.url, key) as second:
        bulk = [first.submit(JOB) for _ in range(JOBS)]
        late = [second.submit(JOB) for _ in range(JOBS)]
        finished = [first.wait(job) for job in bulk] + [second.wait(job) for job in late]
    assert {job.status for job in finished} == {"succeeded"}
    submitted = min(job.raw["created_at"] for job in finished[JOBS:])
    first_picture = min(job.raw["finished_at"] for job in finished[JOBS:])
    between = [job for job in finished[:JOBS] if submitted < job.raw["finished_at"] < first_picture]
    assert len(between) <= BATCHES_BEFORE * BATCH_LIMIT
    last_of_bulk = max(job.raw["finished_at"] for job in finished[:JOBS])
    before = [job for job in finished[JOBS:] if job.raw["finished_at"] <= last_of_bulk]
    assert len(before) >= JOBS / 2, "both accounts are served side by side to the end"
