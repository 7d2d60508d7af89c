"""The worker that ingests a batch is killed again and again: each line becomes one job, and one entry in the end."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shared.batches import Batch, Batches, job_id
from shared.files import file_key
from shared.settings import Settings
from tests.worker_farm import ACCOUNT, MODEL, WorkerFarm, batch_line, worker_farm

LINES = 50_000
#: One line in so many is no request.
BAD_EVERY = 1_000


@pytest.fixture
def farm(tmp_path: Path, valkey_url: str, s3: Settings) -> Iterator[WorkerFarm]:
    with worker_farm(tmp_path, valkey_url, s3, tmp_path) as farm:
        farm.redis.flushall()
        yield farm


def test_a_batch_whose_worker_is_killed_three_times_has_each_job_once(farm: WorkerFarm) -> None:
    batches = Batches(farm.redis)
    batch_id = farm.hand_in(
        b"no request\n" if number % BAD_EVERY == 0 else batch_line(number) for number in range(1, LINES + 1)
    )

    def batch() -> Batch:
        return batches.get(batch_id)

    def has_passed(line: int) -> bool:
        return batch().line > line

    for line in (5_000, 15_000, 30_000):
        upkeep = farm.start("upkeep")
        farm.wait_until(partial(has_passed, line), "lines are read")
        farm.end(upkeep, signal.SIGKILL)
        assert not batch().ingested, "it was killed in the middle"
    farm.start("upkeep")
    farm.wait_until(lambda: batch().ingested, "all lines are read")

    refused = LINES // BAD_EVERY
    jobs = LINES - refused
    assert (batch().total, batch().bad, batch().open) == (LINES, refused, jobs)
    assert farm.redis.zcard(f"rm:jobs:{ACCOUNT}:queued") == jobs
    assert sum(1 for _ in farm.redis.scan_iter("rm:job:*", count=5_000)) == jobs
    claimed = farm.scheduler.claim(MODEL, "test", max_images=4).leases
    assert {lease.id for lease in claimed} <= {job_id(batch_id, number) for number in range(1, 100)}
    assert farm.scheduler.queued()[MODEL] == jobs - len(claimed)
    for lease in claimed:
        farm.scheduler.release(lease)

    batches.cancel(batch_id, ACCOUNT)
    farm.wait_until(lambda: batch().status == "cancelled", "the batch is cancelled")
    error_file = batch().error_file
    assert error_file is not None
    entries = [json.loads(text) for text in farm.storage.get(file_key(error_file)).splitlines()]
    assert [entry["error"]["line"] for entry in entries] == list(range(1, LINES + 1))
    assert sum(entry["error"]["code"] == "invalid_json_line" for entry in entries) == refused
