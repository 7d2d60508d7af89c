"""A batch has one worker, which keeps it for as long as it lives."""

from __future__ import annotations

import pytest
from redis import Redis

from shared.batch_claims import BatchClaim, BatchClaims, BatchLost
from shared.batches import Batches, BatchStatus
from shared.deliveries import Deliveries
from shared.errors import RendermillError
from shared.files import File, Files
from shared.jobs import Priority
from shared.scheduler import Scheduler
from tests.scheduling import MODEL, complete, new_job, new_scheduler
from tests.servers import wait_until

#: Long enough for a renewal to come in time on a loaded machine.
LEASE_S = 3.0


@pytest.fixture
def claims(redis: Redis) -> BatchClaims:
    return BatchClaims(redis, lease_s=LEASE_S)


@pytest.fixture
def claim(redis: Redis, claims: BatchClaims) -> BatchClaim:
    """A claim on the only batch."""
    Files(redis).add(
        File(id="file_x", account="alice", filename="x", purpose="batch", bytes=0, created_at=0, expires_at=None)
    )
    Batches(redis).create(
        "alice",
        input_file="file_x",
        endpoint="/v1/jobs",
        window="24h",
        window_s=86400,
        priority=Priority.LOW,
        metadata=None,
    )
    claim = claims.claim()
    assert claim is not None
    return claim


def due(redis: Redis, claim: BatchClaim) -> float:
    return redis.zscore("rm:batches_due", claim.id) or 0.0


def let_lapse(redis: Redis, claim: BatchClaim) -> None:
    redis.zadd("rm:batches_due", {claim.id: 0})


def test_a_claimed_batch_is_nobody_elses_until_the_lease_is_over(
    redis: Redis, claims: BatchClaims, claim: BatchClaim
) -> None:
    seconds, _ = redis.time()
    assert LEASE_S - 2 <= due(redis, claim) / 1000 - seconds <= LEASE_S + 1
    assert claims.claim() is None
    let_lapse(redis, claim)
    other = claims.claim()
    assert other == BatchClaim(claim.id, claim.fence + 1)


def test_a_batch_stays_its_workers_while_that_is_busy(redis: Redis, claims: BatchClaims, claim: BatchClaim) -> None:
    claimed_until = due(redis, claim)
    with claims.kept(claim):
        wait_until(lambda: due(redis, claim) > claimed_until, "the claim is renewed")
    assert claims.claim() is None


def test_a_worker_that_lost_its_batch_changes_nothing(redis: Redis, claims: BatchClaims, claim: BatchClaim) -> None:
    let_lapse(redis, claim)
    other = claims.claim()
    assert other is not None
    before = due(redis, claim), redis.hgetall(f"rm:batch:{claim.id}")
    claims.put_off(claim)
    for write in (lambda: claims.hold(claim, total=5), lambda: claims.finish(claim, BatchStatus.FAILED)):
        with pytest.raises(BatchLost):
            write()
    assert (due(redis, claim), redis.hgetall(f"rm:batch:{claim.id}")) == before


@pytest.mark.parametrize("moment", ["lost", "due at once", "at rest", "finished"])
def test_a_renewal_touches_nothing_but_a_claim_that_stands(
    redis: Redis, claims: BatchClaims, claim: BatchClaim, moment: str
) -> None:
    if moment == "lost":
        let_lapse(redis, claim)
        claims.claim()
    elif moment == "due at once":
        let_lapse(redis, claim)
    elif moment == "at rest":
        redis.hset(f"rm:batch:{claim.id}", "open", 1)
        claims.hold(claim, ingested=1)
    else:
        claims.finish(claim, BatchStatus.COMPLETED)
    before = due(redis, claim)
    BatchClaims(redis, lease_s=3 * LEASE_S).renew(claim)
    assert due(redis, claim) == before


def test_a_batch_that_is_put_off_is_due_again_later(redis: Redis, claims: BatchClaims, claim: BatchClaim) -> None:
    claims.put_off(claim, 100)
    seconds, _ = redis.time()
    assert 98 <= due(redis, claim) / 1000 - seconds <= 101
    claims.put_off(claim)
    assert claims.claim() is not None


def test_what_holds_a_batch_up_is_told_while_it_is_worked_on(
    redis: Redis, claims: BatchClaims, claim: BatchClaim
) -> None:
    batches = Batches(redis)
    claims.hold(claim, status=BatchStatus.IN_PROGRESS, total=2)
    assert batches.get(claim.id).view()["held_up"] is None
    claims.put_off(claim, 1, RendermillError("insufficient_credits", "Too poor."))
    assert batches.get(claim.id).view()["held_up"] == {"code": "insufficient_credits", "message": "Too poor."}
    batches.cancel(claim.id, batches.get(claim.id).account)
    assert batches.get(claim.id).view()["held_up"] is None


def ingested(redis: Redis, claims: BatchClaims, claim: BatchClaim, jobs: int) -> Scheduler:
    """A scheduler that has accepted so many jobs of the batch, which has no more lines."""
    scheduler = new_scheduler(redis)
    scheduler.enqueue("alice", [new_job() for _ in range(jobs)], claim)
    claims.hold(claim, status=BatchStatus.IN_PROGRESS, total=jobs)
    claims.hold(claim, ingested=1)
    return scheduler


def test_whoever_ends_the_last_job_of_a_batch_learns_that_it_is_due(
    redis: Redis, claims: BatchClaims, claim: BatchClaim
) -> None:
    scheduler = ingested(redis, claims, claim, jobs=2)
    told = []
    for lease in scheduler.claim(MODEL, "worker-1", max_images=2).leases:
        aftermath = scheduler.fail(lease, "invalid_input", "no", retriable=False)
        assert aftermath
        told.append(aftermath.ends_batch)
    assert told == [False, True]
    assert Batches(redis).due() == 1


def test_a_job_that_ends_after_its_batch_was_removed_brings_nothing_of_it_back(
    redis: Redis, claims: BatchClaims, claim: BatchClaim
) -> None:
    scheduler = ingested(redis, claims, claim, jobs=1)
    (lease,) = scheduler.claim(MODEL, "worker-1", max_images=1).leases
    # As one ends whose input file is gone from the storage.
    claims.finish(claim, BatchStatus.FAILED)
    Batches(redis).forget(claim.id)
    assert complete(scheduler, lease)
    assert redis.keys(f"rm:batch*{claim.id}") == []


def test_the_webhooks_of_a_batch_are_told_when_it_ends(redis: Redis, claims: BatchClaims, claim: BatchClaim) -> None:
    Deliveries(redis).add_endpoint("alice", "https://example.test", ["batch.completed"])
    claims.finish(claim, BatchStatus.COMPLETED)
    claims.finish(claim, BatchStatus.COMPLETED)  # the first answer was lost
    assert (Deliveries(redis).due(), redis.llen("rm:wake_ups")) == (1, 1)


def test_a_worker_that_writes_nothing_for_long_learns_that_its_claim_was_lost(
    redis: Redis, claims: BatchClaims, claim: BatchClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.batch_claims._LOOK_EVERY_S", -1.0)
    items = claims.watched(claim, iter("ab"))
    assert next(items) == "a"
    let_lapse(redis, claim)
    assert claims.claim()
    with pytest.raises(BatchLost):
        next(items)
