"""What the scheduler promises to those who bring jobs; test_scheduler_model.py has the interplay of everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from shared.accounts import Accounts
from shared.answers import Progress, Renewal
from shared.errors import RendermillError
from shared.jobs import MIN_COST_S, Job, JobStatus, NewJob, Priority, Stage
from shared.limits import AccountLimits
from shared.records import Records
from shared.scheduler import Scheduler
from shared.tickets import render_queue
from tests.scheduling import MODEL, claim_one, complete, enqueue, let_pass, new_job, new_scheduler, status, status_of

HOSTILE = (
    "NUL \0, quotes \"'`, \\ and \\u0000, a line\r\nbreak, {json: [}, ${lua} ]] --, emoji 🦊, \u202eRTL, 漢字, "
    + "x" * 10_000
)


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


# ── Accepting ──


def test_a_job_is_claimed_exactly_as_it_was_asked_for(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler, prompt=HOSTILE, n=3, priority=Priority.HIGH)
    lease = scheduler.claim(MODEL, 'worker "1"\n', max_images=8).leases[0]
    assert lease.request == job.request
    assert (lease.id, lease.account, lease.attempt, lease.cost) == (job.id, "alice", 1, 3.0)
    record = Records(redis).get(job.id)
    assert (record.request, record.priority, record.status) == (job.request, Priority.HIGH, JobStatus.RUNNING)


def test_hostile_words_in_names_metadata_and_failures_come_back_unchanged(redis: Redis, scheduler: Scheduler) -> None:
    job = new_job()
    job = NewJob(
        id=job.id,
        account="alice",
        request=job.request,
        cost=1.0,
        name=HOSTILE,
        metadata={HOSTILE: [None, 1.5]},
    )
    scheduler.enqueue("alice", [job])
    scheduler.fail(claim_one(scheduler), "render_failed", HOSTILE, retriable=False)
    record = Records(redis).get(job.id)
    assert (record.name, record.metadata) == (HOSTILE, {HOSTILE: [None, 1.5]})
    assert record.error == {"code": "render_failed", "message": HOSTILE}


@pytest.mark.parametrize("cost", [0.0, -1.0, MIN_COST_S / 2, float("nan"), float("inf")])
def test_a_job_whose_cost_would_upset_the_fair_queue_cannot_be_made(cost: float) -> None:
    with pytest.raises(ValueError, match="cost"):
        new_job(image_cost=cost)


def test_more_jobs_than_one_script_call_takes_are_all_accepted_in_order(scheduler: Scheduler) -> None:
    jobs = [new_job() for _ in range(1201)]
    scheduler.enqueue("alice", jobs)
    assert scheduler.queued() == {MODEL: 1201}
    claimed = [lease.id for _ in range(151) for lease in scheduler.claim(MODEL, "w", max_images=8).leases]
    assert claimed == [job.id for job in jobs]


# ── What the client of a request is told ──


def test_an_accepted_job_is_known_as_its_record_has_it(redis: Redis, scheduler: Scheduler) -> None:
    job = new_job(n=2, priority=Priority.LOW, deadline_s=60)
    job = replace(
        job, name="fox", webhook_url="https://example.com", metadata={"a": "b"}, warnings=("careful",), price=7
    )
    placement = scheduler.accept(job).placement
    assert placement is not None
    assert Job.accepted(job, placement.created_at) == Records(redis).get(job.id)


def test_the_place_of_an_accepted_job_is_that_which_a_look_at_it_finds(redis: Redis, scheduler: Scheduler) -> None:
    redis.hset(f"rm:model:{MODEL}", "rate", "1.5")
    for account in ("alice", "bob", "carol"):
        scheduler.enqueue(account, [new_job(account, image_cost=cost) for cost in (1.0, 2.5, 4.0)])
    scheduler.claim(MODEL, "w", max_images=2)
    ahead = []
    for account, priority in (("alice", Priority.NORMAL), ("bob", Priority.HIGH), ("dave", Priority.LOW)):
        job = new_job(account, priority=priority, image_cost=1.5)
        placement = scheduler.accept(job, workers=2).placement
        assert placement is not None
        assert placement.position == scheduler.position(job.id, 2)
        ahead.append(placement.position.ahead)
    assert len(set(ahead)) == 3


def test_whoever_accepts_a_job_learns_how_much_waits_and_how_many_tickets(redis: Redis, scheduler: Scheduler) -> None:
    enqueue(scheduler)
    redis.rpush(render_queue(MODEL), "a ticket", "another")
    placement = scheduler.accept(new_job()).placement
    assert placement is not None
    assert (placement.queued, placement.tickets) == (2, 2)


def test_a_job_that_was_accepted_before_has_no_place_to_be_told(scheduler: Scheduler) -> None:
    job = new_job()
    assert scheduler.accept(job, key="k", fingerprint="f", remember_s=60).placement is not None
    # As after an answer that was lost, and as after a client that sends its request again.
    assert scheduler.accept(job, key="k", fingerprint="f", remember_s=60).placement is None
    assert scheduler.accept(new_job(), key="k", fingerprint="f", remember_s=60).placement is None


def test_jobs_accepted_together_are_what_each_would_be_alone(redis: Redis) -> None:
    shapes: list[dict[str, Any]] = [
        {"lane": lane, "n": n, "priority": priority, "price": price, "deadline_s": deadline_s, "webhook_url": url}
        for lane, n in ((1, 1), (1, 3), (2, 1))
        for priority in (Priority.LOW, Priority.HIGH)
        for price in (0, 7)
        for deadline_s, url in ((None, None), (60.0, None), (90.0, "https://example.com/"))
    ]
    jobs = [new_job(**shape) for shape in [*shapes, *shapes]]

    def outcome(calls: list[list[NewJob]]) -> dict[str, Any]:
        """Everything in Redis but for times."""
        redis.flushall()
        Accounts(redis).create_key("alice")
        AccountLimits(redis).set_balance("alice", 1_000)
        for call in calls:
            new_scheduler(redis).enqueue("alice", call)
        state: dict[str, Any] = {name: redis.zrange(name, 0, -1) for name in redis.scan_iter(_type="zset")}
        state |= {name: redis.hgetall(name) for name in redis.scan_iter("rm:[jm]o*", _type="hash")}
        state |= {job.id: redis.get(f"rm:spec:{job.id}") for job in jobs}
        for record in state.values():
            if isinstance(record, dict):
                record.pop("created", None)
                record.pop("deadline", None)
        state["rm:deadlines"].sort()
        return {**state, "balance": AccountLimits(redis).balance("alice")}

    assert outcome([jobs]) == outcome([[job] for job in jobs])


def test_a_job_named_twice_in_one_call_is_accepted_once(redis: Redis, scheduler: Scheduler) -> None:
    Accounts(redis).create_key("alice")
    AccountLimits(redis).set_balance("alice", 10)
    known, new = new_job(price=3), new_job(price=3)
    scheduler.enqueue("alice", [known])
    scheduler.enqueue("alice", [new, known, new, known])
    assert scheduler.queued() == {MODEL: 2}
    assert AccountLimits(redis).balance("alice").available == 4
    assert {scheduler.claim(MODEL, "w", max_images=1).leases[0].id for _ in range(2)} == {known.id, new.id}
    assert scheduler.claim(MODEL, "w", max_images=1).leases == []


# ── Idempotency keys ──


def test_a_repeated_idempotency_key_gives_the_job_first_made_under_it(scheduler: Scheduler) -> None:
    first, second = new_job(), new_job()
    assert scheduler.accept(first, key="k", fingerprint="f", remember_s=60).id == first.id
    assert scheduler.accept(second, key="k", fingerprint="f", remember_s=60).id == first.id
    assert scheduler.queued() == {MODEL: 1}
    assert scheduler.replayed("alice", "k", "f") == first.id


def test_an_idempotency_key_with_another_body_is_refused(scheduler: Scheduler) -> None:
    scheduler.accept(new_job(), key="k", fingerprint="f", remember_s=60)
    with pytest.raises(RendermillError, match="idempotency_mismatch"):
        scheduler.accept(new_job(), key="k", fingerprint="other", remember_s=60)
    with pytest.raises(RendermillError, match="idempotency_mismatch"):
        scheduler.replayed("alice", "k", "other")
    assert scheduler.queued() == {MODEL: 1}


def test_an_idempotency_key_belongs_to_its_account(scheduler: Scheduler) -> None:
    jobs = [new_job("alice"), new_job("bob")]
    made = [scheduler.accept(job, key=HOSTILE, fingerprint="f", remember_s=60).id for job in jobs]
    assert made == [job.id for job in jobs]


def test_an_idempotency_key_is_forgotten_after_its_time(redis: Redis, scheduler: Scheduler) -> None:
    scheduler.accept(new_job(), key="k", fingerprint="f", remember_s=60)
    assert 59_000 < redis.pttl("rm:idempotency:alice:k") <= 60_000
    redis.delete("rm:idempotency:alice:k")
    assert scheduler.replayed("alice", "k", "f") is None
    scheduler.accept(new_job(), key="k", fingerprint="other", remember_s=60)
    assert scheduler.queued() == {MODEL: 2}


# ── Deadlines ──


def test_a_job_whose_deadline_passed_is_never_started(redis: Redis, scheduler: Scheduler) -> None:
    late, next_ = enqueue(scheduler, deadline_s=60), enqueue(scheduler, deadline_s=60)
    let_pass(redis, "deadlines", late.id)
    assert claim_one(scheduler).id == next_.id
    assert status(redis, late) is JobStatus.EXPIRED


def test_the_sweep_expires_jobs_whose_deadline_passed_in_the_queue(redis: Redis, scheduler: Scheduler) -> None:
    late = enqueue(scheduler, deadline_s=0.001)
    let_pass(redis, "deadlines", late.id)
    assert scheduler.sweep().expired == 1
    assert status(redis, late) is JobStatus.EXPIRED
    assert scheduler.sweep().expired == 0


def test_a_claim_that_meets_many_late_jobs_leaves_the_rest_to_the_sweep(redis: Redis, scheduler: Scheduler) -> None:
    late = [new_job(deadline_s=60) for _ in range(100)]
    scheduler.enqueue("alice", late)
    for job in late:
        let_pass(redis, "deadlines", job.id)
    live = enqueue(scheduler)
    first = scheduler.claim(MODEL, "w", max_images=8)
    assert first.leases == []
    assert 0 < first.queued < 100
    assert [lease.id for lease in scheduler.claim(MODEL, "w", max_images=8).leases] == [live.id]


def test_a_deadline_is_over_once_the_job_has_started(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler, deadline_s=60)
    scheduler.fail(claim_one(scheduler), "out_of_memory", "full", retriable=True)
    let_pass(redis, "delayed", job.id)
    # Even had its time been left in the record: it is gone from both places.
    assert redis.zcard("rm:deadlines") == 0
    assert redis.hget(f"rm:job:{job.id}", "deadline") is None
    assert scheduler.sweep().retries == 1
    assert claim_one(scheduler).id == job.id


# ── Retries ──


def test_retries_wait_twice_as_long_each_time_and_then_the_job_fails(redis: Redis) -> None:
    scheduler = Scheduler(redis, lease_s=60, max_attempts=3, retry_delay_s=10)
    job = enqueue(scheduler)
    for attempt, wait_ms in ((1, 10_000), (2, 20_000)):
        lease = claim_one(scheduler)
        assert lease.attempt == attempt
        assert status_of(scheduler.fail(lease, "out_of_memory", "full", retriable=True)) is JobStatus.QUEUED
        assert Records(redis).get(job.id).stage is Stage.RETRYING
        due_ms = redis.zscore("rm:delayed", job.id)
        seconds, micros = redis.time()
        assert due_ms is not None
        assert wait_ms - 5_000 < due_ms - (seconds * 1000 + micros / 1000) <= wait_ms
        assert scheduler.claim(MODEL, "w", max_images=1).leases == [], "it waits for its retry"
        assert scheduler.position(job.id, 1) is None
        let_pass(redis, "delayed", job.id)
        scheduler.sweep()
    assert status_of(scheduler.fail(claim_one(scheduler), "out_of_memory", "full", retriable=True)) is JobStatus.FAILED
    record = Records(redis).get(job.id)
    assert (record.attempts, record.error) == (3, {"code": "out_of_memory", "message": "full"})


def test_a_wait_for_a_retry_does_not_double_beyond_ten_minutes(redis: Redis) -> None:
    scheduler = Scheduler(redis, lease_s=60, max_attempts=100, retry_delay_s=500)
    job = enqueue(scheduler)
    for _ in range(3):
        scheduler.fail(claim_one(scheduler), "out_of_memory", "full", retriable=True)
        due_ms = redis.zscore("rm:delayed", job.id) or 0
        let_pass(redis, "delayed", job.id)
        scheduler.sweep()
    assert 500_000 < due_ms - redis.time()[0] * 1000 <= 601_000


def test_a_failure_that_no_retry_mends_ends_the_job_at_once(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    assert status_of(scheduler.fail(claim_one(scheduler), "invalid_input", "gone", retriable=False)) is JobStatus.FAILED
    assert status(redis, job) is JobStatus.FAILED


def test_a_released_job_is_not_charged_an_attempt(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    for _ in range(10):
        assert scheduler.release(claim_one(scheduler))
    assert Records(redis).get(job.id).attempts == 0
    lease = claim_one(scheduler)
    assert lease.attempt == 11, "the fencing token rises all the same"
    assert status_of(scheduler.fail(lease, "out_of_memory", "full", retriable=True)) is JobStatus.QUEUED


def test_a_job_that_loses_every_worker_fails_and_says_why(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    for _ in range(3):
        claim_one(scheduler)
        let_pass(redis, "leases", job.id)
        scheduler.sweep()
    error = Records(redis).get(job.id).error
    assert error is not None
    assert error["code"] == "worker_lost"
    assert "3 attempts" in error["message"]


def test_a_job_that_lost_its_worker_is_rendered_alone_from_then_on(redis: Redis, scheduler: Scheduler) -> None:
    # One of a batch brings the worker down each time. Its companions must not fail with it.
    jobs = [new_job() for _ in range(4)]
    poison = jobs[1].id
    scheduler.enqueue("alice", jobs)
    for lease in scheduler.claim(MODEL, "w", max_images=8).leases:
        let_pass(redis, "leases", lease.id)
    scheduler.sweep()
    fresh = enqueue(scheduler)
    sizes = []
    while leases := scheduler.claim(MODEL, "w", max_images=8).leases:
        sizes.append(len(leases))
        for lease in leases:
            if lease.id == poison:
                let_pass(redis, "leases", lease.id)
            else:
                complete(scheduler, lease)
        scheduler.sweep()
    assert set(sizes) == {1}
    assert status(redis, jobs[1]) is JobStatus.FAILED
    assert {status(redis, job) for job in (jobs[0], jobs[2], jobs[3], fresh)} == {JobStatus.SUCCEEDED}


# ── Calling off ──


def test_a_job_that_waits_for_its_retry_is_cancelled_at_once(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    scheduler.fail(claim_one(scheduler), "out_of_memory", "full", retriable=True)
    assert scheduler.cancel(job.id, "alice").status is JobStatus.CANCELED
    let_pass(redis, "delayed", job.id)
    assert scheduler.sweep().retries == 0
    assert redis.hgetall(f"rm:model:{MODEL}")["delayed"] == "0"


def test_cancelling_twice_is_cancelling_once(redis: Redis, scheduler: Scheduler) -> None:
    queued, running = enqueue(scheduler), enqueue(scheduler)
    assert [scheduler.cancel(queued.id, "alice").status for _ in range(2)] == [JobStatus.CANCELED] * 2
    lease = claim_one(scheduler)
    assert [scheduler.cancel(running.id, "alice").status for _ in range(2)] == [JobStatus.RUNNING] * 2
    assert scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)}) == {lease: Renewal.CANCELED}
    assert scheduler.abandon(lease)
    assert not scheduler.abandon(lease)
    assert scheduler.cancel(running.id, "alice").status is JobStatus.CANCELED
    assert redis.hgetall("rm:finished") == {f"canceled/{MODEL}": "2"}


def test_a_completion_after_a_cancellation_leaves_no_pictures(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    lease = claim_one(scheduler)
    scheduler.cancel(job.id, "alice")
    aftermath = scheduler.complete(lease, images={"image_1": {}}, result={"images": ["image_1"]}, render_s=1.0)
    assert status_of(aftermath) is JobStatus.CANCELED
    record = Records(redis).get(job.id)
    assert (record.status, record.images) == (JobStatus.CANCELED, [])
    assert redis.get("rm:image:image_1") is None
    assert redis.sismember("rm:litter", job.id), "its objects are to be swept"


@pytest.mark.parametrize("account", ["bob", "alice/normal", ""])
def test_nobody_else_can_cancel_a_job(redis: Redis, scheduler: Scheduler, account: str) -> None:
    job = enqueue(scheduler)
    with pytest.raises(RendermillError, match="not_found"):
        scheduler.cancel(job.id, account)
    assert status(redis, job) is JobStatus.QUEUED
